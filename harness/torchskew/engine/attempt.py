"""One attempt at a cell: lease a port, start its ranks in warm agents, gather their facts, kill what hangs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from torchskew.engine.agents import Agents, Place, place_of
from torchskew.engine.bridge import hosted
from torchskew.engine.ports import Leases
from torchskew.engine.rank_group import REAP_SECONDS, GroupRank, RankGroup, Seat, rank_facts
from torchskew.errors import AgentError
from torchskew.inside.job import JobRecord
from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.outcomes import Guard, Kind, Phase, Store
from torchskew.planning.plan import deadline
from torchskew.planning.scenario import Scenario

# A rank that waits longer than this does no work: its cell no longer counts against -j. Where more than this many
# processes per processor want to run, waiting and working look alike: then no cell gives its slot away, or every
# cell of a plan would be open at once, and groups would miss their timeouts because of each other.
WAITING_AFTER = 0.3
BUSY_PER_CPU = 4
LOAD_FILE = Path("/proc/loadavg")
# A rank that has reported is ending its interpreter, which is work; many that end at once share the processors.
LEAVE_SECONDS = 10.0
# Ranks of a group that began further apart than this share of the timeout (and this many seconds at least, or it
# would be noise) did not get the same chance: on a machine with too much to do, their failure says nothing.
LATE_SHARE, LATE_LEAST = 0.25, 1.0
# In `skip`: the version lacks everything that the scenario is about.
_WHOLE_SCENARIO = "*"


class Crew(Protocol):
    """The agents of one attempt's ranks, which may be on several machines."""

    @property
    def see_files(self) -> bool:
        """Whether ranks see the files of the machine that they run on."""

    def of(self, rank: int) -> Agents:
        """The agents of the machine on which this rank runs."""

    def new_id(self) -> str:
        """An id that no other rank on any of these machines has."""


@dataclass(slots=True, kw_only=True)
class CellAttempt:
    """One attempt in progress. waits: called once when every rank merely waits; skip: case -> why, filled here.

    alone: in agents of its own, because earlier attempts failed: another cell may have ended the agents they shared.
    """

    cell: Cell
    scenario: Scenario
    agents: Crew
    ports: Leases
    seed: int
    number: int
    waits: Callable[[], None]
    alone: bool = False
    skip: dict[str, str] = field(default_factory=dict)
    _places: list[tuple[int, Place]] = field(default_factory=list)
    _group: RankGroup = field(init=False)
    _provision_seconds: float = 0.0

    def __post_init__(self) -> None:
        """No rank has a seat yet."""
        self._group = RankGroup(self.cell.scenario)

    def run(self) -> Attempt:
        """The facts of every rank. A machine's fault is in `fault`, never raised.

        Raises:
            MachineError: only where no attempt could be made at all (no port is free).
        """
        begun = started = time.monotonic()
        fault = None
        try:
            self._take_seats()
            with self.ports.lease() as port:
                started = time.monotonic()
                self._provision_seconds = started - begun
                if _WHOLE_SCENARIO not in self.skip:
                    with self._store(port):
                        self._run_ranks(port)
        except AgentError as error:
            fault = str(error)
            self._group.signal("KILL")  # the attempt is lost; its other ranks must not outlive it
        if not self.scenario.place.keep:
            self._remove_share()
        ranks = self._all_facts(fault)
        if not self.scenario.place.keep:
            self._end_own_agents()
        if why := self._says_nothing(ranks, fault):
            ranks = tuple(replace(facts, machine=facts.machine or why) for facts in ranks)
        fault = fault or next((facts.machine for facts in ranks if facts.machine), None)
        return Attempt(number=self.number, ranks=ranks, seconds=time.monotonic() - started, fault=fault)

    def let_go(self) -> None:
        """End what was kept alive: the group is as it should be, or it is tried again."""
        self._group.let_go()
        self._remove_share()
        self._end_own_agents()

    def _says_nothing(self, ranks: tuple[RankFacts, ...], fault: str | None) -> str | None:
        """Why no rank's end says anything about its version; None where each of them speaks for itself."""
        if fault is None:
            return self._late(ranks)
        return fault if self.cell.store is Store.BRIDGE else None  # the bridge may have been lost with its agent

    def _late(self, ranks: tuple[RankFacts, ...]) -> str | None:
        """Why a failed group says nothing: the machine began its ranks too far apart."""
        began = [rank.began for rank in self._group.ranks if rank.began is not None]
        if self.cell.kind is not Kind.GROUP or len(began) < len(ranks) or all(facts.finished for facts in ranks):
            return None
        spread = max(began) - min(began)
        if spread <= max(LATE_LEAST, LATE_SHARE * self.cell.timeout):
            return None
        last = began.index(max(began))
        return f"rank {last} began {spread:.1f} s after the first one: this machine has too much to do; use fewer -j"

    def _store(self, port: int) -> AbstractContextManager[object]:
        """The bridge at which the ranks meet; nothing where rank 0 hosts their store."""
        if self.cell.store is Store.STOCK:
            return nullcontext()
        return hosted(self._group.ranks[0].seat, self.agents.new_id(), port)

    def _take_seats(self) -> None:
        """A warm agent for every rank, which has loaded the scenario; what any of them lacks is in `skip`."""
        replicas: dict[str, int] = {}
        for rank, (version, environment) in enumerate(zip(self.cell.skew, self.cell.provided, strict=True)):
            replica = replicas[environment] = replicas.get(environment, -1) + 1
            place = place_of(self.scenario, environment, replica)
            if self.alone:
                place = replace(place, alone=self.cell.id)
                self._places.append((rank, place))
            agent = self.agents.of(rank).get(place)
            for case, why in agent.load(self.scenario).items():
                self.skip.setdefault(case, f"{version}: {why}")
            self._group.add(Seat(version=version, agent=agent), self.agents.new_id())

    def _run_ranks(self, port: int) -> None:
        """All at once, or one after another: a handover's reader starts when its writer has ended well."""
        if self.cell.kind is not Kind.HANDOVER:
            for rank in self._group.ranks:
                self._group.start(rank, self._job(rank, port))
            self._await_ends()
            return
        for rank in self._group.ranks:
            self._group.start(rank, self._job(rank, port))
            self._await_ends()
            if not rank.finished:
                return

    def _job(self, rank: GroupRank, port: int) -> JobRecord:
        cell, variant, place = self.cell, self.cell.variant, self.scenario.place
        rank_env = dict(variant.rank_env.get(rank.number, {})) if variant else {}
        return JobRecord(
            rank=rank.number,
            world_size=cell.world_size,
            host=self._group.ranks[0].seat.agent.channel.host,
            port=port,
            timeout=cell.timeout,
            env={**(variant.env if variant else {}), **rank_env},
            guard=guarded(cell.guard, rank.number),
            variant=variant.name if variant else None,
            params=dict(variant.params) if variant else {},
            skip=self.skip,
            share=self._share(rank),
            skew=list(cell.skew),
            seed=self.seed,
            check_port=rank.number == 0 and cell.kind is Kind.GROUP and cell.store is Store.STOCK,
            paths=list(place.paths),
            cwd=place.cwd,
            ranks_per_node=place.ranks_per_node,
            keep=place.keep,
            data=list(place.data) if self.agents.see_files else [],
            bridge=cell.store is Store.BRIDGE,
        )

    def _await_ends(self) -> None:
        """Wait for the end of every rank that was started; at the deadline take all stacks, then kill what is left."""
        group, until = self._group, time.monotonic() + deadline(self.cell)
        while group.running() and time.monotonic() < until:
            self._wait(min(WAITING_AFTER, until - time.monotonic()))
            if all(rank.began is not None for rank in group.running()) and not busy():
                break
        if group.running():
            if not self.scenario.works:
                self.waits()
            self._wait(until - time.monotonic())
        if any(rank.leaving for rank in group.running()):
            self._wait(LEAVE_SECONDS)
        reaped = group.stop(keep=self.scenario.place.keep)
        self._raise_if_lost()
        if not reaped:
            agent = group.running()[0].seat.agent
            why = f"{agent.name}: a killed rank was not reaped in {REAP_SECONDS:.0f} s"
            agent.give_up(why)
            raise AgentError(why)

    def _wait(self, seconds: float) -> None:
        group = self._group
        group.wait_until(seconds, lambda: not group.running() or group.lost() is not None)
        self._raise_if_lost()

    def _raise_if_lost(self) -> None:
        """An agent that is gone ends the attempt: what its ranks did says nothing about the versions."""
        if lost := self._group.lost():
            raise AgentError(lost.why)

    def _remove_share(self) -> None:
        """What the ranks of each machine shared is of no use any more, and may be large."""
        first_there = {id(self.agents.of(rank.number)): rank for rank in reversed(self._group.ranks)}
        for rank in first_there.values():
            if rank.seat.agent.dead is None:
                rank.seat.agent.forget(self._share(rank))

    def _end_own_agents(self) -> None:
        for rank, place in dict.fromkeys(self._places):
            self.agents.of(rank).end(place)
        self._places.clear()

    def _share(self, rank: GroupRank) -> str:
        return f"{rank.seat.agent.channel.share}/{self._group.ranks[0].id}"

    def _all_facts(self, fault: str | None) -> tuple[RankFacts, ...]:
        """One for each rank of the cell, also for those without a seat because an agent could not be started."""
        seated = [self._facts(rank, fault) for rank in self._group.ranks]
        rest = list(enumerate(self.cell.skew))[len(seated) :]
        return (*seated, *(RankFacts(rank=number, declared=name, machine=fault) for number, name in rest))

    def _facts(self, rank: GroupRank, fault: str | None) -> RankFacts:
        facts = rank_facts(rank, otherwise=fault)
        facts = replace(facts, phases={Phase.PROVISION.value: self._provision_seconds, **facts.phases})
        if why := self.skip.get(_WHOLE_SCENARIO):
            return replace(facts, phase=Phase.RUN, unsupported=why, machine=None)
        return facts


def guarded(guard: Guard, rank: int) -> bool:
    """Whether this rank installs the guard."""
    return {Guard.OFF: False, Guard.ON: True, Guard.HOST: rank == 0, Guard.JOINERS: rank > 0}[guard]


def busy() -> bool:
    """Whether many more processes want to run than there are processors; False where the kernel does not say."""
    try:
        running = int(LOAD_FILE.read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return False
    return running > BUSY_PER_CPU * (os.cpu_count() or 1)
