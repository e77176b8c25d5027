"""The agent serves whatever its ranks do: they crash, hang, end in silence, and it says so and goes on."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from torchskew.inside import protocol
from torchskew.inside.job import alone, encode

from tests.inside.driver import Driver, gone
from tests.patience import PATIENCE

OK = "def rank(job):\n    return {'answer': 42}\n"
ENDS = {
    "a crash": ("import ctypes\ndef rank(job):\n    ctypes.string_at(0)\n", None, "SIGSEGV"),
    "an abort": ("import os\ndef rank(job):\n    os.abort()\n", None, "SIGABRT"),
    "an end without a report": ("import os\ndef rank(job):\n    os._exit(7)\n", 7, None),
}
HANGS = """import time

def rank(job):
    a_place_to_wait(job)

def a_place_to_wait(job):
    job.phase('run')
    time.sleep(600)
"""
STARTS = """import os

def rank(job):
    pid = os.fork()
    if not pid:
        os.execvp('sleep', ['sleep', '600'])
    return {'pid': pid}
"""
JUNK = {
    "junk": b"junk",
    "a list": b"[]",
    "nothing": b"{}",
    "an unknown order": b'{"op": "nonsense"}',
    "no fields": b'{"op": "run"}',
    "another signal": b'{"op": "signal", "id": "r0", "signal": "HUP"}',
    "no text": b"\xff\xfe",
    "too long": b"x" * (5 << 20),
}
TOO_MUCH = {"{'x': object()}": "not JSON serializable", "{'x': float('nan')}": "not JSON compliant"}
TOO_MUCH["{'x': 'y' * (3 << 20)}"] = "report a digest"
SUMS = """def rank(job):
    import torch, torch.distributed as dist
    job.rendezvous()
    it = torch.ones(3)
    dist.all_reduce(it)
    return {'it': it.tolist(), 'threads': torch.get_num_threads()}
"""


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("name", protocol.FILES)
def test_what_travels_is_written_in_the_syntax_of_python_3_8(name: str) -> None:
    ast.parse(protocol.FILES[name].read_text(), feature_version=(3, 8))


def test_ready_says_what_the_version_is(agent: Driver) -> None:
    ready = agent.said[-1]
    assert (ready["protocol"], ready["torch"], ready["git_version"]) == (1, "9.9.0", "abc")
    assert ready["pid"] == agent.process.pid
    assert ready["host"] == socket.gethostname()
    assert ready["import_seconds"] > 0
    assert ready["resolver_seconds"] >= 0


def test_a_torch_that_does_not_import_names_the_line(tmp_path: Path) -> None:
    broken = Driver(tmp_path, STUB_BROKEN="1")
    try:
        failed = broken.until("failed")
        assert failed["type"] == "ImportError"
        assert "_C" in failed["text"]
        assert failed["where"].endswith("torch/__init__.py:3: from torch import _C")
        assert list(failed["parts"]) == ["torch", "torch.nn", "torch.optim", "torch.distributed"]
        assert {part["where"] for part in failed["parts"].values()} == {failed["where"]}
        assert broken.get() == {"event": "end"}
    finally:
        broken.close()
    assert broken.process.returncode == 1


def test_a_rank_that_does_its_work_reports_phases_and_facts(agent: Driver) -> None:
    agent.run("def rank(job):\n    job.rendezvous()\n    return {'answer': 42}\n", port=1)
    end = agent.exited()
    assert (end["exit"], end["signal"], end["report"]["payload"]) == (0, None, {"answer": 42})
    assert (end["report"]["finished"], end["report"]["error"], end["report"]["phase"]) == (True, None, "done")
    assert [event["phase"] for event in agent.said if event["event"] == "phase"][:4] == [
        "rendezvous", "run", "teardown", "done",
    ]  # fmt: skip
    assert set(end["report"]["phases"]) == {"provision", "rendezvous", "run", "teardown", "done"}
    assert end["log"].split("\n") == ["threads 1", "destroyed 1", ""]
    assert end["seconds"] >= sum(end["report"]["phases"].values())


@pytest.mark.parametrize("how", ENDS)
def test_a_rank_that_dies_says_how_and_harms_nobody(agent: Driver, how: str) -> None:
    source, code, fell = ENDS[how]
    agent.run(source)
    end = agent.exited()
    assert (end["exit"], end["signal"], end["report"]) == (code, fell, None)
    agent.run(OK)
    assert agent.exited()["report"]["payload"] == {"answer": 42}


def test_a_crash_leaves_the_python_stack_in_the_log(agent: Driver) -> None:
    agent.run(ENDS["a crash"][0])
    assert 'File "it.py", line 3 in rank' in agent.exited()["log"]


def test_an_error_is_reported_with_its_type_its_text_and_its_phase(agent: Driver) -> None:
    agent.run("class Odd(ValueError):\n    pass\ndef rank(job):\n    job.phase('run')\n    raise Odd('two\\nlines')\n")
    end = agent.exited()
    assert end["exit"] == 1
    assert end["report"]["error"] == {"type": "torchskew_scenario.Odd", "text": "two\nlines"}
    assert end["report"]["phase"] == "run"
    assert 0 <= end["report"]["error_after"] <= end["seconds"]
    assert not end["report"]["finished"]
    assert "raise Odd('two\\nlines')" in end["log"]


def test_a_rank_whose_log_can_not_be_written_reports_its_error_all_the_same(agent: Driver) -> None:
    agent.run(
        "import os\ndef rank(job):\n    os.dup2(os.open('/dev/full', os.O_WRONLY), 2)\n    raise ValueError('first')\n"
    )
    end = agent.exited()
    assert end["report"]["error"]["text"] == "first"
    assert end["exit"] == 1


def test_a_full_disk_is_the_machines_fault(agent: Driver) -> None:
    agent.run("def rank(job):\n    with open('/dev/full', 'w') as file:\n        file.write('x')\n")
    end = agent.exited()
    assert end["report"]["prevented"] == "the disk is full: [Errno 28] No space left on device"


def test_a_crash_at_the_interpreters_end_is_seen_after_an_error(agent: Driver) -> None:
    source = (
        "import atexit, os, threading, time\n"
        "def rank(job):\n"
        "    atexit.register(os.abort)\n"
        "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "    raise ValueError('first')\n"
    )
    agent.run(source)
    end = agent.exited()
    assert end["signal"] == "SIGABRT"
    assert end["report"]["error"]["text"] == "first"


def test_what_a_version_lacks_is_no_error(agent: Driver) -> None:
    agent.run("def rank(job):\n    job.unsupported('no AVG before 1.11')\n")
    end = agent.exited()
    assert (end["exit"], end["report"]["unsupported"], end["report"]["error"]) == (0, "no AVG before 1.11", None)


@pytest.mark.parametrize(("payload", "why"), TOO_MUCH.items())
def test_a_payload_that_can_not_travel_is_an_error_of_the_rank(agent: Driver, payload: str, why: str) -> None:
    agent.run(f"def rank(job):\n    return {payload}\n")
    assert why in agent.exited()["report"]["error"]["text"]


def test_a_hanging_rank_gives_its_stacks_before_it_is_killed(agent: Driver) -> None:
    agent.run(HANGS)
    agent.until("phase", phase="run")
    agent.send("stacks", id="r0")
    agent.send("signal", id="r0", signal="KILL")
    end = agent.exited()
    assert (end["signal"], end["report"]) == ("SIGKILL", None)
    assert "in a_place_to_wait" in end["stacks"]


@pytest.mark.slow
def test_a_stopped_rank_can_not_give_stacks_and_is_killed_all_the_same(agent: Driver) -> None:
    agent.run(HANGS)
    agent.until("phase", phase="run")
    agent.send("signal", id="r0", signal="STOP")
    agent.send("stacks", id="r0")
    agent.send("signal", id="r0", signal="KILL")
    end = agent.exited()
    assert (end["signal"], end["stacks"]) == ("SIGKILL", "")


def test_what_a_rank_started_dies_with_it(agent: Driver) -> None:
    agent.run(STARTS)
    assert gone(agent.exited()["report"]["payload"]["pid"])


def test_a_long_log_keeps_its_head_and_its_tail(agent: Driver) -> None:
    agent.run("def rank(job):\n    print('first')\n    print('x' * 300000)\n    print('last')\n")
    log = agent.exited()["log"]
    assert len(log) < 70_000
    assert "first" in log[:100]
    assert log.endswith("last\n")
    assert "bytes left out" in log


@pytest.mark.parametrize("what", JUNK)
def test_a_line_that_is_no_request_is_rejected_and_forgotten(agent: Driver, what: str) -> None:
    agent.raw(JUNK[what] + b"\n")
    assert agent.until("rejected")["why"]
    agent.run(OK)
    assert agent.exited()["exit"] == 0


def test_requests_may_arrive_in_pieces(agent: Driver) -> None:
    agent.load(OK)
    job = json.dumps(encode(alone(10.0))).encode()
    for piece in (b'{"op": "run", "id": "r0", "sce', b'nario": "it", "job": ' + job + b"}", b"\n"):
        agent.raw(piece)
        time.sleep(0.01)
    assert agent.exited()["exit"] == 0


def test_a_port_in_use_refuses_the_rank(agent: Driver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        agent.run(OK, port=busy.getsockname()[1], check_port=True)
        assert "is in use" in agent.until("refused", id="r0")["why"]
        agent.run(OK, port=busy.getsockname()[1], check_port=False)
        assert agent.exited()["exit"] == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"chek_port": True}, "unknown key 'chek_port'"),
        ({"seed": ...}, "missing key 'seed'"),
        ({"port": "1"}, "'port' must be int, got str"),
    ],
)
def test_a_job_that_is_not_as_agreed_refuses_the_rank_and_harms_nobody(agent: Driver, change: dict, why: str) -> None:
    agent.load(OK)
    job = {name: value for name, value in {**encode(alone(10.0)), **change}.items() if value is not ...}
    agent.send("run", id="r0", scenario="it", job=job)
    assert agent.until("refused", id="r0")["why"] == f"the job can't be read: {why}"
    agent.start("r0", "it")
    assert agent.exited()["exit"] == 0


def test_progress_of_a_rank_reaches_the_harness_while_it_runs(agent: Driver) -> None:
    agent.run("def rank(job):\n    job.report_progress('step', 3)\n")
    assert agent.until("progress", id="r0")["name"] == "step"
    assert agent.said[-1]["step"] == 3
    assert agent.said[-1]["at"] >= 0
    agent.exited()


def test_a_scenario_that_was_never_loaded_and_an_id_in_use_are_refused(agent: Driver) -> None:
    agent.start("r0", "unknown")
    assert "never loaded" in agent.until("refused", id="r0")["why"]
    agent.run(HANGS)
    agent.until("started", id="r0")
    agent.start("r0", "it")
    assert "of this id" in agent.until("refused", id="r0")["why"]


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        (OK, {"lacks": {}}),
        ("def lacks(job):\n    return {'AVG/*': 'no'}\n" + OK, {"lacks": {"AVG/*": "no"}}),
        ("def lacks(job):\n    job.unsupported('all of it')\n" + OK, {"lacks": {"*": "all of it"}}),
    ],
)
def test_loading_asks_what_the_version_lacks(agent: Driver, source: str, answer: dict) -> None:
    assert agent.load(source) == {"event": "loaded", "scenario": "it", **answer}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def rank(:\n", "SyntaxError"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError"),
        ("import os\nos.abort()\n", "SIGABRT"),
        ("def lacks(job):\n    raise ValueError('odd')\n", "ValueError: odd"),
    ],
)
def test_a_scenario_that_does_not_load_says_why(agent: Driver, source: str, why: str) -> None:
    answer = agent.load(source)
    assert why in answer["error"]
    assert "lacks" not in answer
    agent.run(OK)
    assert agent.exited()["exit"] == 0


def test_asking_what_is_lacking_has_a_limit(tmp_path: Path) -> None:
    agent = Driver(tmp_path, change=(b"LACKS_SECONDS = 10.0", b"LACKS_SECONDS = 0.3"))
    try:
        answer = agent.load("import time\ndef lacks(job):\n    time.sleep(600)\n")
        assert "SIGKILL: no report within 0.3 s" in answer["error"]
    finally:
        agent.close()


def test_a_rank_leaves_its_group_only_when_its_other_threads_rest(tmp_path: Path) -> None:
    source = (
        "import threading\ndef work():\n    sum(range(2_000_000))\n    print('rested', flush=True)\n"
        "def rank(job):\n    job.rendezvous()\n    threading.Thread(target=work).start()\n"
    )
    agent = Driver(tmp_path, change=(b"time.monotonic() + 0.1, 0", b"time.monotonic() + 9.0, 0"))
    try:
        agent.run(source)
        assert agent.exited()["log"].split("\n") == ["threads 1", "rested", "destroyed 1", ""]
    finally:
        agent.close()


def test_settings_of_one_rank_are_nobody_elses(agent: Driver) -> None:
    source = "import os\ndef rank(job):\n    return {'it': os.environ.get('TORCHSKEW_TEST')}\n"
    agent.run(source, env={"TORCHSKEW_TEST": "1"})
    assert agent.exited()["report"]["payload"] == {"it": "1"}
    agent.run(source)
    assert agent.exited()["report"]["payload"] == {"it": None}


@pytest.mark.parametrize("how", ["stop", "the end of input", "TERM", "KILL"])
def test_ranks_die_with_their_agent(agent: Driver, how: str) -> None:
    agent.run(HANGS)
    pid = agent.until("started")["pid"]
    agent.until("phase", phase="run")
    if how == "stop":
        agent.send("stop")
    elif how == "the end of input":
        agent.process.stdin.close()
    else:
        agent.process.send_signal(getattr(signal, "SIG" + how))
    assert gone(pid)
    assert agent.process.wait(PATIENCE) == (-9 if how == "KILL" else 0)


STARTS_AND_HANGS = """import os, time

def rank(job):
    pid = os.fork()
    if not pid:
        os.execvp('sleep', ['sleep', '600'])
    job.report_progress('started', pid)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", ["stop", "the end of input", "TERM"])
def test_what_a_living_rank_started_dies_with_the_agent_too(agent: Driver, how: str) -> None:
    """The kernel kills a rank whose agent is gone, but not the children of the rank: the agent has to."""
    agent.run(STARTS_AND_HANGS)
    pid = agent.until("progress", id="r0")["step"]
    if how == "stop":
        agent.send("stop")
    elif how == "the end of input":
        agent.process.stdin.close()
    else:
        agent.process.send_signal(signal.SIGTERM)
    try:
        assert gone(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert agent.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_two_hundred_quick_ranks_leave_no_zombie_and_no_descriptor(agent: Driver) -> None:
    agent.load(OK)
    pid = agent.process.pid
    before = descriptors(pid)
    for number in range(200):
        agent.start(f"r{number}", "it")
    ends = []
    while len(ends) < 200:
        event = agent.get()
        ends += [event] if event["event"] == "exited" else []
    assert {(end["exit"], end["report"]["payload"]["answer"]) for end in ends} == {(0, 42)}
    assert {end["id"] for end in ends} == {f"r{number}" for number in range(200)}
    assert (descriptors(pid), children(pid)) == (before, [])


def test_what_a_rank_prints_never_reaches_the_protocol(agent: Driver) -> None:
    agent.run('import os\ndef rank(job):\n    os.write(1, b\'{"event": "junk"}\\n\')\n    return {}\n')
    assert '{"event": "junk"}' in agent.exited()["log"]
    assert {event["event"] for event in agent.said} <= {"ready", "loaded", "started", "phase", "exited"}


@pytest.mark.slow
@pytest.mark.torch
def test_two_ranks_of_a_real_torch_agree(tmp_path: Path, torch_environment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    agent = Driver(tmp_path, torch_environment.handle)
    try:
        assert agent.until("ready")["torch"].startswith("2.13.0")
        agent.load(SUMS)
        for rank in range(2):
            job = {"rank": rank, "world_size": 2, "port": port, "timeout": 20, "check_port": rank == 0}
            agent.start(f"r{rank}", "it", **job)
        ends = {event["id"]: event for event in (agent.until("exited"), agent.until("exited"))}
        assert {name: end["report"]["payload"] for name, end in ends.items()} == {
            name: {"it": [2.0, 2.0, 2.0], "threads": 1} for name in ("r0", "r1")
        }
    finally:
        agent.close()
