"""The training job from outside: start it on the nodes, let it go on, drain it, restart it, and record what it left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchskew.engine.events import Milestone
from torchskew.errors import AgentError
from torchskew.model.outcomes import Outcome
from torchskew.model.rehearsal import CheckpointFormat, RehearsalSpec
from torchskew.workflows.rehearsal import bridging, causes, step_log
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.contract import Launch, settings
from torchskew.workflows.rehearsal.group import NodeGroup, NodeSeat
from torchskew.workflows.rehearsal.observed import Commit, End, EndKind, Generation, StartAttempt, StartResult
from torchskew.workflows.rehearsal.planned import Step
from torchskew.workflows.rehearsal.questions import Questions

# A rank that was asked to leave finishes its step and its checkpoint; longer than this is no answer.
LEAVE_SECONDS = 10.0
# Fewer would not reach the kept checkpoint, more would be retrying.
MOST_STARTS = 4


class Failed(Exception):  # noqa: N818 - it ends a step of the plan, and is caught there
    """A step did not do what the plan says."""


class Skipped(Exception):  # noqa: N818 - the same
    """A step had nothing to do it with."""


@dataclass(slots=True, kw_only=True)
class Live:
    """A generation that runs. resumed: what it should load; formats: of the checkpoints that it reads and writes."""

    number: int
    step: int
    group: NodeGroup
    begun: float
    resumed: Commit | None
    folder: str
    node: int
    formats: tuple[CheckpointFormat, ...] = ()


class Training(Questions):
    """The job over its generations. deadline: of the present step of the plan; held: where the job waits."""

    def __init__(self, spec: RehearsalSpec, cluster: Cluster) -> None:
        """Start nothing yet."""
        super().__init__(spec, cluster)
        self.live: Live | None = None
        self.generations: list[Generation] = []
        self.commits: list[Commit] = []
        self.memory: dict[str, int] = {}
        self.deadline = 0.0
        self.held: int | None = None
        self._mixed_formats = spec.formats
        self._numbers = 0

    # -- the life of a generation

    def starts(self, step: Step, hold: int | None) -> Iterator[StartAttempt]:
        """Every attempt to start; where a checkpoint can't be loaded, other formats and older ones are tried.

        hold: the training step at which the job waits once it trains.

        Raises:
            Failed: no attempt led to training or to a refusal.
        """
        self.held = hold
        count = 0
        for commit, formats in self._candidates(step)[:MOST_STARTS]:
            attempt = self._try(step, commit, formats)
            generation = self.generations[-1] if self.live is None else None
            count += 1
            yield attempt
            if attempt.result is not StartResult.FAILED:
                return
            if generation is None or commit is None or generation.loaded:
                break  # it was not the checkpoint
            if step.mixed and len(formats) > 1:
                self._mixed_formats = (CheckpointFormat.PLAIN,)
        last = self.generations[-1]
        source = f"from {last.resumed.name}" if last.resumed else "afresh"
        remedy = bridging.hosts_a_store(str(last.end)) if last.bridge else ""
        raise Failed(f"the job does not start {source}, at attempt {count}: {last.end}{remedy}")

    def _candidates(self, step: Step) -> list[tuple[Commit | None, tuple[CheckpointFormat, ...]]]:
        """What to start from: the newest checkpoint in each way that may load it, then older ones."""
        formats = self._mixed_formats if step.mixed else self.spec.formats
        newest = sorted(self.commits, key=lambda commit: commit.at, reverse=True)
        if not newest:
            return [(None, formats)]
        ways = [formats]
        if len(formats) > 1 and CheckpointFormat.PLAIN in formats:
            ways.append((CheckpointFormat.PLAIN,))
        elif formats == (CheckpointFormat.DCP,) and self.spec.script is None:
            ways.append((CheckpointFormat.PARTIAL,))  # a user's script need not know it
        old = [commit for commit in newest[1:] if commit.step < newest[0].step]
        kept = [commit for commit in old if commit == self.newest_by(step.versions[0])]
        older = dict.fromkeys([*kept, *old[:1]])
        return [*((newest[0], way) for way in ways), *((commit, formats) for commit in older)]

    def _try(self, step: Step, commit: Commit | None, formats: tuple[CheckpointFormat, ...]) -> StartAttempt:
        self.launch(step.versions, commit, formats, step.number)
        assert self.live is not None
        group, checkpoint = self.live.group, commit.name if commit else None
        group.wait_until(self._patience(), lambda: _stepped(group) or group.any_ended)
        if _stepped(group):
            return StartAttempt(checkpoint=checkpoint, formats=formats, result=StartResult.TRAINS)
        group.end_within(self._patience())
        outcomes = group.outcomes()
        # Ranks of one release have nobody to refuse: their error merely happens to hold the release's number.
        refused = step.mixed and set(outcomes) == {Outcome.CLEAR}
        self.end(End(kind=EndKind.REFUSED) if refused else _failure(group))
        self._raise_if_the_machine_failed()
        result = StartResult.REFUSED if refused else StartResult.FAILED
        return StartAttempt(checkpoint=checkpoint, formats=formats, result=result, outcomes=outcomes)

    def launch(
        self, versions: Sequence[str], commit: Commit | None, formats: tuple[CheckpointFormat, ...], step: int
    ) -> None:
        """Start a generation, rank i on node i; it waits at `held`. step: number of the plan's step."""
        seats = [self.cluster.seat(node, version) for node, version in enumerate(versions)]
        folder = f"g{self._numbers + 1}"
        launch = Launch(folder=folder, hold=self.held, formats=formats, resume=commit, pace=self.spec.pace)
        self.live = self.begin(seats, launch)
        self.live.step = step

    def begin(self, seats: Sequence[NodeSeat], launch: Launch) -> Live:
        """Start the script in these seats."""
        self._numbers += 1
        number, folder = self._numbers, launch.folder
        share = f"{seats[0].agent.channel.share}/rehearsal/{self.place}{launch.place}"
        group = NodeGroup(self.scenario, self.ports, self.spec.timeout, self.spec.seed)
        common = {
            "do": "train",
            "script": self.script,
            "name": self.name,
            "settings": settings(self.spec, launch, share, number),
            "hold": _hold_text(launch.hold),
        }
        live = Live(
            number=number, step=0, group=group, begun=time.time(), resumed=launch.resume, folder=f"{share}/{folder}",
            node=seats[0].node, formats=launch.formats,
        )  # fmt: skip
        logs = f"{share}/{folder}"
        try:
            group.start_all(
                seats, lambda rank: {**common, "log": f"{logs}/rank-{rank}.jsonl"}, guard=self.guard,
                bridged=self.bridged and not launch.place,  # what a bridge did is held against controls without one
            )  # fmt: skip
        except AgentError:
            group.close()
            raise
        return live

    def end(self, end: End, *, kill: bool = False) -> None:
        """The live generation is over: record its facts and what it wrote."""
        live, self.live = self.live, None
        if live is None:
            return
        if kill:
            live.group.signal("KILL")
        live.group.end_within(LEAVE_SECONDS)
        generation = self.recorded(live, end)
        self.commits += generation.commits
        self.generations.append(generation)

    def recorded(self, live: Live, end: End, place: str = "") -> Generation:
        """A generation's record: facts of its ranks, their step logs, the checkpoints that are on the disk."""
        group = live.group
        first = group.ranks[0].seat
        seat = NodeSeat(node=live.node, version=first.version, agent=first.agent)
        if seat.agent.dead is not None:
            seat = self.cluster.seat(live.node)
        checkpoints = f"{seat.agent.channel.share}/rehearsal/{self.place}{place}/checkpoints"
        offsets = [self.cluster.clock_offset(node) for node in group.nodes]
        logs = step_log.read(*self.collect(seat, live.folder, checkpoints), group.versions, offsets)
        facts = group.facts()
        for fact in facts:
            size = fact.payload.get("kilobytes")
            if isinstance(size, int):
                self.memory[fact.declared] = max(size, self.memory.get(fact.declared, 0))
        generation = Generation(
            number=live.number, step=live.step, versions=group.versions,
            begun=live.begun, ended=time.time(), end=end, resumed=live.resumed, facts=facts,
            outcomes=group.outcomes(), lines=logs.lines, commits=logs.commits, loaded=logs.loaded,
            missing_dcp=logs.missing_dcp, bridge=group.end_bridge(),
        )  # fmt: skip
        group.close()
        return generation

    # -- while it runs

    def least(self) -> int:
        """The last training step that every rank has done."""
        return self.live.group.common_step() if self.live else 0

    def advance(self, until: int | None) -> None:
        """Let the job go on through a step and wait until all ranks are there."""
        group = self._running()
        self.release(until)
        if (
            group.wait_until(self._left(), lambda: group.common_step() >= (until or 0) or self._broken())
            and not self._broken()
        ):
            return
        self._died(f"the job did not reach step {until}")

    def release(self, until: int | None) -> None:
        """Let a waiting job go on: through this step, or to its end."""
        live, self.held = self.live, until
        if live is not None:
            seat = self.cluster.seat(live.node)
            share = seat.agent.channel.share
            path = f"{share}/rehearsal/{self.place}/hold-g{live.number}"
            self.ask(seat, {"do": "hold", "path": path, "hold": _hold_text(until)})

    def drain(self) -> None:
        """SIGTERM to every rank, as a launcher does on a change of membership; each is to leave by itself."""
        group = self._running()
        group.signal("TERM")
        seconds = self.leave_seconds
        stayed = () if group.wait_for_ends(seconds) else tuple(rank.number for rank in group.running())
        group.end_within(0.1)
        failed = [fact for fact in group.facts() if not fact.finished and fact.rank not in stayed]
        self.end(End(kind=EndKind.IGNORED_SIGTERM, ranks=stayed) if stayed else End(kind=EndKind.DRAINED))
        if stayed:
            ranks = ", ".join(str(rank) for rank in stayed)
            raise Failed(f"HANG: rank {ranks} did not leave within {seconds:.0f} s of SIGTERM; killed")
        if failed:
            self._raise_if_the_machine_failed()
            raise Failed(f"while draining: {_errors(self.generations[-1])}")

    @property
    def leave_seconds(self) -> float:
        """How long a rank may take to leave; a job with slow steps has a long timeout as well."""
        return max(LEAVE_SECONDS, self.spec.timeout)

    def finish(self, until: int | None) -> None:
        """Let the job train to its end."""
        group = self._running()
        self.release(None)
        group.wait_for_ends(self._left())
        if group.running():
            self._died(f"the job did not end after step {until}")
        if {fact.finished for fact in group.facts()} != {True}:
            self._died("the job died before its last step")
        self.end(End(kind=EndKind.FINISHED))

    def restart(self) -> None:
        """A new generation from the last checkpoint, on the same nodes, waiting where the old one would have."""
        live, versions = self._live(), self._running().versions
        live.group.end_within(self._patience())
        self.end(End(kind=EndKind.KILLED))
        # Other formats may be those that its start found not to work.
        self.launch(versions, self.newest(), live.formats, live.step)

    def died_of_a_fault(self) -> bool:
        """Whether the job has ended where it should go on; then it starts again, as after a kill."""
        broken = self.live is not None and self._broken()
        if broken:
            self.restart()
        return broken

    def newest(self) -> Commit | None:
        """The last checkpoint committed."""
        return step_log.newest(self.commits)

    def newest_by(self, version: str) -> Commit | None:
        """The last checkpoint that ranks of this release alone wrote."""
        pure = [
            commit
            for generation in self.generations
            if set(generation.versions) == {version}
            for commit in generation.commits
        ]
        return step_log.newest(pure)

    def close(self) -> None:
        """End whatever still runs."""
        if self.live is not None:
            self.live.group.close()
            self.live = None

    def _live(self) -> Live:
        if self.live is None:
            raise Skipped("the job does not run")
        return self.live

    def _running(self) -> NodeGroup:
        return self._live().group

    def _broken(self) -> bool:
        return any(not rank.finished for rank in self._running().ranks if rank.end is not None)

    def _died(self, what: str) -> None:
        group = self._running()
        group.end_within(self._patience())
        end = _failure(group)
        mixed = len(set(group.versions)) > 1
        if mixed and CheckpointFormat.PLAIN in self.spec.formats:
            self._mixed_formats = (CheckpointFormat.PLAIN,)
        self.end(end)
        self._raise_if_the_machine_failed()
        raise Failed(f"{what}: {end}")

    def _raise_if_the_machine_failed(self) -> None:
        """A job that ended badly after its bridge had, or on a full disk, says nothing about releases."""
        use = self.generations[-1].bridge
        if full := next((fact.prevented for fact in self.generations[-1].facts if fact.prevented), None):
            raise AgentError(full)
        if use is not None and use.lost is not None:
            raise AgentError(use.lost)

    def _left(self) -> float:
        return max(0.1, self.deadline - time.monotonic())


def _hold_text(hold: int | None) -> str:
    return "" if hold is None else str(hold)


def _stepped(group: NodeGroup) -> bool:
    return group.common_step() > 0 and group.all_reached(Milestone.STEP)


def _failure(group: NodeGroup) -> End:
    """The end of a group whose ranks did not end well: each distinct error once."""
    detail = causes.sentence(group.facts(), group.outcomes())
    return End(kind=EndKind.FAILED, detail=detail or "every rank left before the plan asked for it")


def _errors(generation: Generation) -> str:
    return causes.sentence(generation.facts, generation.outcomes) or "a rank left without a report"
