"""One attempt at a cell: lease a port, start its ranks in warm agents, gather their facts, kill what hangs."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torchskew.engine.agents import Agent, Agents, Event
from torchskew.engine.ports import Ports
from torchskew.errors import AgentError
from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt, ErrorFacts, RankFacts
from torchskew.model.outcomes import Guard, Kind, Phase
from torchskew.planning.plan import deadline
from torchskew.planning.scenario import Scenario

# After a kill: the agent reaps at once; longer than this means that the agent itself is broken.
REAP_SECONDS = 10.0
# A rank that waits longer than this does no work: its cell no longer counts against -j. Where more than this many
# processes per processor want to run, waiting and working look alike: then nobody gives his place away, or every
# cell of a plan would be open at once, and groups would miss their timeouts because of each other.
WAITING_AFTER = 0.3
BUSY_PER_CPU = 4
LOAD_FILE = Path("/proc/loadavg")
# A rank that has reported is ending its interpreter, which is work; many that end at once share the processors.
LEAVING, LEAVE_SECONDS = "exit", 10.0
# Ranks of a group that began further apart than this share of the timeout (and this many seconds at least, or it
# would be noise) did not get the same chance: on a machine with too much to do, their failure says nothing.
LATE_SHARE, LATE_LEAST = 0.25, 1.0
# faulthandler writes from a signal handler in milliseconds; a stopped or swapped rank may take longer.
STACKS_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class _Rank:
    """What is known of a rank so far."""

    rank: int
    version: str
    agent: Agent
    id: str
    phase: str = "provision"
    began: float = 0.0
    killed: bool = False
    final: Event | None = None


@dataclass(slots=True, kw_only=True)
class Trial:
    """One attempt in progress. waits: called once when every rank of it merely waits."""

    cell: Cell
    scenario: Scenario
    agents: Agents
    ports: Ports
    seed: int
    number: int
    waits: Callable[[], None]
    skip: dict[str, str] = field(default_factory=dict)
    _events: queue.SimpleQueue[tuple[str, Event]] = field(default_factory=queue.SimpleQueue)
    _ranks: list[_Rank] = field(default_factory=list)
    _provision: float = 0.0

    def run(self) -> Attempt:
        """The facts of every rank. A machine's fault is in `fault`, never raised.

        Raises:
            MachineError: only where no attempt could be made at all (no port is free).
        """
        begun = start = time.monotonic()
        fault = None
        try:
            with ExitStack() as stack:
                self._prepare()
                port = stack.enter_context(self.ports.lease())
                start = time.monotonic()
                self._provision = start - begun
                if not self._lacks_all():
                    self._run_ranks(port)
        except AgentError as error:
            fault = str(error)
            self._kill_all()
        self._forget()
        ranks = tuple(self._facts(rank, fault) for rank in self._ranks) or self._unstarted(fault)
        if fault is None and (late := self._late(ranks)):
            ranks = tuple(replace(facts, machine=facts.machine or late) for facts in ranks)
        fault = fault or next((facts.machine for facts in ranks if facts.machine), None)
        return Attempt(number=self.number, ranks=ranks, seconds=time.monotonic() - start, fault=fault)

    def _late(self, ranks: tuple[RankFacts, ...]) -> str | None:
        """Why a failed group says nothing: the machine began its ranks too far apart."""
        began = [rank.began for rank in self._ranks if rank.began]
        if self.cell.kind is not Kind.GROUP or len(began) < len(ranks) or all(facts.finished for facts in ranks):
            return None
        spread = max(began) - min(began)
        if spread <= max(LATE_LEAST, LATE_SHARE * self.cell.timeout):
            return None
        last = began.index(max(began))
        return f"rank {last} began {spread:.1f} s after the first one: this machine has too much to do; use fewer -j"

    def _prepare(self) -> None:
        seen: dict[str, int] = {}
        for rank, version in enumerate(self.cell.skew):
            replica = seen[version] = seen.get(version, -1) + 1
            agent = self.agents.get(version, replica)
            for case, why in agent.load(self.scenario).items():
                self.skip.setdefault(case, f"{version}: {why}")
            self._ranks.append(_Rank(rank=rank, version=version, agent=agent, id=self.agents.new_id()))

    def _lacks_all(self) -> bool:
        return "*" in self.skip

    def _run_ranks(self, port: int) -> None:
        """All at once, or one after another: a handover's reader starts when its writer has ended well."""
        if self.cell.kind is not Kind.HANDOVER:
            self._start(self._ranks, port)
            self._gather(self._ranks)
            return
        for rank in self._ranks:
            self._start([rank], port)
            self._gather([rank])
            report = rank.final.fields.get("report") if rank.final else None
            if not report or not report.get("finished"):
                return

    def _start(self, ranks: list[_Rank], port: int) -> None:
        for rank in ranks:
            rank.agent.run(rank.id, self.cell.scenario, self._job(rank, port), self._events)

    def _job(self, rank: _Rank, port: int) -> Mapping[str, Any]:
        cell, variant = self.cell, self.cell.variant
        own = dict(variant.rank_env.get(rank.rank, {})) if variant else {}
        return {
            "rank": rank.rank,
            "world_size": cell.world_size,
            "host": self._ranks[0].agent.channel.host,
            "port": port,
            "timeout": cell.timeout,
            "env": {**(variant.env if variant else {}), **own},
            "guard": guarded(cell.guard, rank.rank),
            "variant": variant.name if variant else None,
            "params": dict(variant.params) if variant else {},
            "skip": self.skip,
            "share": self._share(rank),
            "skew": list(cell.skew),
            "seed": self.seed,
            "check_port": rank.rank == 0 and cell.kind is Kind.GROUP,
        }

    def _gather(self, ranks: list[_Rank]) -> None:
        """Wait for every rank's end; at the deadline take all stacks, then kill what is left."""
        ids = {rank.id: rank for rank in ranks}
        until = time.monotonic() + deadline(self.cell)
        while _open(ids) and time.monotonic() < until:
            self._wait(ids, min(WAITING_AFTER, until - time.monotonic()))
            if all(rank.began for rank in _open(ids)) and not busy():
                break
        if _open(ids):
            self.waits()
            self._wait(ids, until - time.monotonic())
        if any(rank.phase == LEAVING for rank in _open(ids)):
            self._wait(ids, LEAVE_SECONDS)
        for rank in _open(ids):
            rank.agent.stacks(rank.id)
        self._wait(ids, STACKS_SECONDS)
        for rank in _open(ids):
            rank.killed = True
            rank.agent.signal(rank.id, "KILL")
        self._wait(ids, REAP_SECONDS)
        if left := _open(ids):
            raise AgentError(f"{left[0].agent.name}: a killed rank was not reaped in {REAP_SECONDS:.0f} s")

    def _wait(self, ids: Mapping[str, _Rank], seconds: float) -> None:
        until = time.monotonic() + seconds
        while _open(ids):
            try:
                rank_id, event = self._events.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            if rank_id in ids:
                _take(ids[rank_id], event)

    def _forget(self) -> None:
        """What the ranks shared is of no use any more, and may be large."""
        if self._ranks and self._ranks[0].agent.dead is None:
            self._ranks[0].agent.forget(self._share(self._ranks[0]))

    def _share(self, rank: _Rank) -> str:
        return f"{rank.agent.channel.share}/{self._ranks[0].id}"

    def _kill_all(self) -> None:
        """The attempt is lost; its other ranks must not outlive it."""
        for rank in self._ranks:
            if rank.began and rank.final is None and rank.agent.dead is None:
                rank.agent.signal(rank.id, "KILL")

    def _unstarted(self, fault: str | None) -> tuple[RankFacts, ...]:
        names = enumerate(self.cell.skew)
        return tuple(RankFacts(rank=rank, declared=name, machine=fault) for rank, name in names)

    def _facts(self, rank: _Rank, fault: str | None) -> RankFacts:
        ready = rank.agent.wait_ready() if rank.agent.dead is None else None
        known: dict[str, Any] = {"rank": rank.rank, "declared": rank.version}
        known["phases"] = {Phase.PROVISION.value: self._provision}
        if ready:
            known |= {
                "torch": ready.torch,
                "git_version": ready.git_version,
                "python": ready.python,
                "host": ready.host,
            }
        if self._lacks_all():
            return RankFacts(**known, phase=Phase.RUN, unsupported=self.skip["*"])
        if rank.final is None:
            return RankFacts(**known, machine=fault)
        if rank.final.kind == "refused":
            return RankFacts(**known, machine=str(rank.final.fields.get("why")))
        return exited(known, rank.final.fields, phase=rank.phase, killed=rank.killed)


def guarded(guard: Guard, rank: int) -> bool:
    """Whether this rank installs the guard."""
    return {Guard.OFF: False, Guard.ON: True, Guard.HOST: rank == 0, Guard.JOINERS: rank > 0}[guard]


def busy() -> bool:
    """Whether many more processes want to run than there are processors; False where nobody says."""
    try:
        running = int(LOAD_FILE.read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return False
    return running > BUSY_PER_CPU * (os.cpu_count() or 1)


def _open(ids: Mapping[str, _Rank]) -> list[_Rank]:
    return [rank for rank in ids.values() if rank.final is None]


def _take(rank: _Rank, event: Event) -> None:
    if event.kind == "started":
        rank.began = event.at
    elif event.kind == "phase":
        rank.phase = str(event.fields.get("phase"))
    elif event.kind in ("exited", "refused"):
        rank.final = event
    elif event.kind == "gone":
        raise AgentError(str(event.fields["why"]))


def exited(known: dict[str, Any], fields: Mapping[str, Any], *, phase: str, killed: bool) -> RankFacts:
    """Facts from an `exited` event; a report with other types than the protocol's says so instead of breaking us.

    known: what the engine knows of the rank. phase: the last that it told; killed: by us, at its deadline.
    """
    report = fields.get("report") or {}
    took = known.get("phases") or {}
    try:
        error = report.get("error")
        return RankFacts(
            **{key: value for key, value in known.items() if key != "phases"}
            | {key: report[key] for key in ("torch", "git_version", "python", "host") if report.get(key)},
            phase=Phase(report.get("phase") or {"provision": "run", LEAVING: "teardown"}.get(phase, phase)),
            seconds=float(fields.get("seconds") or 0.0),
            phases={**took, **{str(name): float(each) for name, each in (report.get("phases") or {}).items()}},
            error=ErrorFacts(type=str(error["type"]), text=str(error["text"])) if error else None,
            error_after=float(report["error_after"]) if report.get("error_after") is not None else None,
            unsupported=report.get("unsupported"),
            exit=fields.get("exit"),
            signal=None if killed else fields.get("signal"),
            killed=killed and not report.get("finished"),
            finished=bool(report.get("finished")),
            payload=report.get("payload") or {},
            log=str(fields.get("log") or ""),
            stacks=str(fields.get("stacks") or ""),
        )
    except (TypeError, ValueError, KeyError, AttributeError) as problem:
        return RankFacts(**known, machine=f"the rank's report can't be read: {problem}")
