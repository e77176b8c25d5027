"""An agent outlives what a rank writes on its pipe, and kills what a rank left behind however it hid that."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inside.driver import Driver, alive, gone

OK = "def rank(job):\n    return {'answer': 42}\n"
DAEMON = """import os, signal, time

def daemon():
    there, here = os.pipe()
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pid = os.fork()
        if pid == 0:
            {hides}
            time.sleep(600)
        os.write(here, str(pid).encode())
        os._exit(0)
    return int(os.read(there, 20).decode())

def rank(job):
    job.report_progress('daemon', daemon())
    {then}
"""
DEEP = """import os

def rank(job):
    for name in os.listdir('/proc/self/fd'):
        if int(name) > 2 and os.readlink('/proc/self/fd/' + name).startswith('pipe:'):
            for deep in (b'[' * 50000, b'{"report": ' + b'[' * %d + b']' * %d + b'}'):
                try:
                    os.write(int(name), deep + b'\\n')
                except OSError:
                    break
    os._exit(0)
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    driver.until("ready")
    yield driver
    driver.close()


@pytest.mark.parametrize("depth", [500, 5000])
def test_what_is_nested_too_deeply_to_be_read_or_written_harms_nobody_else(agent: Driver, depth: int) -> None:
    """Found by `make chaos`: Python raises RecursionError there, which ended the agent with every rank in it."""
    agent.run(DEEP % (depth, depth))
    assert agent.exited()["exit"] == 0
    agent.run(OK, "r1")
    assert agent.exited("r1")["report"]["payload"] == {"answer": 42}


@pytest.mark.parametrize("hides", ["pass", "os.closerange(0, 256)"])
def test_a_daemon_that_was_only_forked_dies_with_its_rank(agent: Driver, hides: str) -> None:
    """Found by `make chaos`: it shows the agent's settings, which name no rank, and lived until the run's end."""
    agent.run(DAEMON.format(hides=hides, then="return {}"))
    pid = agent.until("progress")["step"]
    agent.exited()
    assert gone(pid)


def test_a_daemon_of_a_living_rank_is_left_alone(agent: Driver) -> None:
    agent.run(DAEMON.format(hides="pass", then="time.sleep(600)"))
    pid = agent.until("progress")["step"]
    agent.run(OK, "r1")
    agent.exited("r1")
    assert alive(pid)
    agent.send("signal", id="r0", signal="KILL")
    assert agent.exited()["signal"] == signal.SIGKILL.name
    assert gone(pid)
