"""Plan: a spec and its seed become numbered steps; pure, so the same spec gives the same bytes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torchskew.errors import ConfigError
from torchskew.faults import FAULTS
from torchskew.model.outcomes import Kind, Outcome
from torchskew.releases import eras
from torchskew.workflows.rehearsal import rollback
from torchskew.workflows.rehearsal.model import Do, Expect, Rehearsal, Spec, Step
from torchskew.workflows.rehearsal.strategy import STRATEGIES, known, order, replacements

POLICIES = ("interoperate", "refuse", "auto")
# Fewer committed steps in a stage than this prove nothing about it.
PROGRESS = 3
# A plan that a person can still read; 16 nodes with every fault and rollback stay far below.
MOST_STEPS = 400
# How long a fault holds, seconds: long enough to be seen by a probe, shorter than any process group's timeout.
SHORTEST, LONGEST = 0.8, 2.0
# Seconds that each kind of step takes on two cores once torch is imported, and how much longer a slow machine may take.
ESTIMATES = {
    Do.START: 0.4, Do.DRAIN: 0.2, Do.CHANGE: 0.5, Do.READ: 0.2, Do.PROBE: 0.5, Do.FINALISE: 0.1, Do.FINISH: 0.5,
}  # fmt: skip
PATIENCE = 30.0
TRAIN_SECONDS = 0.03


def make_rehearsal(spec: Spec, unsupported: Mapping[str, str] | None = None) -> Rehearsal:
    """The steps for a spec. unsupported: fault -> why the runtime can't inject it; those are left out and said.

    Raises:
        ConfigError: too few training steps for the stages, an unknown strategy, policy or fault.
    """
    check(spec)
    lacking = {name: why for name, why in (unsupported or {}).items() if name in spec.faults}
    draft = _Draft(spec=spec, rng=random.Random(f"torchskew {spec.seed}"))
    draft.build()
    steps = _timed(spec, _placed(spec, draft, tuple(name for name in spec.faults if name not in lacking)))
    if len(steps) > MOST_STEPS:
        mend = "Use fewer nodes, group:N, or fewer rollbacks."
        raise ConfigError(f"the plan has {len(steps)} steps, {MOST_STEPS} are allowed. {mend}")
    made = Rehearsal(spec=spec, steps=steps, unsupported=lacking, notes=(*draft.notes, *_unreadable(spec)))
    return digested(made)


def digested(plan: Rehearsal) -> Rehearsal:
    """The plan with the digest of everything else in it."""
    bare = replace(plan, digest="")
    return replace(bare, digest=hashlib.sha256(repr(bare).encode()).hexdigest()[:16])


def check(spec: Spec) -> None:
    """ConfigError with everything that is wrong with a spec."""
    problems = []
    if not known(spec.strategy):
        problems.append(f"strategy must be one of {', '.join(STRATEGIES)}, got {spec.strategy!r}.")
    if spec.policy not in POLICIES:
        problems.append(f"policy must be one of {', '.join(POLICIES)}, got {spec.policy!r}.")
    problems += [f"faults must be of {', '.join(FAULTS)}, got {name!r}." for name in spec.faults if name not in FAULTS]
    if not 2 <= spec.nodes <= 16:
        problems.append(f"nodes must be from 2 to 16, got {spec.nodes}.")
    if not 1 <= spec.every <= spec.steps <= 10000:
        problems.append(f"steps must be from {spec.every} (the steps between checkpoints) to 10000, got {spec.steps}.")
    if not problems:
        try:
            rollback.check(spec.rollback_after, replacements(spec))
        except ValueError as error:
            problems.append(f"rollback {error}")
    if problems:
        raise ConfigError(*problems)


def expected(spec: Spec, versions: tuple[str, ...], place: tuple[int, ...] | None = None) -> Expect:
    """What the group on these nodes is to do, rank 0 on the first of `place`."""
    if len(set(versions)) == 1:
        return Expect.TRAIN
    if spec.policy != "auto":
        return Expect.REFUSE if spec.policy == "refuse" else Expect.TRAIN
    torch = {spec.old.name: spec.old.torch, spec.new.name: spec.new.torch}
    names = [torch[versions[node]] for node in place or range(len(versions))]
    found = [eras.release(name) if name else None for name in names]
    ranks = tuple(one for one in found if one is not None)
    if len(ranks) < len(found):
        return Expect.EITHER
    return Expect.TRAIN if eras.compatible(ranks) else Expect.REFUSE


def _unreadable(spec: Spec) -> list[str]:
    """What the table of eras knows of checkpoints on the way back, in words."""
    names = (spec.new.torch, spec.old.torch)
    situation = eras.Situation(torch=names, kind=Kind.HANDOVER, scenario="checkpoint_dcp")
    if not spec.rollback or "dcp" not in spec.formats or Outcome.OPAQUE not in eras.predict(situation):
        return []
    return [f"{spec.old.name} can't read what {spec.new.name} writes as dcp: rolling back needs a kept checkpoint"]


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A plan in the making: the steps so far, and which of them are stretches of training."""

    spec: Spec
    rng: random.Random
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    running: bool = False

    def build(self) -> None:
        """Setup on the old release, the upgrade in windows, rollbacks, finalise, and the rest of the training."""
        spec = self.spec
        self.versions = [spec.old.name] * spec.nodes
        groups = order(spec, self.rng)
        turns = self.turns(len(groups))
        self.go("before: all on " + spec.old.name)
        for count, group in enumerate(groups, 1):
            self.window(f"upgrade {count} of {len(groups)}", group, spec.new.name)
            if count in turns:
                done = tuple(sorted(node for past in groups[:count] for node in past))
                # All upgraded nodes return to the old release at once, as a rollback in need does.
                self.window(f"rollback after {count} of {len(groups)}", done, spec.old.name)
                self.window(f"upgrade again to {count} of {len(groups)}", done, spec.new.name)
        self.finalise()

    def turns(self, count: int) -> tuple[int, ...]:
        """After how many of `count` replacements the plan goes back."""
        if not self.spec.rollback or self.spec.rollback_after:
            return self.spec.rollback_after if self.spec.rollback else ()
        # At least one replacement before and after, or there would be nothing to roll back from half-way.
        half = (self.rng.randint(1, count - 1),) if count > 1 else ()
        return (*half, count)

    def add(self, stage: str, do: Do, **more: object) -> None:
        """One more step, numbered."""
        fields = {"number": len(self.steps) + 1, "stage": stage, "do": do, "versions": tuple(self.versions)}
        self.steps.append(Step(**fields, deadline=0.0, estimate=0.0, **more))  # type: ignore[arg-type]

    def go(self, stage: str) -> None:
        """Start the job and train; where a refusal is expected, that is what the start shows."""
        expect = expected(self.spec, tuple(self.versions))
        self.add(stage, Do.START, expect=expect)
        self.running = expect is not Expect.REFUSE
        if self.running:
            self.add(stage, Do.TRAIN)

    def window(self, stage: str, nodes: tuple[int, ...], version: str) -> None:
        """Drain, replace these nodes, look whether the newcomer reads the checkpoint and the group still adds up."""
        if self.running:
            self.add(stage, Do.DRAIN, nodes=nodes)
        for node in nodes:
            self.versions[node] = version
        self.add(stage, Do.CHANGE, nodes=nodes)
        self.add(stage, Do.READ, nodes=nodes[:1])
        self.probe(stage)
        self.note(stage)
        self.go(stage)

    def probe(self, stage: str) -> None:
        """A collective over all nodes, hosted once by each release that is there."""
        if len(set(self.versions)) == 1:
            return
        for host in dict.fromkeys(self.versions):
            first = self.versions.index(host)
            place = (first, *(node for node in range(self.spec.nodes) if node != first))
            self.add(stage, Do.PROBE, order=place, expect=expected(self.spec, tuple(self.versions), place))

    def note(self, stage: str) -> None:
        """What `auto` follows, in words."""
        if self.spec.policy == "auto" and len(set(self.versions)) > 1:
            expect = expected(self.spec, tuple(self.versions))
            words = {
                Expect.TRAIN: "the table of eras lets this group train",
                Expect.REFUSE: "the table of eras says that this group can't form: the guard is to refuse it",
                Expect.EITHER: "the table of eras does not know a release here: training or a clear refusal both do",
            }
            self.notes.append(f"{stage} ({', '.join(self.versions)}): {words[expect]}")

    def finalise(self) -> None:
        """From here on one release only: an old node that comes back is refused, and the training ends."""
        spec, stage = self.spec, "after: finalised on " + self.spec.new.name
        self.add(stage, Do.DRAIN, nodes=tuple(range(spec.nodes)))
        self.add(stage, Do.FINALISE)
        late = self.rng.randrange(spec.nodes)
        mixed = tuple(spec.old.name if node == late else name for node, name in enumerate(self.versions))
        self.add(stage, Do.PROBE, nodes=(late,), order=tuple(range(spec.nodes)), expect=Expect.REFUSE)
        self.steps[-1] = replace(self.steps[-1], versions=mixed)
        self.add(stage, Do.START, expect=Expect.TRAIN)
        self.add(stage, Do.FINISH)


def _placed(spec: Spec, draft: _Draft, faults: tuple[str, ...]) -> Iterator[Step]:
    """The steps with training lengths and faults in them, numbered anew; each fault alone in a stretch of its own."""
    stretches = [at for at, step in enumerate(draft.steps) if step.do in (Do.TRAIN, Do.FINISH)]
    chosen = _shared(faults, stretches, draft.rng)
    ends = _ends(spec, [len(chosen.get(at, ())) for at in stretches], draft.rng)
    until = dict(zip(stretches, ends, strict=True))
    done, number = 0, 0
    for at, step in enumerate(draft.steps):
        for one in _stretch(step, done, until.get(at), chosen.get(at, []), _Dice(spec, draft.rng)):
            number += 1
            yield replace(one, number=number)
        done = until.get(at, done)


def _shared(faults: tuple[str, ...], stretches: list[int], rng: random.Random) -> dict[int, list[str]]:
    """Which faults go into which stretch of training: spread out before any gets a second one."""
    places = stretches * (len(faults) // len(stretches) + 1)
    head = stretches[:]
    rng.shuffle(head)
    chosen: dict[int, list[str]] = {}
    for fault, at in zip(faults, [*head, *places], strict=False):
        chosen.setdefault(at, []).append(fault)
    return chosen


def _ends(spec: Spec, faults: list[int], rng: random.Random) -> list[int]:
    """After how many training steps each stretch ends; every part of it, cut by its faults, makes progress."""
    least = [PROGRESS * (1 + count) for count in faults]
    spare = spec.steps - sum(least)
    if spare < 0:
        what = f"{len(least)} stretches of training with {sum(faults)} faults"
        mend = f"Use --steps {sum(least)}."
        raise ConfigError(f"steps must be at least {sum(least)} for {what}, got {spec.steps}. {mend}")
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

    spec: Spec
    rng: random.Random

    def node(self) -> int:
        """Which node it hits."""
        return self.rng.randrange(self.spec.nodes)

    def seconds(self) -> float:
        """How long it holds, in tenths."""
        return round(self.rng.uniform(SHORTEST, LONGEST), 1)


def _stretch(step: Step, done: int, until: int | None, faults: list[str], dice: _Dice) -> Iterator[Step]:
    """A stretch of training with its faults at even distances, each followed by training; other steps as they are."""
    if until is None:
        yield step
        return
    part = (until - done) // (len(faults) + 1)
    for index, fault in enumerate(faults, 1):
        at = done + part * index
        yield replace(step, do=Do.TRAIN, until=at)
        lasts = dice.seconds()
        yield replace(step, do=Do.FAULT, fault=fault, nodes=(dice.node(),), lasts=lasts, until=at)
    yield replace(step, until=until)


def _timed(spec: Spec, steps: Iterator[Step]) -> tuple[Step, ...]:
    """Holds, estimates and deadlines: where each start's job waits, and how long each step may take."""
    found = list(steps)
    timed, done = [], 0
    for at, step in enumerate(found):
        estimate = round(_seconds(spec, step, done), 2)
        # A step of the code under test may wait for its timeout twice: in the rendezvous and in a collective.
        deadline = round(PATIENCE + 3 * estimate + 2 * spec.timeout, 1)
        done = step.until if step.until is not None else done
        hold = _hold(found[at + 1 :]) if step.do is Do.START else None
        timed.append(replace(step, estimate=estimate, deadline=deadline, hold=hold))
    return tuple(timed)


def _seconds(spec: Spec, step: Step, done: int) -> float:
    if step.do is Do.FAULT:
        return (step.lasts or 0.0) + 2.0
    if step.do in (Do.TRAIN, Do.FINISH):
        return ESTIMATES.get(step.do, 0.1) + ((step.until or done) - done) * (spec.pace + TRAIN_SECONDS)
    return ESTIMATES[step.do] * (len(step.nodes) if step.do is Do.CHANGE else 1)


def _hold(after: list[Step]) -> int | None:
    """Where a started job waits for the next step of the plan; None where it runs to its end."""
    for step in after:
        if step.do is Do.TRAIN:
            return step.until
        if step.do is not Do.FAULT:
            return None
    return None
