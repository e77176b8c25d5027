"""check(), install() and main() against a torch of a few lines: what is compared, wrapped and passed on."""

from __future__ import annotations

import datetime as dt
import json
import socket
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torchskew import cli
from torchskew.guard import torchskew_guard as guard
from torchskew.guard.torchskew_guard import ProtocolVersionError


class Stub:
    """A torch that remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.torch = types.ModuleType("torch")
        self.version = types.ModuleType("torch.version")
        self.dist = types.ModuleType("torch.distributed")
        self.c10d = types.ModuleType("torch.distributed.distributed_c10d")
        self.torch.__version__ = "2.6.0+cpu"  # type: ignore[attr-defined]
        self.version.git_version = "abc"  # type: ignore[attr-defined]
        self.torch.version, self.torch.distributed = self.version, self.dist  # type: ignore[attr-defined]
        self.dist.distributed_c10d = self.c10d  # type: ignore[attr-defined]
        self.c10d.default_pg_timeout = dt.timedelta(minutes=30)  # type: ignore[attr-defined]

        def rendezvous(url: str, rank: int = -1, world_size: int = -1, **more: Any) -> str:
            self.calls.append(("rendezvous", url, rank, world_size))
            return "a store"

        def init_process_group(  # noqa: PLR0917 - as torch has it
            backend: Any = None, init_method: Any = None, timeout: Any = None, world_size: int = -1, rank: int = -1,
            store: Any = None,
        ) -> None:  # fmt: skip
            self.calls.append(("init", backend, init_method, rank))
            if store is None:
                self.c10d.rendezvous(init_method or "env://", rank, world_size, timeout=timeout)

        self.c10d.rendezvous = rendezvous  # type: ignore[attr-defined]
        self.stock = init_process_group
        self.dist.init_process_group = self.c10d.init_process_group = init_process_group  # type: ignore[attr-defined]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    made = Stub()
    modules = {"torch": made.torch, "torch.version": made.version, "torch.distributed": made.dist}
    for name, module in {**modules, "torch.distributed.distributed_c10d": made.c10d}.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("TORCHSKEW_GUARD", "TORCHSKEW_GUARD_POLICY", "TORCHELASTIC_USE_AGENT_STORE", *guard.WIRE_SETTINGS):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def where() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    yield address
    for thread in threading.enumerate():
        if thread.name == "torchskew-guard":
            thread.join(4)


def joiner(where: str, version: str, results: list[Any]) -> threading.Thread:
    """Rank 1 with its own release, in a thread."""
    place = guard.locate(where, 2, 1)
    assert place
    said = {**guard.hello(place, "gloo"), "torch": version, "pid": 1}
    said.update({kind: guard.era(kind, version) for kind in guard.TABLE}, known=int(guard.known(version)))

    def run() -> None:
        try:
            results.append(guard.exchange(place, said, 8.0))
        except ProtocolVersionError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_hello_says_what_this_process_is_and_speaks(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_DISTRIBUTED_DEBUG", "detail")
    monkeypatch.setenv("TORCH_GLOO_LAZY_INIT", "1")  # 2.6 does not read it
    place = guard.Place("tcp", "host", 29500, "", 1, 4)
    said = guard.hello(place, "cpu:gloo,cuda:nccl")
    assert set(said) == set(guard.FIELDS)
    assert (said["torch"], said["git"], said["store"], said["serves"]) == ("2.6.0+cpu", "abc", "2.5", "2.2 2.5")
    assert (said["settings"], said["nccl"], said["known"]) == ("TORCH_DISTRIBUTED_DEBUG=DETAIL", "", 1)


def test_an_installed_guard_checks_before_the_stock_function_and_passes_everything_on(stub: Stub, where: str) -> None:
    guard.install()
    guard.install()
    results: list[Any] = []
    other = joiner(where, "2.13.0", results)
    stub.dist.init_process_group("gloo", where, dt.timedelta(seconds=8), 2, 0)
    other.join()
    assert stub.calls == [("init", "gloo", where, 0), ("rendezvous", where, 0, 2)]
    assert [one["torch"] for one in results[0]["groups"]] == ["2.6.0+cpu", "2.13.0"]


def test_a_refused_group_never_reaches_the_stock_function(stub: Stub, where: str) -> None:
    guard.install()
    results: list[Any] = []
    other = joiner(where, "2.1.2", results)
    with pytest.raises(ProtocolVersionError, match="2.1.2"):
        stub.c10d.init_process_group("gloo", init_method=where, timeout=8, world_size=2, rank=0)
    other.join()
    assert stub.calls == []
    assert results[0].kind == "version"


def test_a_reference_taken_before_is_checked_in_torchs_own_rendezvous(stub: Stub, where: str) -> None:
    guard.install()
    other = joiner(where, "2.1.2", [])
    with pytest.raises(ProtocolVersionError):
        stub.stock("gloo", where, 8, 2, 0)
    other.join()


def test_a_store_that_is_given_is_not_checked(stub: Stub) -> None:
    guard.install()
    stub.dist.init_process_group("gloo", store="mine", world_size=2, rank=0)
    assert stub.calls == [("init", "gloo", None, 0)]


def test_warn_says_it_and_goes_on(stub: Stub, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    other = joiner(where, "2.1.2", [])
    with pytest.warns(RuntimeWarning, match="can't form one process group"):
        assert guard.check("gloo", where, 8, 2, 0) is None
    other.join()


def test_a_release_newer_than_the_table_is_admitted_in_a_mix_with_a_warning(stub: Stub, where: str) -> None:
    results: list[Any] = []
    other = joiner(where, "2.99.0", results)
    with pytest.warns(RuntimeWarning, match=r"torch 2\.99\.0 is newer than 2\.15, the last release this guard knows"):
        guard.check("gloo", where, 8, 2, 0)
    other.join()
    assert isinstance(results[0], dict)


def test_torchs_own_timeout_counts_where_none_is_given(stub: Stub) -> None:
    assert guard._seconds(None) == 1800.0
    assert guard._seconds(dt.timedelta(seconds=3)) == 3.0
    assert guard._seconds(3) == 3.0


@pytest.mark.parametrize("as_module", [False, True])
def test_main_runs_a_script_guarded_with_its_own_arguments(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_module: bool
) -> None:
    (tmp_path / "a_job.py").write_text("import sys, torch.distributed as d\nd.calls = sys.argv[1:], __name__\n")
    monkeypatch.setattr(sys, "argv", ["guard.py"])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "torchskew.guard.torchskew_guard", guard)
    monkeypatch.setattr(ProtocolVersionError, "__module__", ProtocolVersionError.__module__)
    monkeypatch.setattr(guard._revive, "__module__", guard._revive.__module__)
    guard.main(["-m", "a_job", "x"] if as_module else [str(tmp_path / "a_job.py"), "x"])
    assert stub.dist.calls == (["x"], "__main__")
    assert stub.c10d.init_process_group.torchskew_guard


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--help"]])
def test_without_a_script_main_says_how_it_is_used(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"usage: python guard\.py"):
        guard.main(arguments)


def test_the_printed_file_is_the_guard_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guard", "--print"]) == 0
    assert capsys.readouterr().out == Path(guard.__file__).read_text(encoding="utf-8")


def test_the_probe_is_a_command_with_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = f"127.0.0.1:{closed.getsockname()[1]}"
    assert cli.main(["probe", target, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["what"] == "nothing"
    assert cli.main(["probe", "nowhere"]) == 4
    assert "a target is HOST:PORT" in capsys.readouterr().err
