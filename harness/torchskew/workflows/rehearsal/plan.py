"""Plan: a spec and its seed become numbered steps; pure, so the same spec gives the same bytes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from torchskew.declaration.rehearsal import check_rollback
from torchskew.errors import ConfigError
from torchskew.faults import FAULTS, parts
from torchskew.faults.together import SHORTEST, stopped_seconds
from torchskew.model.outcomes import Kind, Outcome
from torchskew.model.rehearsal import NODES, MixedPolicy, RehearsalSpec, StrategyKind
from torchskew.record import codec
from torchskew.releases import eras
from torchskew.workflows.rehearsal import bridging
from torchskew.workflows.rehearsal.planned import (
    CLOCK_SKEW,
    Action,
    Collective,
    Drain,
    Expect,
    Finalise,
    Finish,
    GroupPrediction,
    InjectFault,
    Prediction,
    ReadCheckpoint,
    RehearsalPlan,
    Rejoin,
    ReplaceNodes,
    Stage,
    StageKind,
    StartJob,
    Step,
    StepKind,
    Train,
    UnreadablePrediction,
)

# Fewer committed training steps in a stage than this prove nothing about it.
PROGRESS = 3
# A plan that a person can still read; 16 nodes with every fault and rollback stay far below.
MOST_STEPS = 400
# How long a fault lasts, in seconds: from what a probe needs to this, if the process group's timeout allows so much.
LONGEST = 2.0
# A year; a clock that is off by more breaks what has nothing to do with releases.
MOST_SKEW = 365 * 86400.0
# Seconds that each kind of step takes on two cores once torch is imported, and how much longer a slow machine may take.
ESTIMATES = {
    StepKind.START: 0.4, StepKind.DRAIN: 0.2, StepKind.REPLACE: 0.5, StepKind.READ: 0.2, StepKind.COLLECTIVE: 0.5,
    StepKind.REJOIN: 0.5, StepKind.FINALISE: 0.1, StepKind.FINISH: 0.5, StepKind.TRAIN: 0.1,
}  # fmt: skip
FAULT_SECONDS = 2.0
PATIENCE = 30.0
TRAIN_SECONDS = 0.03


def make_plan(spec: RehearsalSpec, unsupported: Mapping[str, str] | None = None) -> RehearsalPlan:
    """The steps for a spec. unsupported: fault -> why the runtime can't inject it; the plan leaves those out.

    Raises:
        ConfigError: too few training steps for the stages, an unknown fault, a number out of range.
    """
    check(spec)
    lacking = _lacking(spec.faults, unsupported or {})
    if spec.clock_skew and CLOCK_SKEW in (unsupported or {}):
        lacking[CLOCK_SKEW] = (unsupported or {})[CLOCK_SKEW]
    rng = random.Random(f"torchskew {spec.seed}")
    draft = _Draft(spec=spec, rng=rng)
    draft.build()
    faults = tuple(name for name in spec.faults if name not in lacking)
    steps = _numbered(spec, _with_training(spec, draft, faults))
    if len(steps) > MOST_STEPS:
        fix = "Use fewer nodes, group:N, or fewer rollbacks."
        raise ConfigError(f"the plan has {len(steps)} steps, {MOST_STEPS} are allowed. {fix}")
    predictions = (*draft.predictions, *_unreadable(spec), *bridging.proposals(spec, draft.predictions))
    offsets = () if CLOCK_SKEW in lacking else _clock_offsets(spec)
    plan = RehearsalPlan(
        spec=spec, steps=steps, unsupported=lacking, predictions=predictions, clock_offsets=offsets
    )  # fmt: skip
    return with_digest(plan)


def _clock_offsets(spec: RehearsalSpec) -> tuple[float, ...]:
    """By how many seconds each node's clock is off, as the seed decides."""
    rng = random.Random(f"torchskew clocks {spec.seed}")
    offsets = tuple(round(rng.uniform(-spec.clock_skew, spec.clock_skew), 1) for _ in range(spec.nodes))
    return offsets if spec.clock_skew else ()


def _lacking(faults: Sequence[str], unsupported: Mapping[str, str]) -> dict[str, str]:
    """Of these faults, those that can't be injected, with why: of several at once, the first that can't."""
    why = {name: next((unsupported[part] for part in parts(name) if part in unsupported), None) for name in faults}
    return {name: reason for name, reason in why.items() if reason is not None}


def with_digest(plan: RehearsalPlan) -> RehearsalPlan:
    """The plan with the digest of everything else in it."""
    bare = replace(plan, digest="")
    return replace(bare, digest=hashlib.sha256(codec.dumps(bare).encode()).hexdigest()[:16])


def check(spec: RehearsalSpec) -> None:
    """ConfigError with everything that is wrong with a spec."""
    known = ", ".join(FAULTS)
    problems = [
        f"faults must be of {known}, got {name!r}." for name in spec.faults if not set(parts(name)) <= set(FAULTS)
    ]
    problems += [
        f"faults at once must not be more than the {spec.nodes} nodes, got {name!r}."
        for name in spec.faults
        if len(parts(name)) > spec.nodes
    ]
    problems += [*_too_long(spec), *bridging.problems(spec)]
    if not NODES[0] <= spec.nodes <= NODES[1]:
        problems.append(f"nodes must be from {NODES[0]} to {NODES[1]}, got {spec.nodes}.")
    if not 1 <= spec.checkpoint_every <= spec.training_steps <= 10000:
        least = f"{spec.checkpoint_every} (the steps between checkpoints)"
        problems.append(f"steps must be from {least} to 10000, got {spec.training_steps}.")
    if not 0 <= spec.clock_skew <= MOST_SKEW:
        problems.append(f"clock-skew must be from 0 to {MOST_SKEW:.0f} seconds, got {spec.clock_skew:g}.")
    if not problems and spec.rollback is not None:
        try:
            check_rollback(spec.rollback.after, spec.strategy.replacements(spec.nodes))
        except ValueError as error:
            problems.append(f"rollback {error}")
    if problems:
        raise ConfigError(*problems)


def _too_long(spec: RehearsalSpec) -> list[str]:
    """The faults that would keep the job from going on until its own timeout ends it."""
    stops = {name: round(stopped_seconds(parts(name), SHORTEST), 1) for name in spec.faults}
    return [
        f"timeout must be at least {2 * seconds:.1f} for {name!r}: it stops the job for {seconds:.1f} s, and TCP "
        f"may take as long again. Got {spec.timeout:g}."
        for name, seconds in stops.items()
        if seconds > spec.patience
    ]


def expected(spec: RehearsalSpec, versions: Sequence[str], order: Sequence[int] | None = None) -> Expect:
    """What the group on these nodes must do. order: the nodes by rank, where rank i is not on node i."""
    if len(set(versions)) == 1:
        return Expect.TRAIN
    if spec.policy is not MixedPolicy.AUTO:
        return Expect.REFUSE if spec.policy is MixedPolicy.REFUSE else Expect.TRAIN
    torch = {spec.old.name: spec.old.torch, spec.new.name: spec.new.torch}
    names = [torch[versions[node]] for node in order or range(len(versions))]
    releases = [eras.release(name) for name in names if name]
    known = tuple(release for release in releases if release is not None)
    if len(known) < len(names):
        return Expect.EITHER
    # Which releases a bridge can bring together, `check` has made sure of.
    return Expect.TRAIN if spec.strategy.bridged or eras.compatible(known) else Expect.REFUSE


def _unreadable(spec: RehearsalSpec) -> list[Prediction]:
    """What the table of eras knows about checkpoints on the way back."""
    torch = (spec.new.torch, spec.old.torch)
    situation = eras.Situation(torch=torch, kind=Kind.HANDOVER, scenario="checkpoint_dcp")
    rolls_back = spec.rollback is not None and any(each.distributed for each in spec.formats)
    if not rolls_back or Outcome.OPAQUE not in eras.predict(situation):
        return []
    return [UnreadablePrediction(reader=spec.old.name, writer=spec.new.name)]


def replacement_order(spec: RehearsalSpec, rng: random.Random) -> tuple[tuple[int, ...], ...]:
    """The nodes in groups that are replaced together, in order; rank 0 of the job runs on node 0."""
    nodes, size = list(range(spec.nodes)), max(1, spec.strategy.nodes_at_once(spec.nodes))
    if spec.strategy.kind is StrategyKind.STOP_THE_WORLD:
        return (tuple(nodes),)
    rng.shuffle(nodes)
    if spec.strategy.kind in (StrategyKind.HOST_FIRST, StrategyKind.HOST_LAST):
        nodes.remove(0)
        nodes.insert(0 if spec.strategy.kind is StrategyKind.HOST_FIRST else len(nodes), 0)
    return tuple(tuple(nodes[start : start + size]) for start in range(0, len(nodes), size))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unnumbered:
    """A step before the plan's numbers and times are known."""

    stage: Stage
    action: Action
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """A stretch of training whose length and faults are not decided yet. last: the job ends with it."""

    stage: Stage
    versions: tuple[str, ...]
    last: bool


_Drafted: TypeAlias = _Unnumbered | _Stretch


@dataclass(slots=True, kw_only=True)
class _Draft:
    """The order of a plan's steps, stretches of training still open."""

    spec: RehearsalSpec
    rng: random.Random
    steps: list[_Drafted] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    running: bool = False

    def build(self) -> None:
        """Setup on the old release, the upgrade in windows, rollbacks, finalise, and the rest of the training."""
        spec = self.spec
        self.versions = [spec.old.name] * spec.nodes
        groups = replacement_order(spec, self.rng)
        rollbacks, of = self.rollbacks(len(groups)), len(groups)
        self.go(Stage(kind=StageKind.BEFORE, version=spec.old.name))
        for count, group in enumerate(groups, 1):
            self.window(Stage(kind=StageKind.UPGRADE, version=spec.new.name, replaced=count, of=of), group)
            if count in rollbacks:
                upgraded = tuple(sorted(node for past in groups[:count] for node in past))
                # All upgraded nodes return to the old release at once, as an emergency rollback does.
                self.window(Stage(kind=StageKind.ROLLBACK, version=spec.old.name, replaced=count, of=of), upgraded)
                self.window(Stage(kind=StageKind.UPGRADE_AGAIN, version=spec.new.name, replaced=count, of=of), upgraded)
        self.finalise()

    def rollbacks(self, count: int) -> tuple[int, ...]:
        """After which of `count` replacements the plan rolls back."""
        rollback = self.spec.rollback
        if rollback is None or rollback.after:
            return rollback.after if rollback else ()
        # At least one replacement before and after, or there would be nothing to roll back from half-way.
        half = (self.rng.randint(1, count - 1),) if count > 1 else ()
        return (*half, count)

    def add(self, stage: Stage, action: Action) -> None:
        """One more step."""
        self.steps.append(_Unnumbered(stage=stage, action=action, versions=tuple(self.versions)))

    def train(self, stage: Stage, *, last: bool = False) -> None:
        """One more stretch of training."""
        self.steps.append(_Stretch(stage=stage, versions=tuple(self.versions), last=last))

    def go(self, stage: Stage) -> None:
        """Start the job and train; where a refusal is expected, the start shows it."""
        expect = expected(self.spec, self.versions)
        self.add(stage, StartJob(expect=expect))
        self.running = expect is not Expect.REFUSE
        if self.running:
            self.train(stage)

    def window(self, stage: Stage, nodes: tuple[int, ...]) -> None:
        """Drain, replace these nodes, check that the newcomer reads the checkpoint and that collectives are right."""
        if self.running:
            self.add(stage, Drain(nodes=nodes))
        for node in nodes:
            self.versions[node] = stage.version
        self.add(stage, ReplaceNodes(nodes=nodes))
        self.add(stage, ReadCheckpoint(node=nodes[0]))
        self.collectives(stage)
        self.predict(stage)
        self.go(stage)

    def collectives(self, stage: Stage) -> None:
        """A collective over all nodes of a mixed group, hosted once by each release."""
        if len(set(self.versions)) == 1:
            return
        for host in dict.fromkeys(self.versions):
            first = self.versions.index(host)
            order = (first, *(node for node in range(self.spec.nodes) if node != first))
            self.add(stage, Collective(order=order, expect=expected(self.spec, self.versions, order)))

    def predict(self, stage: Stage) -> None:
        """Note what policy `auto` follows."""
        if self.spec.policy is MixedPolicy.AUTO and len(set(self.versions)) > 1:
            expect = expected(self.spec, self.versions)
            self.predictions.append(GroupPrediction(stage=stage, versions=tuple(self.versions), expect=expect))

    def finalise(self) -> None:
        """From here on one release only: an old node that comes back is refused, and the training ends."""
        spec = self.spec
        stage = Stage(kind=StageKind.AFTER, version=spec.new.name)
        self.add(stage, Drain(nodes=tuple(range(spec.nodes))))
        self.add(stage, Finalise())
        late = self.rng.randrange(spec.nodes)
        mixed = tuple(spec.old.name if node == late else name for node, name in enumerate(self.versions))
        rejoin = Rejoin(node=late, order=tuple(range(spec.nodes)))
        self.steps.append(_Unnumbered(stage=stage, action=rejoin, versions=mixed))
        self.add(stage, StartJob(expect=Expect.TRAIN))
        self.train(stage, last=True)


def _with_training(spec: RehearsalSpec, draft: _Draft, faults: tuple[str, ...]) -> Iterator[_Unnumbered]:
    """The steps with the lengths of training and the faults decided; each fault alone in a stretch of its own."""
    stretches = [at for at, step in enumerate(draft.steps) if isinstance(step, _Stretch)]
    chosen = _shared_out(faults, stretches, draft.rng)
    ends = dict(zip(stretches, _ends(spec, [len(chosen.get(at, ())) for at in stretches], draft.rng), strict=True))
    done, dice = 0, _Dice(spec, draft.rng)
    for at, step in enumerate(draft.steps):
        if isinstance(step, _Unnumbered):
            yield step
            continue
        for action in _stretch(step, (done, ends[at]), chosen.get(at, []), dice):
            yield _Unnumbered(stage=step.stage, action=action, versions=step.versions)
        done = ends[at]


def _shared_out(faults: tuple[str, ...], stretches: list[int], rng: random.Random) -> dict[int, list[str]]:
    """Which faults go into which stretch of training: spread out before any gets a second one."""
    places = stretches * (len(faults) // len(stretches) + 1)
    head = stretches[:]
    rng.shuffle(head)
    chosen: dict[int, list[str]] = {}
    for fault, at in zip(faults, [*head, *places], strict=False):
        chosen.setdefault(at, []).append(fault)
    return chosen


def _ends(spec: RehearsalSpec, faults: list[int], rng: random.Random) -> list[int]:
    """After how many training steps each stretch ends; every part of it, cut by its faults, makes progress."""
    least = [PROGRESS * (1 + count) for count in faults]
    spare = spec.training_steps - sum(least)
    if spare < 0:
        what = f"{len(least)} stretches of training with {sum(faults)} faults"
        fix = f"Use --steps {sum(least)}."
        raise ConfigError(f"steps must be at least {sum(least)} for {what}, got {spec.training_steps}. {fix}")
    cuts = sorted(rng.randint(0, spare) for _ in least[1:])
    shares = [high - low for low, high in zip([0, *cuts], [*cuts, spare], strict=True)]
    ends, total = [], 0
    for length, share in zip(least, shares, strict=True):
        total += length + share
        ends.append(total)
    return ends


@dataclass(frozen=True, slots=True)
class _Dice:
    """What the seed decides about a fault."""

    spec: RehearsalSpec
    rng: random.Random

    def node(self) -> int:
        """Which node it hits."""
        return self.rng.randrange(self.spec.nodes)

    def seconds(self) -> float:
        """How long it lasts, in tenths."""
        return round(self.rng.uniform(SHORTEST, min(LONGEST, self.spec.patience)), 1)


def _stretch(stretch: _Stretch, ends: tuple[int, int], faults: list[str], dice: _Dice) -> Iterator[Action]:
    """A stretch between two training steps, its faults at even distances, each followed by training."""
    done, until = ends
    part = (until - done) // (len(faults) + 1)
    for index, fault in enumerate(faults, 1):
        at = done + part * index
        yield Train(until=at)
        seconds = dice.seconds()
        yield InjectFault(fault=fault, node=dice.node(), seconds=seconds, at=at)
    yield Finish(until=until) if stretch.last else Train(until=until)


def _numbered(spec: RehearsalSpec, steps: Iterator[_Unnumbered]) -> tuple[Step, ...]:
    """The steps with their numbers, estimates and deadlines."""
    numbered, done = [], 0
    for number, step in enumerate(steps, 1):
        estimate = round(_seconds(spec, step.action, done), 2)
        # A step of the code under test may wait for its timeout twice: in the rendezvous and in a collective.
        deadline = round(PATIENCE + 3 * estimate + 2 * spec.timeout, 1)
        numbered.append(
            Step(
                number=number, stage=step.stage, action=step.action, versions=step.versions, deadline=deadline,
                estimate=estimate,
            )
        )  # fmt: skip
        done = numbered[-1].training_step or done
    return tuple(numbered)


def _seconds(spec: RehearsalSpec, action: Action, done: int) -> float:
    if isinstance(action, InjectFault):
        return action.seconds + FAULT_SECONDS
    if isinstance(action, Train | Finish):
        return ESTIMATES[action.kind] + (action.until - done) * (spec.pace + TRAIN_SECONDS)
    return ESTIMATES[action.kind] * (len(action.nodes) if isinstance(action, ReplaceNodes) else 1)
