"""Builds what a healthy rehearsal would have observed, without any process, for the tests of judge and reports."""

from __future__ import annotations

from dataclasses import replace

from torchskew.declaration.rehearsal import DEFAULTS, parse_strategy
from torchskew.model.facts import ErrorFacts, RankFacts
from torchskew.model.outcomes import Outcome, Phase
from torchskew.model.rehearsal import CheckpointFormat, DeclaredRelease, MixedPolicy, RehearsalSpec, Rollback
from torchskew.workflows.rehearsal.observed import (
    BridgeUse,
    CollectiveEvidence,
    Commit,
    Control,
    ControlKind,
    End,
    EndKind,
    Evidence,
    FaultEvidence,
    FormatReading,
    Generation,
    Health,
    Line,
    Loaded,
    Observation,
    ReadEvidence,
    Reading,
    StartAttempt,
    StartEvidence,
    StartResult,
    State,
    StepResult,
)
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.planned import (
    Collective,
    Drain,
    Expect,
    Finish,
    InjectFault,
    ReadCheckpoint,
    RehearsalPlan,
    Rejoin,
    ReplaceNodes,
    StartJob,
    Step,
    Train,
    at_a_bridge,
)

OLD, NEW = DeclaredRelease(name="2.6.0", torch="2.6.0"), DeclaredRelease(name="2.13.0", torch="2.13.0")
PLAIN = (CheckpointFormat.PLAIN,)
HOLDS = ("model", "optimizer")
REFUSED, TRAINS = StartResult.REFUSED, StartResult.TRAINS


def spec(
    *, strategy: str = "rolling", policy: str = "auto", rollback: bool | tuple[int, ...] = False, **more
) -> RehearsalSpec:
    """2.6.0 to 2.13.0, which can mix. rollback: True leaves the choice to the seed."""
    parsed = parse_strategy(strategy)
    assert parsed is not None
    after = rollback if isinstance(rollback, tuple) else ()
    fields = {"old": OLD, "new": NEW, "strategy": parsed, "policy": MixedPolicy(policy)}
    return replace(DEFAULTS, **{**fields, "rollback": Rollback(after=after) if rollback else None, **more})


def line(step: int, rank: int, at: float = 0.0) -> Line:
    """What a rank logs: the same in every run, as a deterministic job does."""
    samples = tuple(step * 100 + rank * 4 + offset for offset in range(4))
    return Line(rank=rank, step=step, samples=samples, loss=1.0 / step + rank, at=at, hash=f"h{step}", norm=float(step))


class World:
    """Walks through a plan as a cluster without surprises would."""

    def __init__(self, plan: RehearsalPlan) -> None:
        self.plan, self.clock, self.done = plan, 1000.0, 0
        self.generations: list[Generation] = []
        self.results: list[StepResult] = []
        self.live: Generation | None = None
        self.commit: Commit | None = None
        self.versions = (plan.spec.old.name,) * plan.spec.nodes

    def observe(self) -> Observation:
        for step in self.plan.steps:
            self.act(step)
        points = [(ControlKind.OLD, OLD), (ControlKind.OLD_RESTARTED, OLD), (ControlKind.NEW_RESTARTED, NEW)]
        return Observation(
            plan=self.plan,
            results=tuple(self.results),
            generations=tuple(self.generations),
            controls=tuple(
                Control(name=name, version=release.name, generation=self.control(release)) for name, release in points
            ),
            reports={release.name: f"{release.torch}+cpu" for release in (self.plan.spec.old, self.plan.spec.new)},
            seconds=60.0,
            memory={OLD.name: 200_000},
        )

    def control(self, release: DeclaredRelease) -> Generation:
        ranks = range(self.plan.spec.nodes)
        last = self.plan.spec.training_steps
        lines = tuple(line(step, rank) for step in range(1, last + 1) for rank in ranks)
        commit = Commit(name=f"step-{last:05}-g0", step=last, hash=f"h{last}", by=release.name, holds=HOLDS)
        return Generation(
            number=0, step=0, versions=(release.name,) * len(ranks), begun=0, ended=1, end=End(kind=EndKind.FINISHED),
            lines=lines, commits=(commit,),
        )  # fmt: skip

    def act(self, step: Step) -> None:
        before, evidence = self.versions, self.evidence(step)
        if isinstance(step.action, Drain | Finish):
            self.end(EndKind.DRAINED if isinstance(step.action, Drain) else EndKind.FINISHED)
        self.clock += 0.4
        self.results.append(
            StepResult(
                number=step.number, state=State.DONE, seconds=0.4, begun=self.clock - 0.4, before=before,
                after=self.versions, evidence=evidence,
            )
        )  # fmt: skip

    def evidence(self, step: Step) -> Evidence | None:
        match step.action:
            case StartJob(expect=expect):
                return self.start(step, refused=expect is Expect.REFUSE)
            case Train(until=until) | Finish(until=until):
                self.train(until)
            case ReplaceNodes():
                self.versions = step.versions
            case ReadCheckpoint(node=node):
                return ReadEvidence(newest=self.reading(step.versions[node]))
            case Collective(expect=expect):
                return self.collective(step, Outcome.CLEAR if expect is Expect.REFUSE else Outcome.OK)
            case Rejoin():
                return self.collective(step, Outcome.CLEAR)
            case InjectFault(fault=fault):
                return self.fault(fault)
        return None

    def start(self, step: Step, *, refused: bool) -> StartEvidence:
        checkpoint = self.commit.name if self.commit else None
        self.open(step.number, step.versions)
        if refused:
            self.end(EndKind.REFUSED)
        result = REFUSED if refused else TRAINS
        return StartEvidence(attempts=(StartAttempt(checkpoint=checkpoint, formats=PLAIN, result=result),))

    def open(self, number: int, versions: tuple[str, ...]) -> None:
        resumed = self.commit
        self.done = resumed.step if resumed else 0
        loaded = (
            tuple(Loaded(rank=r, checkpoint=resumed.name, hash=resumed.hash) for r in range(len(versions)))
            if resumed
            else ()
        )
        self.live = Generation(
            number=len(self.generations) + 1, step=number, versions=versions, begun=self.clock, ended=0.0,
            end=End(kind=EndKind.UNFINISHED), resumed=resumed, loaded=loaded, bridge=self.bridge(number),
        )  # fmt: skip

    def bridge(self, number: int) -> BridgeUse | None:
        step = next(step for step in self.plan.steps if step.number == number)
        met = BridgeUse(clients={"2.5 or later": self.plan.spec.nodes})
        return met if at_a_bridge(step, self.plan.spec) else None

    def train(self, until: int) -> None:
        assert self.live
        for step in range(self.done + 1, until + 1):
            self.clock += 0.03
            new = tuple(line(step, rank, self.clock) for rank in range(len(self.live.versions)))
            self.live = replace(self.live, lines=self.live.lines + new)
            if step % self.plan.spec.checkpoint_every == 0:
                self.save(step)
        self.done = until

    def save(self, step: int) -> None:
        assert self.live
        name = f"step-{step:05}-g{self.live.number}"
        self.commit = Commit(
            name=name, step=step, hash=f"h{step}", at=self.clock, by=self.live.versions[0], holds=HOLDS
        )
        self.live = replace(self.live, commits=(*self.live.commits, self.commit))

    def end(self, kind: EndKind) -> None:
        if self.live is None:
            return
        if kind is EndKind.DRAINED and (self.commit is None or self.commit.step != self.done):
            self.save(self.done)
        outcome = {EndKind.REFUSED: Outcome.CLEAR, EndKind.KILLED: Outcome.CRASH}.get(kind, Outcome.OK)
        facts = tuple(self.facts(rank, name, outcome) for rank, name in enumerate(self.live.versions))
        end = End(kind=kind)
        done = replace(self.live, ended=self.clock, end=end, facts=facts, outcomes=(outcome,) * len(facts))
        self.generations.append(done if kind is not EndKind.REFUSED else replace(done, loaded=()))
        self.live = None

    def facts(self, rank: int, name: str, outcome: Outcome) -> RankFacts:
        error = ErrorFacts(type="Skew", text="2.6.0 and 2.13.0") if outcome is Outcome.CLEAR else None
        return RankFacts(
            rank=rank, declared=name, torch=f"{name}+cpu", phase=Phase.RUN, finished=outcome is Outcome.OK, error=error,
            error_after=0.05 if error else None,
        )  # fmt: skip

    def reading(self, by: str) -> Reading:
        assert self.commit
        read = FormatReading(hash=self.commit.hash)
        return Reading(
            checkpoint=self.commit.name,
            by=by,
            writer=self.commit.by,
            written=self.commit.hash,
            unchanged=True,
            formats={"dcp": read, "plain": read},
        )

    def collective(self, step: Step, outcome: Outcome) -> CollectiveEvidence:
        ranks = len(step.versions)
        return CollectiveEvidence(outcomes=(outcome,) * ranks, cases=45, error_after=(0.05,) * ranks)

    def fault(self, name: str) -> FaultEvidence:
        if name == "kill":
            assert self.live
            number, versions = self.live.step, self.live.versions
            self.end(EndKind.KILLED)
            self.open(number, versions)
        healthy = Health(healthy=True, cases=45)
        self.clock += 1.0
        return FaultEvidence(before=healthy, observed="shown", healed="shown", after=healthy)


def healthy(**more) -> Observation:
    """A rehearsal in which everything went well."""
    return World(make_plan(spec(**more))).observe()
