"""The start-up hook, as `torchskew guard --into` puts it into an environment, and torch's own entry point."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from torchskew import cli
from torchskew.guard import autoload, environment
from torchskew.guard.environment import into, remove
from torchskew.guard.install import uninstall

from tests.guard.stub import Stub, write_torch
from tests.patience import PATIENCE

SLOW = pytest.mark.slow
# Rank 1 of a group without a rank 0, by a reference taken before; then the same without init_process_group.
JOB = """
import sys
import torch.distributed as dist
from torch.distributed import init_process_group
print("torchskew_guard" in sys.modules)
for start in (lambda: init_process_group("gloo", sys.argv[1], 0.1, 2, 1),
              lambda: dist.rendezvous(sys.argv[1], 1, 2, timeout=0.1)):
    try:
        start()
        print("unguarded")
    except RuntimeError as error:
        print(type(error).__module__, type(error).__name__, error.kind)
"""
GUARDED = ["False", *["torchskew_guard ProtocolVersionError missing"] * 2]
UNGUARDED = ["False", "unguarded", "unguarded"]


class Python:
    """An environment of its own, with a torch of a few lines."""

    def __init__(self, folder: Path) -> None:
        venv.EnvBuilder(symlinks=True).create(folder / "env")
        self.path = str(folder / "env" / "bin" / "python")
        (self.site,) = (folder / "env" / "lib").glob("python*/site-packages")
        write_torch(self.site)
        self.job = folder / "job.py"
        self.job.write_text(JOB)

    def run(self, *arguments: str, **env: str) -> tuple[list[str], str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TORCHSKEW", "PYTHON"))}
        done = subprocess.run([self.path, *arguments], env={**clean, **env}, capture_output=True, text=True,
                              check=False, timeout=PATIENCE)  # fmt: skip
        return done.stdout.splitlines(), done.stderr

    def train(self, **env: str) -> tuple[list[str], str]:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            where = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        return self.run(str(self.job), where, **env)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.site)) for path in self.site.rglob("*") if "torchskew" in path.name}


@pytest.fixture
def python(tmp_path: Path) -> Python:
    return Python(tmp_path)


@SLOW
def test_into_guards_each_job_of_an_environment_and_remove_leaves_it_as_it_was(python: Python) -> None:
    assert python.train() == (UNGUARDED, "")
    for _ in range(2):
        assert str(python.site) in into(python.path)
        assert python.train() == (GUARDED, "")
    assert python.train(TORCHSKEW_GUARD="off") == (UNGUARDED, "")
    assert "is out of" in remove(python.path)
    assert "nothing to remove" in remove(python.path)
    assert python.files() == set()
    assert python.train() == (UNGUARDED, "")


@SLOW
def test_a_python_that_does_not_use_torch_loads_only_the_hook(python: Python) -> None:
    into(str(Path(python.path).parent.parent))  # the environment's folder serves as well
    show = "import sys; print(sorted(name for name in sys.modules if 'torch' in name or name in ('inspect', 'socket')))"
    assert python.run("-c", show) == (["['torchskew_guard_start']"], "")


@SLOW
def test_a_guard_that_can_not_be_loaded_costs_one_line_and_no_job(python: Python) -> None:
    into(python.path)
    (python.site / "torchskew_guard.py").write_text("import no_such_module\n")
    out, err = python.train()
    assert out == UNGUARDED
    lines = err.splitlines()
    assert len(lines) == 2  # one for each way into a group
    assert "torchskew_guard.py can't be loaded: ModuleNotFoundError: No module named 'no_such_module'." in lines[0]


@SLOW
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("name", ["torchskew_guard.py", "torchskew_guard_start.py", "torchskew_guard.pth"])
def test_what_is_not_ours_is_refused_and_stays(python: Python, name: str, guarded: bool) -> None:
    """guarded: the guard was put there, and then the file was replaced."""
    if guarded:
        into(python.path)
    (python.site / name).write_text("theirs = 1\n" if name.endswith(".py") else "# theirs\n")
    before = python.files()
    with pytest.raises(ValueError, match="is there, and was not put there by"):
        into(python.path)
    if guarded or name.endswith(".pth"):
        with pytest.raises(ValueError, match=f"{name} was not written by torchskew"):
            remove(python.path)
    assert python.files() == before
    assert "heirs" in (python.site / name).read_text()


@SLOW
def test_a_copy_that_a_user_put_there_is_not_taken_for_ours(python: Python) -> None:
    copy = python.site / "torchskew_guard.py"
    copy.write_text(environment.FILE.read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="is there, and was not put there by"):
        into(python.path)
    assert "nothing to remove" in remove(python.path)
    assert copy.exists()


@SLOW
def test_an_environment_that_reads_no_pth_file_is_left_as_it_was(
    python: Python, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_ASK", environment._ASK.replace('"purelib"', '"scripts"'))
    with pytest.raises(ValueError, match="does not load .*pth when it starts"):
        into(python.path)
    assert not list(Path(python.path).parent.glob("torchskew*"))


@pytest.mark.parametrize(("name", "says"), [
    ("/no/such/python", "is no Python"),
    ("/bin/true", "does not run as a Python: it printed nothing"),
])  # fmt: skip
def test_what_is_no_python_is_refused(name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("--into", "--remove"):
        assert cli.main(["guard", action, name]) == 4
        assert says in capsys.readouterr().err


@SLOW
def test_the_command_says_what_it_did(python: Python, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["guard", "--into", python.path]) == 0
    assert "has the guard: each Python of this environment is guarded" in capsys.readouterr().out
    assert cli.main(["guard", "--remove", python.path]) == 0
    assert capsys.readouterr().out.startswith("The guard is out of")


def test_torch_finds_the_entry_point() -> None:
    (found,) = importlib.metadata.entry_points(group="torch.backends", name="torchskew")
    assert found.load() is autoload.autoload


def test_the_entry_point_does_nothing_where_the_guard_is_not_asked_for(stub: Stub) -> None:
    autoload.autoload()
    assert stub.dist.init_process_group is stub.stock
    show = "import sys; print(sorted(name for name in sys.modules if 'torch' in name), len(sys.meta_path))"
    ask = f"from torchskew.guard.autoload import autoload; {show}; autoload(); {show}"
    env = {name: value for name, value in os.environ.items() if name != "TORCHSKEW_GUARD"}
    done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True)
    before, after = done.stdout.splitlines()
    assert before == after
    assert before.startswith("['torchskew', 'torchskew.guard', 'torchskew.guard.autoload'] ")


@pytest.mark.parametrize("mode", ["enforce", "warn", "strict"])
def test_the_entry_point_guards_where_a_mode_is_set(stub: Stub, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", mode)
    autoload.autoload()
    autoload.autoload()
    assert stub.dist.init_process_group is stub.c10d.init_process_group is not stub.stock
    stub.dist.init_process_group("gloo", "env://", world_size=1, rank=0)
    assert stub.calls[0] == ("init", "gloo", "env://", 0)
    uninstall()
    assert stub.dist.init_process_group is stub.stock


def test_whatever_goes_wrong_in_the_entry_point_import_torch_goes_on(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "enforce")
    monkeypatch.setattr("torchskew.guard.start.StartHook.cover", lambda *_args: 1 // 0)
    autoload.autoload()
    assert "torch.distributed can't be covered: ZeroDivisionError" in capsys.readouterr().err
