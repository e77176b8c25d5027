"""Lines of an agent become records; what holds other types than the protocol's harms one rank, never the agent."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torchskew.engine.events import (
    AgentLine,
    Exited,
    ImportFailed,
    Leaving,
    Loaded,
    Milestone,
    PhaseEntered,
    Progress,
    ProtocolError,
    RankLine,
    Ready,
    Refused,
    Rejected,
    Started,
    Unreadable,
    read_line,
)
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Phase

from tests.conftest import ROOT

REPORT = {
    "finished": False,
    "payload": {},
    "error": {"type": "E", "text": "t"},
    "error_after": 1,
    "unsupported": None,
    "phase": "run",
    "phases": {"run": 1},
    "torch": "2.6.0",
    "git_version": None,
    "python": "3.11.7",
    "host": "h",
}


def event(**message: Any) -> Any:
    line = read_line(message)
    return None if line is None else line.event


def test_what_an_agent_says_of_itself_is_a_record() -> None:
    ready = event(event="ready", protocol=1, torch="2.6.0", git_version="a", python="3.11", host="h", pid=7)
    assert isinstance(ready, Ready)
    assert (ready.torch, ready.pid, ready.import_seconds) == ("2.6.0", 7, 0.0)
    assert event(event="failed", type="E", text="t", where="w") == ImportFailed(type="E", text="t", where="w")
    assert event(event="rejected", why="junk") == Rejected(why="junk")
    assert event(event="loaded", scenario="s", lacks={"*": "no"}) == Loaded(scenario="s", lacks={"*": "no"})
    assert event(event="loaded", scenario="s", error="it broke") == Loaded(scenario="s", error="it broke")


def test_what_an_agent_says_of_a_rank_is_a_record() -> None:
    assert isinstance(event(event="started", id="1", pid=3), Started)
    assert event(event="phase", id="1", phase="run", at=0.1) == PhaseEntered(phase=Phase.RUN)
    assert event(event="phase", id="1", phase="exit", at=0.1) == Leaving()
    assert event(event="progress", id="1", name="step", step=4) == Progress(milestone=Milestone.STEP, step=4)
    assert event(event="progress", id="1", name="loss", step=4) == Progress(milestone=Milestone.OTHER, step=4)
    assert event(event="refused", id="1", why="in use") == Refused(why="in use")


def test_an_end_holds_the_ranks_report() -> None:
    end = event(event="exited", id="1", exit=1, signal=None, seconds=2, report=REPORT, log="l", stacks="")
    assert isinstance(end, Exited)
    assert (end.exit, end.signal, end.seconds, end.log) == (1, None, 2.0, "l")
    assert end.report is not None
    assert end.report.error == ErrorFacts(type="E", text="t")
    assert (end.report.error_after, end.report.phase, end.report.phases) == (1.0, Phase.RUN, {"run": 1.0})
    assert event(event="exited", id="1", exit=None, signal="SIGSEGV", seconds=2).report is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"phase": "lunch"}, "'lunch' is not a valid Phase"),
        ({"payload": [1]}, "`payload` must be dict, got list"),
        ({"error": {"type": "E"}}, "`text` is missing"),
        ({"error_after": "1"}, "`error_after` must be a number, got str"),
        ({"phases": {"run": "long"}}, "`run` must be a number, got str"),
        ({"torch": 2}, "`torch` must be str, got int"),
    ],
)
def test_a_report_that_can_not_be_read_is_the_end_of_its_rank_alone(change: dict[str, Any], why: str) -> None:
    line = read_line({"event": "exited", "id": "1", "report": {**REPORT, **change}})
    assert isinstance(line, RankLine)
    assert isinstance(line.event, Unreadable)
    assert line.last
    assert line.event.why == f"the rank's report can't be read: {why}"


def test_a_phase_that_nobody_knows_spoils_its_rank_but_does_not_end_it() -> None:
    line = read_line({"event": "phase", "id": "1", "phase": "lunch"})
    assert isinstance(line, RankLine)
    assert not line.last
    assert isinstance(line.event, Unreadable)


def test_events_of_a_later_protocol_are_passed_over() -> None:
    assert read_line({"event": "weather"}) is None
    assert read_line({"event": "weather", "id": "1"}) is None


@pytest.mark.parametrize("message", [3, [], "ready", None])
def test_a_line_that_is_no_object_breaks_the_protocol(message: object) -> None:
    with pytest.raises(ProtocolError, match="must be an object"):
        read_line(message)


def test_an_agents_own_line_of_wrong_types_breaks_the_protocol() -> None:
    with pytest.raises(ProtocolError, match="`scenario` is missing"):
        read_line({"event": "loaded"})
    assert isinstance(read_line({"event": "rejected"}), AgentLine)


def test_the_protocols_page_names_every_event_that_is_read() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    source = (ROOT / "harness/torchskew/engine/events.py").read_text(encoding="utf-8")
    kinds = re.findall(r'case "(\w+)":', source)
    assert kinds
    assert [kind for kind in kinds if f"| `{kind}` |" not in page] == []
