"""Ranks that belong together: started in warm agents, followed by their events, stopped with their stacks taken."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from torchskew.engine.agents import Agent
from torchskew.engine.events import (
    End,
    Exited,
    Gone,
    Leaving,
    Milestone,
    PhaseEntered,
    Progress,
    RankEvent,
    Refused,
    Started,
    Unreadable,
)
from torchskew.errors import AgentError
from torchskew.inside.job import JobRecord
from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Phase

# After a kill the agent reaps at once; longer than this means that the agent itself is broken.
REAP_SECONDS = 10.0
# faulthandler writes from a signal handler in milliseconds; a rank that was stopped or swapped out takes longer.
STACKS_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a rank runs: its declared version and a warm agent of it."""

    version: str
    agent: Agent


@dataclass(slots=True, kw_only=True)
class GroupRank:
    """One rank and its state.

    began: when it was forked (monotonic); pid: in its version; leaving: it has reported; step: its last one.
    """

    number: int
    seat: Seat
    id: str
    asked: bool = False
    began: float | None = None
    pid: int = 0
    phase: Phase = Phase.PROVISION
    leaving: bool = False
    step: int = 0
    milestones: set[Milestone] = field(default_factory=set)
    killed: bool = False
    unreadable: str | None = None
    end: End | None = None

    @property
    def finished(self) -> bool:
        """Whether it reached its end and reported."""
        return isinstance(self.end, Exited) and self.end.report is not None and self.end.report.finished

    def take(self, event: RankEvent) -> None:
        """Change the state as the event says."""
        match event:
            case Started(at=at, pid=pid):
                self.began, self.pid = at, pid
            case PhaseEntered(phase=phase):
                self.phase = phase
            case Leaving():
                self.leaving = True
            case Progress(milestone=milestone, step=step):
                self.milestones.add(milestone)
                self.step = step if milestone is Milestone.STEP else self.step
            case Unreadable(why=why, last=False):
                self.unreadable = why
            case Refused() | Exited() | Gone() | Unreadable():
                self.end = event


class RankGroup:
    """The ranks of one attempt or of one generation, rank 0 first."""

    def __init__(self, scenario: str) -> None:
        """Start nothing yet. scenario: the name under which the agents have loaded it."""
        self.scenario = scenario
        self.ranks: list[GroupRank] = []
        self._events: queue.SimpleQueue[tuple[str, RankEvent]] = queue.SimpleQueue()

    def add(self, seat: Seat, rank_id: str) -> GroupRank:
        """Give the next rank its seat; it is started by `start`."""
        self.ranks.append(GroupRank(number=len(self.ranks), seat=seat, id=rank_id))
        return self.ranks[-1]

    def start(self, rank: GroupRank, job: JobRecord) -> None:
        """Ask the rank's agent to fork it.

        Raises:
            AgentError: the agent is gone; nothing waits for this rank then.
        """
        rank.seat.agent.run(rank.id, self.scenario, job, self._events)
        rank.asked = True

    def running(self) -> list[GroupRank]:
        """Ranks that were asked for and have not ended."""
        return [rank for rank in self.ranks if rank.asked and rank.end is None]

    def lost(self) -> Gone | None:
        """The end of the first rank whose agent is gone."""
        return next((rank.end for rank in self.ranks if isinstance(rank.end, Gone)), None)

    def wait_until(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Take events until done() or the time is over; returns done()."""
        until = time.monotonic() + seconds
        while not done():
            try:
                rank_id, event = self._events.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return done()
            for rank in self.ranks:
                if rank.id == rank_id:
                    rank.take(event)
        return True

    def wait_for_ends(self, seconds: float) -> bool:
        """Wait until every rank has ended; False when the time is over before."""
        return self.wait_until(seconds, lambda: not self.running())

    def stop(self, *, keep: bool = False) -> bool:
        """Take the stacks of every rank that still runs, then kill it; False when one was not reaped.

        keep: leave it alive instead, as it hangs.
        """
        for rank in self.running():
            with suppress(AgentError):  # its rank ends with `Gone`
                rank.seat.agent.stacks(rank.id)
        self.wait_for_ends(STACKS_SECONDS)
        for rank in self.running():
            rank.killed = True
            if keep:
                with suppress(AgentError):
                    rank.seat.agent.hold(rank.id)
        if not keep:
            self.signal("KILL")
        return self.wait_for_ends(REAP_SECONDS)

    def let_go(self) -> None:
        """Kill the ranks that stayed alive after their end."""
        for rank in self.ranks:
            if isinstance(rank.end, Exited) and rank.end.held:
                with suppress(AgentError):  # its ranks died with it
                    rank.seat.agent.signal(rank.id, "KILL")

    def signal(self, name: str, number: int | None = None) -> None:
        """Send KILL, STOP, CONT or TERM to a rank, or to all that have not ended."""
        for rank in self.running():
            if number in (None, rank.number):
                with suppress(AgentError):  # its rank ends with `Gone`
                    rank.seat.agent.signal(rank.id, name)


def rank_facts(rank: GroupRank, *, otherwise: str | None) -> RankFacts:
    """What is known of a rank. otherwise: why the machine kept it from ending, if it has not ended."""
    agent = rank.seat.agent
    ready = agent.wait_ready() if agent.dead is None else None
    facts_of_agent = RankFacts(
        rank=rank.number,
        declared=rank.seat.version,
        torch=ready.torch if ready else None,
        git_version=ready.git_version if ready else None,
        python=ready.python if ready else None,
        numpy=ready.numpy if ready else None,
        host=ready.host if ready else None,
    )
    match rank.end:
        case None:
            return replace(facts_of_agent, machine=otherwise)
        case Refused(why=why) | Gone(why=why) | Unreadable(why=why):
            return replace(facts_of_agent, machine=why)
        case Exited():
            exited = _exited(facts_of_agent, rank, rank.end)
            return exited if rank.unreadable is None else replace(facts_of_agent, machine=rank.unreadable)


def _exited(facts_of_agent: RankFacts, rank: GroupRank, end: Exited) -> RankFacts:
    """The facts of a rank that ended by itself or was killed at its deadline."""
    facts = replace(
        facts_of_agent,
        phase=_last_phase(rank),
        seconds=end.seconds,
        exit=end.exit,
        signal=None if rank.killed else end.signal,
        killed=rank.killed and not rank.finished,
        log=end.log,
        stacks=end.stacks,
        inside=rank.seat.agent.channel.look_inside(rank.pid) if end.held else "",
    )
    report = end.report
    if report is None:
        return facts
    return replace(
        facts,
        torch=report.torch or facts_of_agent.torch,
        git_version=report.git_version or facts_of_agent.git_version,
        python=report.python or facts_of_agent.python,
        numpy=report.numpy or facts_of_agent.numpy,
        host=report.host or facts_of_agent.host,
        phase=report.phase or facts.phase,
        phases=report.phases,
        error=report.error,
        error_after=report.error_after,
        unsupported=report.unsupported,
        prevented=report.prevented,
        finished=report.finished,
        payload=report.payload,
        slow_imports=report.slow_imports,
    )


def _last_phase(rank: GroupRank) -> Phase:
    """Where a rank without a report was: once forked it runs, even if it entered no phase."""
    if rank.leaving:
        return Phase.TEARDOWN
    return Phase.RUN if rank.phase is Phase.PROVISION else rank.phase
