"""An agent from the engine's side: what it writes is understood or ends it, and every rank hears of its end."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from torchskew.engine.agents import Agent, Agents, Place
from torchskew.engine.events import Exited, Gone, Loaded, RankEvent, Started
from torchskew.errors import AgentError
from torchskew.inside.job import alone, decode
from torchskew.inside.protocol import PROTOCOL
from torchskew.model.versions import Environment
from torchskew.planning.scenario import Scenario
from torchskew.runtimes.fake import FakeRuntime

from tests.patience import PATIENCE

SCENARIO = Scenario(name="meet", promise="p", doc="d", source="", path="", judge=lambda reports, world: {})
READY = {"event": "ready", "protocol": PROTOCOL, "torch": "2.6.0", "python": "3.11.7", "host": "h", "pid": 1}


class Written:
    """A channel whose version writes what a test gives it."""

    host, share = "h", "/share"
    rank_env: Mapping[str, str] = {"GLOO_SOCKET_IFNAME": "lo", "A": "channel"}

    def __init__(self, *lines: Any) -> None:
        self.sent: list[dict[str, Any]] = []
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for line in lines:
            self.write(line)

    def write(self, line: Any) -> None:
        self._lines.put(line if isinstance(line, bytes) else json.dumps(line).encode())

    def send(self, line: bytes) -> None:
        self.sent.append(json.loads(line))

    def lines(self) -> Iterator[bytes]:
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            yield line

    def errors(self) -> str:
        return "its last words"

    def close(self) -> None:
        self._lines.put(None)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"junk", "it broke the protocol"),
        ([], r"it broke the protocol \(a line must be an object, got list\)"),
        ({"event": "loaded"}, r"it broke the protocol \(`scenario` is missing\)"),
        ({**READY, "protocol": 7}, "speaks protocol 7, this torchskew speaks 1"),
        (
            {"event": "failed", "type": "ImportError", "text": "no _C", "where": "torch/__init__.py:3"},
            "torch can't be imported: ImportError: no _C at torch/__init__.py:3",
        ),
    ],
)
def test_an_agent_that_can_not_serve_says_why(line: Any, why: str) -> None:
    agent = Agent(Written(line), "agent of 2.6.0")
    with pytest.raises(AgentError, match=f"agent of 2.6.0: .*{why}"):
        agent.wait_ready(10)
    agent.close()


def test_a_scenario_that_does_not_load_is_an_error_of_the_agent() -> None:
    channel = Written(READY, {"event": "loaded", "scenario": "meet", "error": "SyntaxError"})
    agent = Agent(channel, "agent")
    agent.wait_ready(10)
    with pytest.raises(AgentError, match="scenario meet can't be loaded: SyntaxError"):
        agent.load(SCENARIO)
    agent.close()


def test_a_job_wins_over_the_settings_of_its_channel_and_is_sent_whole() -> None:
    channel, events = Written(READY), queue.SimpleQueue[tuple[str, RankEvent]]()
    agent = Agent(channel, "agent")
    agent.wait_ready(10)
    agent.run("7", "meet", alone(2.0, {"A": "job"}), events)
    request = channel.sent[-1]
    assert (request["op"], request["id"], request["scenario"]) == ("run", "7", "meet")
    assert decode(request["job"]).env == {"GLOO_SOCKET_IFNAME": "lo", "A": "job"}
    agent.close()


def test_every_rank_hears_its_own_events_and_the_end_of_its_agent() -> None:
    channel, events = Written(READY), queue.SimpleQueue[tuple[str, RankEvent]]()
    agent = Agent(channel, "agent")
    agent.wait_ready(10)
    for rank_id in ("1", "2"):
        agent.run(rank_id, "meet", alone(2.0), events)
    channel.write({"event": "started", "id": "1", "pid": 3})
    channel.write({"event": "exited", "id": "1", "exit": 0, "signal": None, "seconds": 1, "report": None})
    channel.write({"event": "phase", "id": "nobody's", "phase": "run"})
    channel.write(b"junk")
    heard = [events.get(timeout=PATIENCE) for _ in range(3)]
    assert [(rank_id, type(event)) for rank_id, event in heard] == [("1", Started), ("1", Exited), ("2", Gone)]
    with pytest.raises(AgentError, match="the agent is gone: it broke the protocol"):
        agent.run("3", "meet", alone(2.0), events)
    agent.close()


def test_an_agent_that_does_not_answer_is_ended_so_that_the_next_cell_gets_another() -> None:
    """Found by `make chaos`: one that was stopped kept its place, and every later cell waited for it in vain."""
    agent = Agent(Written(READY), "agent")
    agent.wait_ready(PATIENCE)
    with pytest.raises(AgentError, match="no answer in 0 s while importing"):
        agent._expect(Loaded, 0.0, "importing")
    assert agent.dead is not None
    assert "no answer in 0 s" in agent.dead


def test_a_cell_that_is_alone_has_agents_that_no_other_cell_can_end() -> None:
    runtime = FakeRuntime()
    agents = Agents(runtime)
    agents.provide({"a": Environment(version="a", runtime="venv", identity="a", handle="")})
    shared, own = Place(version="a", replica=0), Place(version="a", replica=0, alone="meet/a/guard-off/venv")
    assert agents.get(own) is not agents.get(shared)
    assert agents.get(own) is agents.get(own)
    agents.end(own)
    assert [channel._gone for channel in runtime.open_channels] == [True, False]
    agents.close()
