"""The ranks of a rehearsal's job or question: on which nodes, with which jobs, how far they are, what came of them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from torchskew.engine.bridge import Bridge
from torchskew.engine.events import Milestone
from torchskew.engine.ports import Ports
from torchskew.engine.rank_group import REAP_SECONDS, RankGroup, Seat, rank_facts
from torchskew.errors import AgentError
from torchskew.inside.job import JobRecord
from torchskew.judging.judge import outcome
from torchskew.model.cells import Cell
from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Outcome
from torchskew.planning.scenario import Scenario
from torchskew.workflows.rehearsal.observed import BridgeUse

_IDS = itertools.count()
# The line that a bridge writes of each client that it has recognized.
_CLIENT = re.compile(r" speaks (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeat(Seat):
    """Where a rank runs in a cluster. node: its number."""

    node: int


class NodeGroup(RankGroup):
    """Ranks on nodes. The lease of their port ends with `close`, and so does their bridge."""

    def __init__(self, scenario: Scenario, ports: Ports, timeout: float, seed: int = 0) -> None:
        """Start nothing yet. timeout: seconds given to the process group."""
        super().__init__(scenario.name)
        self._scenario, self._timeout, self._seed = scenario, timeout, seed
        self._stack = ExitStack()
        self.nodes: tuple[int, ...] = ()
        self.port = self._stack.enter_context(ports.lease())
        self._bridge: Bridge | None = None
        self._use: BridgeUse | None = None

    def start_all(
        self,
        seats: Sequence[NodeSeat],
        params: Callable[[int], Mapping[str, Any]],
        *,
        guard: str | None,
        bridged: bool = False,
    ) -> None:
        """Start a rank in each seat, rank 0 first. params: by rank. guard: its policy, or None for without.

        bridged: they meet at a bridge beside rank 0, and without the guard, which would refuse what a bridge is for.
        """
        guard = None if bridged else guard
        self.nodes = tuple(seat.node for seat in seats)
        for seat in seats:
            seat.agent.load(self._scenario)
            self.add(seat, f"rehearsal {next(_IDS)}")
        if bridged:
            self._bridge = Bridge(seats[0], f"bridge {next(_IDS)}", self.port)
        env = {"TORCHSKEW_GUARD_POLICY": guard} if guard else {}
        for rank in self.ranks:
            job = JobRecord(
                rank=rank.number,
                world_size=len(seats),
                host=seats[0].agent.channel.host,
                port=self.port,
                timeout=self._timeout,
                env=env,
                guard=guard is not None,
                variant=None,
                params=dict(params(rank.number)),
                skip={},
                share=rank.seat.agent.channel.share,
                skew=[seat.version for seat in seats],
                seed=self._seed,
                check_port=False,
                bridge=bridged,
            )
            self.start(rank, job)

    def end_within(self, seconds: float) -> None:
        """Wait until every rank has ended; what has not by then leaves its stacks and is killed."""
        if not self.wait_for_ends(seconds):
            self.stop()

    @property
    def any_ended(self) -> bool:
        """Whether a rank has ended."""
        return any(rank.end is not None for rank in self.ranks)

    @property
    def versions(self) -> tuple[str, ...]:
        """The declared version of each rank."""
        return tuple(rank.seat.version for rank in self.ranks)

    def common_step(self) -> int:
        """The last training step that every rank has done."""
        return min((rank.step for rank in self.ranks), default=0)

    def all_reached(self, milestone: Milestone) -> bool:
        """Whether every rank has reported this milestone."""
        return all(milestone in rank.milestones for rank in self.ranks)

    def facts(self) -> tuple[RankFacts, ...]:
        """What is known of every rank, in order."""
        facts = tuple(rank_facts(rank, otherwise="it never ended") for rank in self.ranks)
        lost = self.bridge_lost()
        if lost is None:
            return facts
        # What a rank without its store does says nothing about its release.
        return tuple(fact if fact.finished else replace(fact, machine=fact.machine or lost) for fact in facts)

    def bridge_lost(self) -> str | None:
        """Which bridge ended before its ranks, and why; None while it serves, and where there is none."""
        if self._bridge is None:
            return self._use.lost if self._use else None
        lost = self._bridge.lost()
        return None if lost is None else lost.partition("\n")[0]

    def end_bridge(self) -> BridgeUse | None:
        """Stop the bridge; what is known of it, or None where there is none."""
        if self._bridge is not None:
            lost, log = self.bridge_lost(), self._bridge.stop()
            self._bridge, self._use = None, BridgeUse(clients=Counter(_CLIENT.findall(log)), lost=lost)
        return self._use

    def outcomes(self) -> tuple[Outcome, ...]:
        """The class of every rank, by the rules that cells are judged by."""
        cell = Cell(scenario="rehearsal", skew=self.versions, runtime="", timeout=self._timeout)
        group = self.facts()
        return tuple(outcome(facts, cell, group, None) for facts in group)

    def payload(self) -> Mapping[str, Any]:
        """What rank 0 answered.

        Raises:
            AgentError: it did not get that far, with its error.
        """
        facts = self.facts()[0]
        if not facts.finished:
            why = facts.error.text if facts.error else facts.machine or facts.signal or "no answer"
            raise AgentError(f"{self.ranks[0].seat.agent.name}: {why}")
        return facts.payload

    def close(self) -> None:
        """Kill what is left and give the port back."""
        self.signal("KILL")
        self.wait_for_ends(REAP_SECONDS)
        self.end_bridge()
        self._stack.close()
