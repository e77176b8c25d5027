"""check() and install() against a torch of a few lines: what is compared, wrapped and passed on."""

from __future__ import annotations

import datetime as dt
import functools
import importlib
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest
from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.exchange import exchange
from torchskew.guard.hello import FIELDS, own_hello
from torchskew.guard.install import _seconds, check, install, uninstall
from torchskew.guard.place import Place, locate
from torchskew.guard.table import TABLE, era, known

from tests.guard.stub import Stub


def joiner(where: str, version: str, results: list[Any]) -> threading.Thread:
    """Rank 1 with its own release, in a thread."""
    place = locate(where, 2, 1)
    assert place
    mine = {**own_hello(place, "gloo"), "torch": version, "pid": 1}
    mine.update({kind: era(kind, version) for kind in TABLE}, known=int(known(version)))

    def run() -> None:
        try:
            results.append(exchange(place, mine, 8.0))
        except ProtocolVersionError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_hello_says_what_this_process_is_and_speaks(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_DISTRIBUTED_DEBUG", "detail")
    monkeypatch.setenv("TORCH_GLOO_LAZY_INIT", "1")  # 2.6 does not read it
    place = Place("tcp", "host", 29500, "", 1, 4)
    mine = own_hello(place, "cpu:gloo,cuda:nccl")
    assert set(mine) == set(FIELDS)
    assert (mine["torch"], mine["git"], mine["store"], mine["serves"]) == ("2.6.0+cpu", "abc", "2.5", "2.2 2.5")
    assert (mine["settings"], mine["nccl"], mine["known"]) == ("TORCH_DISTRIBUTED_DEBUG=DETAIL", "", 1)


def test_an_installed_guard_checks_before_the_stock_function_and_passes_everything_on(stub: Stub, where: str) -> None:
    install()
    install()
    results: list[Any] = []
    other = joiner(where, "2.13.0", results)
    stub.dist.init_process_group("gloo", where, dt.timedelta(seconds=8), 2, 0)
    other.join()
    assert stub.calls == [("init", "gloo", where, 0), ("rendezvous", where, 0, 2)]
    assert [one["torch"] for one in results[0]["groups"]] == ["2.6.0+cpu", "2.13.0"]


def test_a_refused_group_never_reaches_the_stock_function(stub: Stub, where: str) -> None:
    install()
    results: list[Any] = []
    other = joiner(where, "2.1.2", results)
    with pytest.raises(ProtocolVersionError, match="2.1.2"):
        stub.c10d.init_process_group("gloo", init_method=where, timeout=8, world_size=2, rank=0)
    other.join()
    assert stub.calls == []
    assert results[0].kind == "version"


def test_a_reference_taken_before_is_checked_in_torchs_own_rendezvous(stub: Stub, where: str) -> None:
    install()
    other = joiner(where, "2.1.2", [])
    with pytest.raises(ProtocolVersionError):
        stub.stock("gloo", where, 8, 2, 0)
    other.join()


def test_warn_says_it_and_goes_on(stub: Stub, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    other = joiner(where, "2.1.2", [])
    with pytest.warns(RuntimeWarning, match="Incompatible PyTorch releases in one process group"):
        assert check("gloo", where, 8, 2, 0) is None
    other.join()


def test_a_release_newer_than_the_table_is_admitted_in_a_mix_with_a_warning(stub: Stub, where: str) -> None:
    results: list[Any] = []
    other = joiner(where, "2.99.0", results)
    with pytest.warns(RuntimeWarning, match=r"torch 2\.99\.0 is newer than 2\.15, the last release this guard knows"):
        check("gloo", where, 8, 2, 0)
    other.join()
    assert isinstance(results[0], dict)


def test_torchs_own_timeout_counts_where_none_is_given(stub: Stub) -> None:
    assert _seconds(None) == 1800.0
    assert _seconds(dt.timedelta(seconds=3)) == 3.0
    assert _seconds(3) == 3.0


def test_the_default_timeout_of_nccl_is_that_of_the_release(stub: Stub) -> None:
    assert _seconds(None, "nccl") == 1800.0  # up to 2.1
    stub.c10d.default_pg_nccl_timeout = dt.timedelta(minutes=10)  # type: ignore[attr-defined]
    assert _seconds(None, "nccl") == 600.0
    assert _seconds(None, "gloo") == 1800.0
    assert _seconds(None, "cpu:gloo,cuda:nccl") == 1800.0  # as torch itself reads it
    stub.c10d.default_pg_nccl_timeout = None  # type: ignore[attr-defined] # a build without nccl
    assert _seconds(None, "nccl") == 1800.0


def test_uninstall_leaves_torch_as_it_was(stub: Stub) -> None:
    stock = stub.dist.init_process_group, stub.c10d.init_process_group, stub.c10d.rendezvous
    finders = list(sys.meta_path)
    uninstall()
    install()
    assert stub.dist.init_process_group is not stock[0]
    uninstall()
    uninstall()
    assert (stub.dist.init_process_group, stub.c10d.init_process_group, stub.c10d.rendezvous) == stock
    assert sys.meta_path == finders


def test_uninstall_leaves_what_something_else_has_wrapped_since(stub: Stub) -> None:
    install()

    @functools.wraps(stub.dist.init_process_group)
    def theirs(*args: Any, **kwargs: Any) -> Any:
        return theirs.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]

    stub.dist.init_process_group = theirs  # type: ignore[attr-defined]
    uninstall()
    assert stub.dist.init_process_group is theirs


STATIC = "torch.distributed.elastic.rendezvous.static_tcp_rendezvous"


def test_the_agents_are_covered_when_they_are_imported_and_uncovered_again(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "class StaticTCPRendezvous:\n    def next_rendezvous(self):\n        pass\n"
    (tmp_path / "static_tcp_rendezvous.py").write_text(text)
    for name in ("torch.distributed.elastic", "torch.distributed.elastic.rendezvous"):
        package = types.ModuleType(name)
        package.__path__ = [str(tmp_path)]
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.delitem(sys.modules, STATIC, raising=False)
    before = len(sys.meta_path)
    install()
    assert STATIC not in sys.modules
    handler = importlib.import_module(STATIC).StaticTCPRendezvous
    assert handler.next_rendezvous.torchskew_guard is handler.next_rendezvous
    uninstall()
    assert not hasattr(handler.next_rendezvous, "torchskew_guard")
    assert len(sys.meta_path) == before
    monkeypatch.delitem(sys.modules, STATIC)
