"""A user's own code in a rank: a script is a script, folders are on the path, what is kept lives, the rest dies."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from torchskew.inside import protocol

from tests.inside.driver import Driver, alive, gone
from tests.patience import PATIENCE

SCRIPT = "import torchskew_program\nrank = torchskew_program.run_script\n"
FACTS = """
import atexit, json, os, pickle, sys, threading, time

class State: pass

def late():
    time.sleep(0.1)
    print("thread ended")

assert pickle.loads(pickle.dumps(State())).__class__ is State
atexit.register(print, "at exit")
threading.Thread(target=late).start()
names = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
print(json.dumps({
    "name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd(),
    "main": sys.modules["__main__"].__dict__ is globals(), **{each: os.environ[each] for each in names},
}))
"""
SPAWNS = """
import multiprocessing

def child(answer):
    answer.put(__name__)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    worker = context.Process(target=child, args=(answer,))
    worker.start()
    print("child says", answer.get())
    worker.join()
"""
TORCHRUN = """
import atexit, json, os, sys
print(json.dumps({"name": __name__, "path": os.environ["PYTHONPATH"], "argv": sys.argv[1:]}))
atexit.register(print, "registered")
"""
RUNS_TORCHRUN = """
import torch, torchskew_program
torch.distributed.__path__ = [{folder!r}]
rank = torchskew_program.run_torchrun
"""
LEAVES = """import os, subprocess, sys

def rank(job):
    started = subprocess.Popen(["sleep", "600"], start_new_session=True)
    return {"pid": started.pid}
"""
# An agent that finds nothing in the first settings and command lines that it reads of what ranks left behind.
STARTING = (
    b"os.open(path, os.O_RDONLY)",
    (
        b"os.open('/dev/null' if path.endswith(('/environ', '/cmdline')) and '/self/' not in path"
        b" and (early := globals().setdefault('early', [1] * 6)) and early.pop() else path, os.O_RDONLY)"
    ),
)
DAEMON = """import subprocess, time

def rank(job):
    subprocess.check_call(["setsid", "sh", "-c", "sleep 600 >&- 2>&- & echo $! >{note}.new; mv {note}.new {note}"])
    time.sleep(600)
"""
WRITES = """def rank(job):
    try:
        open({path!r}, "a").close()
    except OSError as error:
        return {{"writing": error.strerror}}
    return {{"writing": "allowed"}}
"""


def script(agent: Driver, path: Path, text: str, *args: str, **job: object) -> dict:
    """What became of a script that ran as a rank."""
    path.write_text(text)
    params = {"path": str(path), "text": text, "args": list(args)}
    agent.run(SCRIPT, params=params, share=str(path.parent / "share"), **job)
    return agent.exited()


def test_a_script_runs_as_python_would_run_it_to_its_very_end(agent: Driver, tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    end = script(agent, path, FACTS, "--epochs", "1", rank=3, world_size=4, ranks_per_node=2, cwd=".")
    assert (end["exit"], end["report"]["finished"]) == (0, True), end["log"]
    said = end["log"].splitlines()
    facts = json.loads(next(line for line in said if line.startswith("{")))
    assert facts == {
        "name": "__main__", "file": str(path), "argv": [str(path), "--epochs", "1"], "path": str(tmp_path),
        "cwd": str(tmp_path / "share"), "main": True,
        "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2",
    }  # fmt: skip
    assert said.index("thread ended") < said.index("at exit")


def test_a_script_at_a_bridge_is_told_that_no_rank_hosts_the_store(agent: Driver, tmp_path: Path) -> None:
    prints = "import os\nprint('agent:', os.environ.get('TORCHELASTIC_USE_AGENT_STORE'))\n"
    for bridge, told in ((True, "agent: True"), (False, "agent: None")):
        assert told in script(agent, tmp_path / "train.py", prints, bridge=bridge)["log"].splitlines()


@pytest.mark.slow
def test_a_script_may_spawn_processes_of_its_own_functions(agent: Driver, tmp_path: Path) -> None:
    end = script(agent, tmp_path / "spawns.py", SPAWNS)
    assert end["report"]["finished"], end["log"]
    assert "child says __mp_main__" in end["log"]


@pytest.mark.parametrize(
    ("ends", "code", "text"),
    [
        ("sys.exit(3)", 3, "the script ended with exit code 3"),
        ("sys.exit('no data')", 1, "the script ended with exit code 1: no data"),
        ("sys.exit()", 0, None),
        ("raise SystemExit(0)", 0, None),
        ("{}['gone']", 1, "'gone'"),
    ],
)
def test_a_scripts_exit_code_is_its_ranks(agent: Driver, tmp_path: Path, ends: str, code: int, text: str) -> None:
    end = script(agent, tmp_path / "ends.py", f"import sys\n{ends}\n")
    assert end["exit"] == code
    assert (end["report"]["error"] or {"text": None})["text"] == text
    assert ("no data" in end["log"]) == ("no data" in ends)


def test_a_traceback_begins_in_the_users_own_code(agent: Driver, tmp_path: Path) -> None:
    end = script(agent, tmp_path / "fails.py", "def inner():\n    raise ValueError('here')\n\ninner()\n")
    lines = [line for line in end["log"].splitlines() if line.startswith("  File")]
    assert [line.split('"')[1] for line in lines] == [str(tmp_path / "fails.py")] * 2
    assert "raise ValueError('here')" in end["log"]


def test_folders_of_a_job_come_first_on_the_path(agent: Driver, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ours.py").write_text(f"NAME = {name!r}\n")
    source = (
        "def rank(job):\n    import ours\n    return {'name': ours.NAME, 'node': job.node, 'local': job.local_rank}\n"
    )
    paths = [str(tmp_path / "first"), str(tmp_path / "second")]
    agent.run(source, paths=paths, rank=5, world_size=6, ranks_per_node=3)
    assert agent.exited()["report"]["payload"] == {"name": "first", "node": 1, "local": 2}


def test_data_is_read_only_for_the_rank_that_names_it_and_for_no_other(agent: Driver, tmp_path: Path) -> None:
    file = tmp_path / "data" / "numbers"
    file.parent.mkdir()
    file.write_text("1 2 3")
    agent.run(WRITES.format(path=str(file)), data=[str(file.parent)])
    end = agent.exited()
    if os.geteuid() == 0:
        assert end["report"]["payload"] == {"writing": "Read-only file system"}
    else:  # this agent has not got the namespace that the venv runtime gives
        assert "can't be made read-only here: unshare: " in end["report"]["prevented"]
    agent.run(WRITES.format(path=str(file)))
    assert agent.exited()["report"]["payload"] == {"writing": "allowed"}


def test_data_that_can_not_be_protected_keeps_the_rank_from_running(agent: Driver, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    agent.run(WRITES.format(path=str(tmp_path / "file")), data=[str(gone)])
    report = agent.exited()["report"]
    assert f"data {gone} can't be made read-only here" in report["prevented"]
    assert not report["finished"]


@pytest.mark.parametrize(
    ("ends", "code", "text"),
    [
        ("sys.exit(0)", 0, None),
        ("sys.exit(3)", 3, "torchrun ended with exit code 3"),
        ("raise RuntimeError('rank 1 of 2 failed')", 1, "torchrun ended with exit code 1"),
    ],
)
def test_torchrun_runs_in_the_rank_for_its_node_and_ends_it(
    agent: Driver, tmp_path: Path, ends: str, code: int, text: str | None
) -> None:
    (tmp_path / "run.py").write_text(TORCHRUN + ends)
    params = {"path": "/work/train.py", "text": "", "args": ["--epochs", "1"]}
    how = {"world_size": 3, "rank": 1, "ranks_per_node": 2, "paths": ["/a", "/b"], "params": params, "port": 7}
    agent.run(RUNS_TORCHRUN.format(folder=str(tmp_path)), **how)
    end = agent.exited()
    assert end["exit"] == code, end["log"]
    error = end["report"].get("error")
    assert (text is None and error is None) or text in error["text"]
    said = end["log"].splitlines()
    assert said.index("registered") > 0  # what torchrun registered for its exit ran, after it
    assert json.loads(next(line for line in said if line.startswith("{"))) == {
        "name": "__main__", "path": "/a:/b", "argv": [
            "--nnodes", "3", "--node_rank", "1", "--nproc_per_node", "2", "--master_addr", "127.0.0.1",
            "--master_port", "7", "--max_restarts", "0", "/work/train.py", "--epochs", "1",
        ],
    }  # fmt: skip
    if "raise" in ends:
        assert "RuntimeError: rank 1 of 2 failed" in end["log"]


def test_what_a_rank_started_in_a_session_of_its_own_dies_with_it(agent: Driver) -> None:
    agent.run(LEAVES)
    assert gone(agent.exited()["report"]["payload"]["pid"])


def test_so_does_what_was_starting_its_program_when_the_rank_ended(tmp_path: Path) -> None:
    """Whoever starts a program goes on before the kernel has put its settings and its command line in place."""
    with contextlib.closing(Driver(tmp_path, change=STARTING)) as agent:
        agent.until("ready")
        agent.run(LEAVES)
        assert gone(agent.exited()["report"]["payload"]["pid"])


def test_what_a_living_rank_left_to_the_agent_lives_as_long_as_the_rank(agent: Driver, tmp_path: Path) -> None:
    """The end of another rank must not end it, although the agent has adopted it."""
    note = tmp_path / "pid"
    agent.run(DAEMON.format(note=str(note)), rank_id="waits")
    until = time.monotonic() + PATIENCE
    while not (note.exists() and note.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    pid = int(note.read_text())
    agent.load("def rank(job):\n    return {}\n", "short")
    agent.start("ends", "short")
    agent.exited("ends")
    assert alive(pid)
    agent.send("signal", id="waits", signal="KILL")
    agent.exited("waits")
    assert gone(pid)


def test_a_rank_that_is_kept_reports_and_stays_alive_until_it_is_killed(agent: Driver) -> None:
    agent.run("def rank(job):\n    raise ValueError('look')\n", keep=True)
    held = agent.until("held", id="r0")
    pid = next(each["pid"] for each in agent.said if each["event"] == "started")
    assert held["report"]["error"]["text"] == "look"
    assert (held["exit"], held["signal"]) == (None, None)
    assert alive(pid)
    agent.send("signal", id="r0", signal="KILL")
    assert agent.exited()["signal"] == "SIGKILL"


def test_a_module_imported_ahead_is_there_before_the_fork(agent: Driver) -> None:
    source = "import sys\ndef rank(job):\n    return {'there': 'wave' in sys.modules}\n"
    agent.run(source)
    assert agent.exited()["report"]["payload"] == {"there": False}
    agent.send("import", modules=["wave", "no_such_module"])
    agent.until("imported")
    agent.start("r1", "it")
    assert agent.exited("r1")["report"]["payload"] == {"there": True}
    assert "no_such_module" in agent.errors.read_text()


@pytest.mark.slow
def test_a_slow_import_of_torchs_own_is_reported_and_others_are_not(tmp_path: Path) -> None:
    agent = Driver(tmp_path)
    slow = "import time\ntime.sleep(0.6)\n"
    for name in ("torch/slow.py", "torch/outer.py", "mine.py"):
        (tmp_path / "stub" / name).write_text("from torch import slow\n" if "outer" in name else slow)
    try:
        agent.until("ready")
        agent.run("def rank(job):\n    import mine, torch.outer\n    return {}\n")
        report = agent.exited()["report"]
        assert list(report["slow_imports"]) == ["torch.outer"]
        assert report["slow_imports"]["torch.outer"] > 0.5
    finally:
        agent.close()


def test_every_file_that_travels_is_listed_once() -> None:
    names = [path.name for path in protocol.FILES.values()]
    assert len(names) == len(set(names))
    assert "program.py" in names
    assert os.path.basename(protocol.FILES["torchskew_program"]) == "program.py"
