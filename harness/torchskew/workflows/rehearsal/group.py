"""Ranks started together on nodes: their events, their progress, their end, and the facts of each."""

from __future__ import annotations

import itertools
import json
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torchskew.engine.agents import Agent, Event
from torchskew.engine.attempt import exited
from torchskew.engine.ports import Ports
from torchskew.errors import AgentError
from torchskew.model.cells import Cell
from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Outcome
from torchskew.planning.scenario import Scenario

# A killed rank is reaped at once; longer than this means that its agent is broken.
REAP_SECONDS = 10.0
# faulthandler writes stacks in milliseconds; a rank that was stopped or swapped takes longer.
STACKS_SECONDS = 0.5
_IDS = itertools.count()


@dataclass(slots=True, kw_only=True)
class Member:
    """One rank of a group and what is known of it. step: the last one it told; events: counts by name."""

    rank: int
    node: int
    version: str
    agent: Agent
    id: str
    step: int = 0
    phase: str = "provision"
    killed: bool = False
    final: Event | None = None
    events: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a rank is to run: a node's number, its declared version, its agent."""

    node: int
    version: str
    agent: Agent


class Group:
    """Ranks that belong together. The lease of their port ends with `close`."""

    def __init__(self, scenario: Scenario, ports: Ports, timeout: float, seed: int = 0) -> None:
        """Start nothing yet. timeout: seconds given to the process group."""
        self.scenario, self.timeout, self.seed = scenario, timeout, seed
        self.members: list[Member] = []
        self._events: queue.SimpleQueue[tuple[str, Event]] = queue.SimpleQueue()
        self._stack = ExitStack()
        self.port = self._stack.enter_context(ports.lease())

    def start(self, seats: Sequence[Seat], params: Callable[[int], Mapping[str, Any]], *, guard: str | None) -> None:
        """Start a rank in each seat, rank 0 first. params: by rank. guard: its policy, or None for without."""
        for rank, seat in enumerate(seats):
            seat.agent.load(self.scenario)
            name = f"rehearsal {next(_IDS)}"
            self.members.append(Member(rank=rank, node=seat.node, version=seat.version, agent=seat.agent, id=name))
        env = {"TORCHSKEW_GUARD_POLICY": guard} if guard else {}
        for one in self.members:
            job = {
                "rank": one.rank,
                "world_size": len(seats),
                "host": self.members[0].agent.channel.host,
                "port": self.port,
                "timeout": self.timeout,
                "env": env,
                "guard": guard is not None,
                "variant": None,
                "params": dict(params(one.rank)),
                "skip": {},
                "share": one.agent.channel.share,
                "skew": [seat.version for seat in seats],
                "seed": self.seed,
                "check_port": False,
            }
            one.agent.run(one.id, self.scenario.name, job, self._events)

    def open(self) -> list[Member]:
        """Ranks that have not ended."""
        return [one for one in self.members if one.final is None]

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Take events until done() or the time is over; returns done()."""
        until = time.monotonic() + seconds
        while not done():
            try:
                rank_id, event = self._events.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return done()
            self._take(rank_id, event)
        return True

    def ended(self, seconds: float) -> bool:
        """Wait until every rank has ended; False when time is over before."""
        return self.wait(seconds, lambda: not self.open())

    def settle(self, seconds: float) -> None:
        """Wait until every rank has ended; what has not by then leaves its stacks and is killed."""
        if self.ended(seconds):
            return
        for one in self.open():
            one.killed = True
            self._send(one, lambda one=one: one.agent.stacks(one.id))  # type: ignore[misc]
        self.wait(STACKS_SECONDS, lambda: not self.open())
        self.signal("KILL")
        self.ended(REAP_SECONDS)

    def signal(self, name: str, rank: int | None = None) -> None:
        """Send KILL, STOP, CONT or TERM to a rank, or to all that have not ended."""
        for one in self.open():
            if rank is None or one.rank == rank:
                self._send(one, lambda one=one: one.agent.signal(one.id, name))  # type: ignore[misc]

    def least(self) -> int:
        """The last step that every rank has told."""
        return min((one.step for one in self.members), default=0)

    def told(self, event: str) -> bool:
        """Whether every rank has told this event."""
        return all(one.events.get(event) for one in self.members)

    def facts(self) -> tuple[RankFacts, ...]:
        """What is known of every rank, in order."""
        return tuple(facts_of(one) for one in self.members)

    def outcomes(self) -> tuple[Outcome, ...]:
        """The class of every rank, by the rules that cells are judged by."""
        from torchskew.judging.judge import outcome

        versions = tuple(one.version for one in self.members)
        cell = Cell(scenario="rehearsal", skew=versions, runtime="", timeout=self.timeout)
        group = self.facts()
        return tuple(outcome(one, cell, group, None) for one in group)

    def payload(self, rank: int = 0) -> Mapping[str, Any]:
        """What a rank answered; AgentError with its error when it did not get that far."""
        facts = facts_of(self.members[rank])
        if not facts.finished:
            why = facts.error.text if facts.error else facts.machine or facts.signal or "no answer"
            raise AgentError(f"node {self.members[rank].node}: {why}")
        return facts.payload

    def close(self) -> None:
        """Kill what is left and give the port back."""
        self.signal("KILL")
        self.ended(REAP_SECONDS)
        self._stack.close()

    def _take(self, rank_id: str, event: Event) -> None:
        one = next((each for each in self.members if each.id == rank_id), None)
        if one is None:
            return
        if event.kind == "phase":
            _note(one, str(event.fields.get("phase")))
        elif event.kind in ("exited", "refused", "gone"):
            one.final = event

    def _send(self, one: Member, order: Callable[[], None]) -> None:
        """An agent that is gone has told so, or will: its rank ends with `gone`."""
        try:
            order()
        except AgentError:
            one.events["agent lost"] = 1


def _note(one: Member, text: str) -> None:
    """A phase by its name, or what the script said in its step log."""
    if not text.startswith("{"):
        one.phase = text
        return
    told = json.loads(text)
    name = str(told.get("event"))
    one.events[name] = one.events.get(name, 0) + 1
    if name == "step":
        one.step = int(told.get("step", 0))


def facts_of(one: Member) -> RankFacts:
    """The facts of a rank from its last event."""
    known: dict[str, Any] = {"rank": one.rank, "declared": one.version}
    if one.final is None or one.final.kind != "exited":
        fields = one.final.fields if one.final else {}
        return RankFacts(**known, machine=str(fields.get("why", "it never ended")))
    if one.agent.dead is None:
        ready = one.agent.wait_ready()
        known |= {"torch": ready.torch, "host": ready.host}
    return exited(known, one.final.fields, phase=one.phase, killed=one.killed)
