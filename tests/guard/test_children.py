"""What a guarded script starts anew is guarded too: by multiprocessing, by subprocess, by a launcher."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from torchskew.guard import children
from torchskew.guard.generate import FILE, HERE

from tests.guard.stub import write_torch
from tests.patience import PATIENCE

# A script whose child is rank 1 of a group without a rank 0: guarded, it says so.
JOB = """
import multiprocessing, os, subprocess, sys

def child(where):
    import torch.distributed as dist
    try:
        dist.init_process_group("gloo", where, 0.1, 2, 1)
        print("unguarded", flush=True)
    except RuntimeError as error:
        print(type(error).__name__, error.kind, flush=True)

if __name__ == "__main__":
    how, where = sys.argv[1:]
    if how == "child":
        child(where)
    elif how == "subprocess":
        subprocess.run([sys.executable, sys.argv[0], "child", where], check=True)
    elif how == "pool":
        pool = multiprocessing.get_context("spawn").Pool(1)
        pool.map(child, [where])
        pool.close()  # the end of a `with` kills its processes, in the middle of what coverage does at their end
        pool.join()
    elif how == "grandchild":
        subprocess.run([sys.executable, sys.argv[0], "spawn", where], check=True)
    else:
        process = multiprocessing.get_context(how).Process(target=child, args=(where,))
        process.start()
        process.join()
"""


@pytest.fixture
def where():
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"tcp://127.0.0.1:{closed.getsockname()[1]}"


@pytest.fixture
def tmp():
    """A temporary folder with a short name: a socket of the forkserver in it has at most 107 bytes of path."""
    with tempfile.TemporaryDirectory(prefix="skew", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def job(tmp_path: Path, tmp: Path):
    """Run the script through the guard; what it printed on both streams."""
    write_torch(tmp_path)
    shutil.copy(FILE, tmp_path)
    (tmp_path / "job.py").write_text(JOB)

    def run(command: list[str], *arguments: str, path: str = "") -> tuple[str, str]:
        paths = os.pathsep.join(filter(None, [path, str(tmp_path), str(HERE.parent.parent)]))
        done = subprocess.run(
            [sys.executable, *command, str(tmp_path / "job.py"), *arguments], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp)},
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        return done.stdout, done.stderr

    return run


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver", "pool", "subprocess", "grandchild"])
@pytest.mark.parametrize("command", [[FILE.name], ["-m", "torchskew.guard"]], ids=" ".join)
def test_whatever_way_a_guarded_script_starts_a_process_it_is_guarded(job, where: str, command, how: str) -> None:
    assert job(command, how, where) == ("ProtocolVersionError missing\n", "")


@pytest.mark.slow
def test_without_the_guard_a_child_has_none(job, where: str) -> None:
    assert job([], "spawn", where) == ("unguarded\n", "")


@pytest.mark.slow
def test_a_child_still_has_the_sitecustomize_of_its_environment(job, where: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("print('their own', flush=True)\n")
    out, err = job([FILE.name], "subprocess", where, path=str(site))
    assert (out.count("their own"), err) == (2, "")  # in the script and in its child
    assert "ProtocolVersionError" in out


@pytest.mark.slow
def test_where_no_folder_can_be_had_the_script_runs_and_one_line_says_so(job, where: str, tmp: Path) -> None:
    job([FILE.name], "child", where)
    (folder,) = tmp.iterdir()
    folder.chmod(0o777)  # anyone may have changed what is in it
    out, err = job([FILE.name], "spawn", where)
    assert out == "unguarded\n"
    assert err.startswith("torchskew guard: processes that this one starts run unguarded: ")
    assert len(err.splitlines()) == 1


def test_the_folder_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    for _ in range(2):
        children.reach_children("guard", "/some/guard.py")
    (folder,) = tmp_path.iterdir()
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(folder), "/theirs"]
    assert {path.name for path in folder.iterdir()} == {"sitecustomize.py", "torchskew_guard_start.py"}
