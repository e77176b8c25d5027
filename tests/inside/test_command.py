"""A command ends within its limits, whatever it does, is told as what it was, and leaves nothing behind."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchskew.inside import command, protocol
from torchskew.planning.scenario_file import parse_scenario

from tests.inside.driver import Driver
from tests.patience import PATIENCE

SOURCE = protocol.COMMAND.read_text()
ALONE = "self.isolated = isolation.possible()"
WORLD: Any = None
Run = Callable[..., dict[str, Any]]


@pytest.fixture(params=["a namespace", "no namespace"])
def ended(request: pytest.FixtureRequest, agent: Driver, tmp_path: Path) -> Run:
    """Runs a command to its end, with a process namespace of its own where the machine allows it, and without."""
    assert ALONE in SOURCE
    source = SOURCE if request.param == "a namespace" else SOURCE.replace(ALONE, "self.isolated = False")

    def run(command: str | list[str], **limits: Any) -> dict[str, Any]:
        share = tmp_path / "share"
        params = {
            "command": command, "pre_commands": [], "present": [], "root": str(tmp_path), "timeout": 30.0,
            "memory": 10**9, "processes": 50, "network": False, "inputs": "", **limits,
        }  # fmt: skip
        agent.run(source, params=params, share=str(share), skew=["2.6.0"])
        return agent.exited()

    return run


def payload(exited: dict[str, Any]) -> dict[str, Any]:
    assert exited["report"]["finished"], exited
    return dict(exited["report"]["payload"])


def objection(exited: dict[str, Any]) -> str:
    return dict(parse_scenario("unit", SOURCE, "command.py").judge([payload(exited)], WORLD)).get(0, "")


def left(mark: str) -> list[str]:
    """Command lines of processes that hold a text; zombies have none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [line] if mark in line else []
    return found


def nothing_is_left(mark: str) -> bool:
    until = time.monotonic() + PATIENCE
    while left(mark) and time.monotonic() < until:
        time.sleep(0.02)
    return not left(mark)


@pytest.fixture
def mark() -> str:
    """Seconds of a sleep that nothing else on this machine sleeps."""
    return f"{10_000 + uuid.uuid4().int % 10**9}"


def test_it_is_written_in_the_syntax_of_python_3_8() -> None:
    ast.parse(SOURCE, feature_version=(3, 8))


def test_exit_code_0_is_right_and_what_it_used_is_reported(ended: Run, tmp_path: Path) -> None:
    exited = ended("echo in $PWD; sleep 0.2; echo done")
    assert objection(exited) == ""
    facts = payload(exited)
    assert (facts["how"], facts["exit"], facts["signal"], facts["stray"]) == ("exit", 0, None, 0)
    assert facts["last"] == "done"
    assert facts["seconds"] >= 0.2
    assert facts["most"] >= 1
    assert f"in {tmp_path}" in exited["log"].splitlines()


def test_another_exit_code_is_wrong_with_the_last_line(ended: Run) -> None:
    exited = ended("echo first; echo '3 failed'; exit 3")
    assert objection(exited).startswith("ended with exit code 3 after ")
    assert objection(exited).endswith(": 3 failed")


def test_a_signal_has_its_name(ended: Run) -> None:
    assert objection(ended("kill -SEGV $$")).startswith("was ended by SIGSEGV after ")


def test_words_are_not_read_by_a_shell_and_placeholders_are_filled_in(ended: Run, tmp_path: Path) -> None:
    exited = ended(["printf", "%s\n", "$HOME; {version}", "{root}", "{{root}}", "${root}"])
    lines = exited["log"].splitlines()[-4:]
    assert lines == ["$HOME; 2.6.0", str(tmp_path), "{root}", "${root}"]


def test_what_a_shell_gets_is_quoted(ended: Run) -> None:
    assert payload(ended("test -d {out} && {python} -c 'import sys; print(sys.version_info[0])'"))["last"] == "3"


def test_a_program_that_does_not_exist_is_named(ended: Run) -> None:
    assert objection(ended(["no-such-program"])) == "can't be started: no-such-program: No such file or directory"


def test_a_sleep_that_ignores_sigterm_is_killed_at_its_timeout(ended: Run, mark: str) -> None:
    exited = ended(f"trap '' TERM; setsid sleep {mark} & while true; do sleep {mark}; done", timeout=0.5)
    assert objection(exited) == "did not end within its timeout of 0.5 s; it ignored SIGTERM and was killed"
    assert nothing_is_left(mark)


def test_a_command_may_end_by_itself_on_sigterm(ended: Run, mark: str) -> None:
    exited = ended(["sleep", mark], timeout=0.5)
    assert objection(exited) == "did not end within its timeout of 0.5 s; it ended on SIGTERM"
    assert nothing_is_left(mark)


def test_more_processes_than_allowed_end_it(ended: Run, mark: str) -> None:
    exited = ended(f"while true; do setsid sleep {mark} & sleep 0.01; done", processes=12)
    assert objection(exited).startswith("ran more processes than the 12 allowed (")
    assert payload(exited)["most"] > 12
    assert nothing_is_left(mark)


FORKS_OF_ANOTHER_USER = """
import os, sys, time
namespace = {}
exec(open(sys.argv[1]).read(), namespace)
namespace.update(_THREADS_EACH=2, _MORE_THREADS=4)
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
if len(sys.argv) > 3:
    namespace["_brake"](8)
children = []
try:
    while len(children) < 60:
        children.append(os.fork())
        if not children[-1]:
            time.sleep(600)
except BlockingIOError:
    print(len(children))
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who has no other process")
def test_a_bomb_of_an_unprivileged_user_stops_before_others_can_not_fork_any_more() -> None:
    user = str(3_000_000 + os.getpid())

    def forks(*braked: str) -> str:
        words = [sys.executable, "-c", FORKS_OF_ANOTHER_USER, str(protocol.COMMAND), user, *braked]
        return subprocess.run(words, check=True, capture_output=True, text=True, cwd="/").stdout

    allowed = 2 * 8 + 4
    assert allowed <= int(forks("braked")) <= allowed + 8  # threads that tried may still be counted when they ended
    assert forks() == ""


def test_more_memory_than_allowed_ends_it(ended: Run, mark: str) -> None:
    hog = f"import time; held = b'x' * 300_000_000; time.sleep({mark})"
    exited = ended(["{python}", "-c", hog], memory=100_000_000)
    assert objection(exited).startswith("used more memory than the 100 MB allowed (")
    assert payload(exited)["peak"] > 100_000_000
    assert nothing_is_left(mark)


def test_memory_that_processes_share_counts_once(ended: Run) -> None:
    forks = (
        "import os, time\nheld = b'x' * 100_000_000\n"
        "children = [os.fork() for _ in range(1)]\nif 0 not in children: os.fork()\ntime.sleep(0.5)"
    )
    assert objection(ended(["{python}", "-c", forks], memory=190_000_000)) == ""


def test_pages_of_processes_that_end_while_they_are_looked_at_are_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three share 99 bytes; the second and the third are looked at when the ones before them have ended."""
    looks = iter([33, 49, 99] + [0, 0, 99] * 2)
    watched = object.__new__(command._Group)
    watched.most = watched.peak = 0
    monkeypatch.setattr(watched, "_pids", lambda: [1, 2, 3])
    monkeypatch.setattr(command, "_resident", lambda _: 99)
    monkeypatch.setattr(command, "_proportional", lambda _: next(looks))
    assert watched._beyond({"processes": 8, "memory": 150}) is None
    assert watched.peak == 99


def test_what_outlives_the_command_is_counted_and_ended(ended: Run, mark: str) -> None:
    exited = ended(f"setsid sleep {mark} & sleep 0.1; echo done")
    assert objection(exited) == ""
    assert payload(exited)["stray"] == 1
    assert nothing_is_left(mark)


def test_pre_commands_run_first_in_the_same_place(ended: Run) -> None:
    exited = ended("cat {out}/made", pre_commands=["echo yes > {out}/made", ["true"]])
    assert payload(exited)["last"] == "yes"


def test_a_pre_command_that_fails_says_nothing_about_the_version(ended: Run) -> None:
    exited = ended("echo never", pre_commands=["true", "echo no data; exit 4", "echo neither"])
    report = exited["report"]
    assert not report["finished"]
    assert report["prevented"].startswith(
        "pre_commands[1] (echo no data; exit 4) failed, so the command was not started: ended with exit code 4"
    )
    assert "never" not in exited["log"]


def test_a_requirement_that_is_not_there_says_nothing_about_the_version(ended: Run) -> None:
    report = ended("echo never", present=["pytest", "no-such-package>=1"])["report"]
    assert report["prevented"].startswith("no-such-package>=1 is not installed in this version")


def test_a_rank_that_is_killed_takes_the_command_with_it(agent: Driver, tmp_path: Path, mark: str) -> None:
    params = {
        "command": ["sleep", mark], "pre_commands": [], "present": [], "root": str(tmp_path), "timeout": 60.0,
        "memory": 10**9, "processes": 50, "network": False, "inputs": "",
    }  # fmt: skip
    agent.run(SOURCE, params=params, share=str(tmp_path / "share"), skew=["2.6.0"])
    until = time.monotonic() + PATIENCE
    while not left(mark) and time.monotonic() < until:
        time.sleep(0.02)
    assert left(mark)
    agent.send("signal", id="r0", signal="KILL")
    assert agent.exited()["signal"] == "SIGKILL"
    assert nothing_is_left(mark)


def test_what_it_reports_can_travel(ended: Run) -> None:
    assert json.loads(json.dumps(payload(ended("printf '\\377\\n'"))))["last"]


def test_an_agent_finds_out_once_whether_commands_can_be_isolated(agent: Driver) -> None:
    source = "def rank(job):\n    import torchskew_isolation\n    return {'known': len(torchskew_isolation._answers)}\n"
    agent.run(source, "before")
    assert agent.exited("before")["report"]["payload"] == {"known": 0}
    agent.send("import", modules=list(parse_scenario("unit", SOURCE, "command.py").warm))
    agent.until("imported")
    agent.run(source, "after")
    assert agent.exited("after")["report"]["payload"] == {"known": 1}
