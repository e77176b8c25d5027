"""The training job from outside: start it on the nodes, let it go on, drain it, restart it, and keep what it left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchskew.model.outcomes import Json, Outcome
from torchskew.workflows.rehearsal import logs
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.group import Group, Seat
from torchskew.workflows.rehearsal.model import Commit, Generation, Spec, Step
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
    """A generation that runs. resumed: what it took up; formats: of the checkpoints that it reads and writes."""

    number: int
    step: int
    group: Group
    begun: float
    resumed: Commit | None
    folder: str
    node: int
    formats: tuple[str, ...] = ()


class Training(Questions):
    """The job over its generations. deadline: of the present step of the plan; held: where the job waits."""

    def __init__(self, spec: Spec, cluster: Cluster) -> None:
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

    def start(self, step: Step, evidence: dict[str, Json]) -> str:
        """`trains` or `refused`; where a checkpoint can't be taken up, other formats and older ones are tried.

        Raises:
            Failed: no start came to either.
        """
        tried: list[Json] = []
        evidence["starts"] = tried
        for commit, formats in self._candidates(step)[:MOST_STARTS]:
            outcome = self._try(step, commit, formats)
            generation = self.generations[-1] if self.live is None else None
            tried.append({"checkpoint": commit.name if commit else None, "formats": list(formats), "outcome": outcome})
            if outcome in ("trains", "refused"):
                return outcome
            if generation is None or commit is None or generation.loaded:
                break  # it was not the checkpoint
            if step.mixed and len(formats) > 1:
                self._mixed_formats = ("plain",)
        last = self.generations[-1]
        source = f"from {last.resumed.name}" if last.resumed else "from nothing"
        raise Failed(f"the job does not start {source}, at attempt {len(tried)}: {last.why}")

    def _candidates(self, step: Step) -> list[tuple[Commit | None, tuple[str, ...]]]:
        """What to start from: the newest checkpoint in each format, then older ones."""
        formats = self._mixed_formats if step.mixed else self.spec.formats
        newest = sorted(self.commits, key=lambda one: one.at, reverse=True)
        if not newest:
            return [(None, formats)]
        ways = [formats] + ([("plain",)] if len(formats) > 1 and "plain" in formats else [])
        old = [one for one in newest[1:] if one.step < newest[0].step]
        kept = [one for one in old if one == self.newest_by(step.versions[0])]
        older = dict.fromkeys([*kept, *old[:1]])
        return [*((newest[0], way) for way in ways), *((one, formats) for one in older)]

    def _try(self, step: Step, commit: Commit | None, formats: tuple[str, ...]) -> str:
        self.held = step.hold
        self.launch(step.versions, commit, formats, step.number)
        assert self.live is not None
        group = self.live.group
        group.wait(self._patience(), lambda: _stepped(group) or len(group.open()) < len(group.members))
        if _stepped(group):
            return "trains"
        group.settle(self._patience())
        outcomes = group.outcomes()
        # Ranks of one release have nobody to refuse: their error merely happens to hold the release's number.
        refused = step.mixed and set(outcomes) == {Outcome.CLEAR}
        self.end("refused" if refused else _story(group))
        return "refused" if refused else ", ".join(outcomes)

    def launch(self, versions: Sequence[str], commit: Commit | None, formats: Sequence[str], step: int) -> None:
        """Start a generation, rank i on node i; it waits at `held`. step: number of the plan's step."""
        seats = [self.cluster.seat(node, version) for node, version in enumerate(versions)]
        hold = "" if self.held is None else str(self.held)
        self.live = self.begin(seats, f"g{self._numbers + 1}", {"hold": hold, "formats": formats, "resume": commit})
        self.live.step = step

    def begin(self, seats: Sequence[Seat], folder: str, how: Mapping[str, Any], place: str = "") -> Live:
        """Start the script in these seats. place: what keeps a control's checkpoints apart from the job's."""
        self._numbers += 1
        spec, number = self.spec, self._numbers
        share = f"{seats[0].agent.channel.share}/rehearsal/{self.place}{place}"
        commit: Commit | None = how.get("resume")
        settings = {
            "TORCHSKEW_CHECKPOINTS": f"{share}/checkpoints",
            "TORCHSKEW_HOLD": f"{share}/hold-{folder}",
            "TORCHSKEW_RESUME": commit.name if commit else "",
            "TORCHSKEW_FORMATS": ",".join(how["formats"]),
            "TORCHSKEW_STEPS": str(spec.steps),
            "TORCHSKEW_EVERY": str(spec.every),
            "TORCHSKEW_SEED": str(spec.seed),
            "TORCHSKEW_PACE": str(how.get("pace", spec.pace)),
            "TORCHSKEW_TIMEOUT": str(spec.timeout),
            "TORCHSKEW_GENERATION": str(number),
        }
        group = Group(self.scenario, self.ports, spec.timeout, spec.seed)
        common = {"do": "train", "script": self.script, "name": self.name, "settings": settings, "hold": how["hold"]}
        live = Live(
            number=number, step=0, group=group, begun=time.time(), resumed=commit, folder=f"{share}/{folder}",
            node=seats[0].node, formats=tuple(how["formats"]),
        )  # fmt: skip
        group.start(seats, lambda rank: {**common, "log": f"{share}/{folder}/rank-{rank}.jsonl"}, guard=self.guard)
        return live

    def end(self, why: str, *, kill: bool = False) -> None:
        """The live generation is over: keep its facts and what it wrote."""
        live, self.live = self.live, None
        if live is None:
            return
        if kill:
            live.group.signal("KILL")
        live.group.settle(LEAVE_SECONDS)
        generation = self.keep(live, why)
        self.commits += generation.commits
        self.generations.append(generation)

    def keep(self, live: Live, why: str, place: str = "") -> Generation:
        """A generation's record: facts of its ranks, their step logs, the checkpoints that are on the disk."""
        group = live.group
        seat = Seat(node=live.node, version=group.members[0].version, agent=group.members[0].agent)
        if seat.agent.dead is not None:
            seat = self.cluster.seat(live.node)
        checkpoints = f"{seat.agent.channel.share}/rehearsal/{self.place}{place}/checkpoints"
        told = logs.read(*self.collect(seat, live.folder, checkpoints))
        facts = group.facts()
        for one in facts:
            size = one.payload.get("kilobytes")
            if isinstance(size, int):
                self.memory[one.declared] = max(size, self.memory.get(one.declared, 0))
        generation = Generation(
            number=live.number, step=live.step, versions=tuple(one.version for one in group.members),
            begun=live.begun, ended=time.time(), why=why, resumed=live.resumed, facts=facts,
            outcomes=group.outcomes(), lines=told.lines, commits=told.commits, loaded=told.loaded, lacks=told.lacks,
        )  # fmt: skip
        group.close()
        return generation

    # -- while it runs

    def least(self) -> int:
        """The last training step that every rank has done."""
        return self.live.group.least() if self.live else 0

    def advance(self, until: int | None) -> None:
        """Let the job go on through a step and wait until all ranks are there."""
        group = self._running()
        self.release(until)
        if group.wait(self._left(), lambda: group.least() >= (until or 0) or self._broken()) and not self._broken():
            return
        self._died(f"the job did not reach step {until}")

    def release(self, until: int | None) -> None:
        """Let a waiting job go on: through this step, or to its end."""
        live, self.held = self.live, until
        if live is not None:
            seat = self.cluster.seat(live.node)
            share = seat.agent.channel.share
            path = f"{share}/rehearsal/{self.place}/hold-g{live.number}"
            self.ask(seat, {"do": "hold", "path": path, "hold": "" if until is None else str(until)})

    def drain(self) -> None:
        """SIGTERM to every rank, as a launcher does on a change of membership; each is to leave by itself."""
        group = self._running()
        group.signal("TERM")
        seconds = self.leave_seconds
        stayed = [] if group.ended(seconds) else [one.rank for one in group.open()]
        group.settle(0.1)
        failed = [one for one in group.facts() if not one.finished and one.rank not in stayed]
        self.end("drained" if not stayed else f"ranks {stayed} ignored SIGTERM")
        if stayed:
            ranks = ", ".join(str(rank) for rank in stayed)
            raise Failed(f"HANG: rank {ranks} did not leave within {seconds:.0f} s of SIGTERM; killed")
        if failed:
            raise Failed(f"while draining: {_said(self.generations[-1])}")

    @property
    def leave_seconds(self) -> float:
        """How long a rank may take to leave; a job with slow steps has a long timeout as well."""
        return max(LEAVE_SECONDS, self.spec.timeout)

    def finish(self, until: int | None) -> None:
        """Let the job train to its end."""
        group = self._running()
        self.release(None)
        group.ended(self._left())
        if group.open():
            self._died(f"the job did not end after step {until}")
        if {one.finished for one in group.facts()} != {True}:
            self._died("the job died before its last step")
        self.end("finished")

    def restart(self) -> None:
        """A new generation from the last checkpoint, on the same nodes, waiting where the old one would have."""
        live, versions = self._live(), tuple(one.version for one in self._running().members)
        live.group.settle(self._patience())
        self.end("killed by a fault")
        # Others may be what its start has found not to work.
        self.launch(versions, self.newest(), live.formats, live.step)

    def newest(self) -> Commit | None:
        """The last checkpoint committed."""
        return logs.newest(self.commits)

    def newest_by(self, version: str) -> Commit | None:
        """The last checkpoint that ranks of this release alone wrote."""
        pure = [one for gen in self.generations if set(gen.versions) == {version} for one in gen.commits]
        return logs.newest(pure)

    def close(self) -> None:
        """End whatever still runs."""
        if self.live is not None:
            self.live.group.close()
            self.live = None

    def _live(self) -> Live:
        if self.live is None:
            raise Skipped("the job does not run")
        return self.live

    def _running(self) -> Group:
        return self._live().group

    def _broken(self) -> bool:
        group = self._running()
        return any(not one.finished for one in group.facts() if group.members[one.rank].final is not None)

    def _died(self, what: str) -> None:
        group = self._running()
        group.settle(self._patience())
        story = _story(group)
        mixed = len({one.version for one in group.members}) > 1
        if mixed and "plain" in self.spec.formats:
            self._mixed_formats = ("plain",)
        self.end(story)
        raise Failed(f"{what}: {story}")

    def _left(self) -> float:
        return max(0.1, self.deadline - time.monotonic())


def _stepped(group: Group) -> bool:
    return group.least() > 0 and group.told("step")


def _story(group: Group) -> str:
    """What happened on the ranks that did not end well, in a line."""
    parts = []
    for facts, outcome in zip(group.facts(), group.outcomes(), strict=True):
        if outcome is not Outcome.OK:
            said = logs.core(facts.error.text) if facts.error else ""
            parts.append(f"rank {facts.rank} ({facts.declared}) {outcome}{': ' if said else ''}{said}")
    return "; ".join(parts) or "every rank left before the plan asked for it"


def _said(generation: Generation) -> str:
    return (
        "; ".join(f"rank {one.rank} {logs.core(one.error.text)}" for one in generation.facts if one.error)
        or "a rank left without a report"
    )
