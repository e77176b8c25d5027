"""The whole line with a real release: two runs at once, a killed harness, Ctrl-C; nothing is lost, nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torchskew.model.outcomes import Verdict
from torchskew.model.versions import Environment
from torchskew.record.record import Record

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.torch, pytest.mark.slow]


def project(folder: Path, environment: Environment, names: str, timeout: int = 10) -> Path:
    """A declaration of one release under several names, so that every cell can only be right."""
    folder.mkdir(exist_ok=True)
    versions = "\n".join(f'{name} = {{ interpreter = "{environment.handle}" }}' for name in names)
    scenarios = '["rendezvous_tcp", "broadcast", "all_gather", "barrier"]'
    (folder / "torchskew.toml").write_text(
        f'[versions]\n{versions}\n[matrix]\nruntime = "venv"\nscenarios = {scenarios}\ntimeout = {timeout}\n'
    )
    return folder


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torchskew", "matrix", *options]
    # A cache folder of the test's own: any other torchskew on this machine may sweep what a killed one left.
    env = {**os.environ, "PYTHONPATH": str(ROOT / "harness"), "XDG_CACHE_HOME": str(folder.parent / "cache")}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished_cells(folder: Path) -> int:
    path = folder / "out" / "record.sqlite"
    if not path.exists():
        return 0
    with Record.open(path) as record:
        return len(record.finished(record.resolve("latest"))) if record.runs() else 0


def wait_for_cells(folder: Path, count: int) -> None:
    until = time.monotonic() + PATIENCE
    while finished_cells(folder) < count:
        assert time.monotonic() < until, "the run does not get anywhere"
        time.sleep(0.02)  # another process's progress has no event to wait for


def descendants(run: subprocess.Popen[str]) -> set[int]:
    """Every process of the run's session and of the sessions its agents made."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"TORCHSKEW_PARENT={run.pid}\0".encode() in environ:
            found.add(int(folder.name))
    return found


def test_two_runs_at_once_share_no_port_and_every_verdict_is_right(
    tmp_path: Path, torch_environment: Environment
) -> None:
    folders = [project(tmp_path / name, torch_environment, "abcde", 30) for name in ("one", "two")]
    runs = [started(folder, "-j", "16") for folder in folders]
    said = [run.communicate(timeout=PATIENCE * 3)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    for folder in folders:
        with Record.open(folder / "out" / "record.sqlite") as record:
            results = record.load().results
        assert len(results) >= 100
        assert {result.verdict for result in results} == {Verdict.PASS}
        assert [result.cell.id for result in results if len(result.attempts) > 1] == []


def test_a_killed_harness_loses_no_finished_cell_and_leaves_nothing_behind(
    tmp_path: Path, torch_environment: Environment
) -> None:
    folder = project(tmp_path / "killed", torch_environment, "abcd")
    run = started(folder, "-j", "1")
    wait_for_cells(folder, 5)
    processes = descendants(run)
    assert processes
    run.kill()
    run.communicate(timeout=PATIENCE)
    done = finished_cells(folder)
    until = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}/exe").exists() for pid in processes) and time.monotonic() < until:
        time.sleep(0.02)  # the kernel tells the agents; they are nobody's children now
    assert [pid for pid in processes if Path(f"/proc/{pid}/exe").exists()] == []
    resumed = started(folder, "--resume")
    said, _ = resumed.communicate(timeout=PATIENCE * 2)
    assert resumed.returncode == 0, said
    assert f"{done} of" in said
    assert "swept      folder" in said
    with Record.open(folder / "out" / "record.sqlite") as record:
        assert len(record.runs()) == 1
        results = record.load().results
    assert len({result.cell.id for result in results}) == len(results)


def test_ctrl_c_ends_with_two_says_how_to_go_on_and_ends_every_process(
    tmp_path: Path, torch_environment: Environment
) -> None:
    folder = project(tmp_path / "interrupted", torch_environment, "abcd")
    run = started(folder, "-j", "1")
    wait_for_cells(folder, 3)
    processes = descendants(run)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2, said
    assert "`torchskew matrix --resume` runs the rest" in said
    assert "Traceback" not in said
    assert [pid for pid in processes if Path(f"/proc/{pid}/exe").exists()] == []
