"""Invariants of the training itself: steps, samples, loss, and the ranks' agreement; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from torchskew.workflows.rehearsal.findings import Breach, Invariant
from torchskew.workflows.rehearsal.history import SurvivingStep
from torchskew.workflows.rehearsal.invariants.index import EvidenceIndex
from torchskew.workflows.rehearsal.invariants.rule import Rule
from torchskew.workflows.rehearsal.observed import ControlKind, Generation, Line

R2 = Rule("R2", "no training step is lost or counted twice; at most one checkpoint interval is redone")
R3 = Rule("R3", "every training step sees the samples that it sees without an upgrade")
R4 = Rule("R4", "the loss equals the control's to the bit until the first upgraded step, and stays near it after")
R5 = Rule("R5", "all ranks hold the same parameters and optimizer state after every training step")
# The controls are one measurement of how far two releases drift apart; a third run may drift a little farther.
MARGIN = 4.0
# What a restart alone may change, relative to the largest loss: rounding, because buckets are reordered. A job that
# does not restore its optimizer or generator is off by far more.
RESTART = 1e-4
# (training step, rank) -> what a control logged.
ControlLines: TypeAlias = Mapping[tuple[int, int], Line]


def training_steps(index: EvidenceIndex) -> Invariant:
    """R2."""
    history, last = index.history, index.last_training_step
    if not history.steps:
        return R2.unknown("no training step was logged")
    # What an interrupt prevented is not lost, and what the last generation logged was not collected.
    cut_short = len(index.results) < len(index.observation.plan.steps)
    reached = max(history.steps)
    breaches = [*_doubled(index), *_missing(index, reached if cut_short else last), *_ragged(index)]
    if breaches:
        return R2.fails(breaches)
    if cut_short:
        return R2.unknown(f"interrupted at step {reached} of {last}; up to there none is lost or counted twice")
    redone = sum(redo.count for redo in history.redone)
    count = len(index.observation.generations)
    return R2.passes(f"steps 1 to {last} once each over {count} generations; {redone} redone after faults")


def _doubled(index: EvidenceIndex) -> list[Breach]:
    """Gaps within a generation, and more steps redone than one checkpoint interval."""
    allowed = index.observation.plan.spec.checkpoint_every
    breaches = [Breach(gap.generation.step, gap.text) for gap in index.history.gaps]
    breaches += [
        Breach(redo.generation.step, f"{redo.count} steps from {redo.first} were redone, {allowed} are allowed")
        for redo in index.history.redone
        if redo.count > allowed
    ]
    return breaches


def _missing(index: EvidenceIndex, until: int) -> list[Breach]:
    """Steps through `until` that nobody did, and steps beyond the plan's last."""
    steps, last = index.history.steps, index.last_training_step
    end = index.observation.plan.steps[-1].number
    missing = [step for step in range(1, until + 1) if step not in steps]
    breaches = (
        [Breach(end, f"{len(missing)} of {last} steps are missing, the first is {missing[0]}")] if missing else []
    )
    return breaches + [Breach(end, f"step {step} is beyond the last one") for step in steps if step > last]


def _ragged(index: EvidenceIndex) -> list[Breach]:
    """Surviving steps that not every rank logged; the last of a killed generation is redone and does not count."""
    return [
        Breach(
            surviving.generation.step,
            f"step {surviving.step} was logged by {len(surviving.lines)} of {len(surviving.generation.versions)} ranks",
        )
        for surviving in index.history.steps.values()
        if len(surviving.lines) != len(surviving.generation.versions)
    ]


def samples(index: EvidenceIndex) -> Invariant:
    """R3."""
    control, steps = index.control(ControlKind.OLD), index.history.steps
    if control is None:
        return R3.unknown("the control on the old release did not finish")
    if not steps:
        return R3.unknown("no training step was logged")
    breaches = []
    for surviving in steps.values():
        expected = sorted(
            sample for (step, _), line in control.items() if step == surviving.step for sample in line.samples
        )
        got = sorted(sample for line in surviving.lines.values() for sample in line.samples)
        if got != expected:
            missing, extra = _difference(expected, got)
            where = f"step {surviving.step} (generation {surviving.generation.number})"
            text = f"{where}: missing samples {missing}, unexpected samples {extra}"
            breaches.append(Breach(surviving.generation.step, text))
    seed = other_numbers(index.observation.plan.spec.new.name, index.drawn_otherwise().samplers)
    if breaches:
        return _with(R3.fails(breaches), _as_the_new_control(index), seed)
    count = sum(len(line.samples) for surviving in steps.values() for line in surviving.lines.values())
    return _with(R3.passes(f"{count} samples over {len(steps)} steps, the same as in the control"), seed)


def other_numbers(release: str, names: Iterable[str]) -> str:
    """That one seed gives these samplers or layers other numbers on the new release; empty where there are none."""
    return f"one seed gives other numbers on {release}: {', '.join(names)}" if names else ""


def _with(invariant: Invariant, *more: str) -> Invariant:
    """The invariant with more evidence."""
    return replace(invariant, evidence="; ".join([invariant.evidence, *(text for text in more if text)]))


def _as_the_new_control(index: EvidenceIndex) -> str:
    """That the samples are those that the new release draws by itself: its sampler orders them otherwise."""
    new, name = index.control(ControlKind.NEW_RESTARTED), index.observation.plan.spec.new.name
    upgraded = [each for each in index.history.steps.values() if set(each.generation.versions) == {name}]
    if new is None or not upgraded:
        return ""
    alike = all(
        line.samples == _samples(new, each.step, rank) for each in upgraded for rank, line in each.lines.items()
    )
    return f"they are those of the control on {name}: its sampler draws another order from one seed" if alike else ""


def _samples(control: ControlLines, step: int, rank: int) -> tuple[int, ...]:
    line = control.get((step, rank))
    return line.samples if line else ()


def _difference(expected: Sequence[int], got: Sequence[int]) -> tuple[list[int], list[int]]:
    missing, extra = list(expected), []
    for sample in got:
        if sample in missing:
            missing.remove(sample)
        else:
            extra.append(sample)
    return missing[:4], extra[:4]


def loss(index: EvidenceIndex) -> Invariant:
    """R4."""
    plain, old, new = (index.control(name) for name in ControlKind)
    if plain is None or old is None or new is None:
        names = [name for name in ControlKind if index.control(name) is None]
        return R4.unknown(f"no finished control: {', '.join(names)}")
    steps = sorted(index.history.steps.values(), key=lambda surviving: surviving.step)
    if not steps:
        return R4.unknown("no training step was logged")
    if breach := restart_alone(index):
        return R4.fails([breach])
    alone = _differences(old, plain)
    apart = _differences(old, new)
    drift = _larger(apart, alone)
    seed = other_numbers(index.observation.plan.spec.new.name, index.drawn_otherwise().layers)
    upgraded = next((surviving.step for surviving in steps if _upgraded(surviving, index)), None)
    for surviving in steps:
        early = upgraded is None or surviving.step < upgraded
        allowed = 0.0 if early else MARGIN * _largest(drift, surviving.step)
        if breach := _diverges(surviving, old, allowed):
            return _with(R4.fails([breach]), seed)
    exact_until = f"bitwise through step {upgraded - 1}" if upgraded else "bitwise"
    farthest = max(drift.values(), default=0.0)
    return _with(R4.passes(f"{exact_until}; {_closeness(farthest)}"), _more_than_rounding(plain, apart), seed)


def _diverges(surviving: SurvivingStep, control: ControlLines, allowed: float) -> Breach | None:
    """How the loss of a step is farther from the control's than allowed."""
    step, generation = surviving.step, surviving.generation
    worst, rank = max((abs(line.loss - _loss(control, step, rank)), rank) for rank, line in surviving.lines.items())
    if worst <= allowed:
        return None
    versions = ", ".join(generation.versions)
    where = f"first diverging step {step} (generation {generation.number}: {versions})"
    text = f"{where}: rank {rank} is off by {worst:.3g}, {allowed:.3g} is allowed"
    return Breach(generation.step, text)


def restart_alone(index: EvidenceIndex) -> Breach | None:
    """Where the job does not resume from its own checkpoint as it was, without any upgrade."""
    plain, old = index.control(ControlKind.OLD), index.control(ControlKind.OLD_RESTARTED)
    if plain is None or old is None:
        return None
    alone = _differences(old, plain)
    scale = max((abs(line.loss) for line in plain.values()), default=0.0)
    first = next((step for step, off in sorted(alone.items()) if not off <= RESTART * scale), None)
    if first is None:
        return None
    surviving = index.history.steps.get(first)
    text = f"first diverging step {first}: a restart alone changes the loss by {alone[first]:.3g}, without any upgrade"
    question = "does the job restore its optimizer and generators?"
    return Breach(surviving.generation.step if surviving else None, f"{text}; {question}")


def _more_than_rounding(plain: ControlLines, apart: Mapping[int, float]) -> str:
    """That the releases' own controls part by more than rounding, so that the loss is held against little."""
    scale = max((abs(line.loss) for line in plain.values()), default=0.0)
    first = next((step for step, off in sorted(apart.items()) if not off <= RESTART * scale), None)
    return f"the controls part at step {first} by more than rounding: does the job use dropout?" if first else ""


def _closeness(farthest: float) -> str:
    if farthest == 0:
        return "the two releases agree to the bit, and so does the rehearsal"
    return f"after it within {MARGIN:.0f} times the controls' difference, {farthest:.3g} at most"


def _upgraded(surviving: SurvivingStep, index: EvidenceIndex) -> bool:
    return index.observation.plan.spec.new.name in surviving.generation.versions


def _loss(control: ControlLines, step: int, rank: int) -> float:
    line = control.get((step, rank))
    return line.loss if line else float("nan")


def _differences(lines: ControlLines, others: ControlLines) -> dict[int, float]:
    """Training step -> largest difference of the loss over ranks."""
    largest: dict[int, float] = {}
    for (step, rank), line in lines.items():
        largest[step] = max(largest.get(step, 0.0), abs(line.loss - _loss(others, step, rank)))
    return largest


def _larger(left: Mapping[int, float], right: Mapping[int, float]) -> dict[int, float]:
    return {step: max(value, right.get(step, 0.0)) for step, value in left.items()}


def _largest(differences: Mapping[int, float], until: int) -> float:
    """Differences grow with training: the largest up to this step."""
    return max((value for step, value in differences.items() if step <= until), default=0.0)


def agreement(index: EvidenceIndex) -> Invariant:
    """R5."""
    steps = index.history.steps
    lines = [line for surviving in steps.values() for line in surviving.lines.values()]
    if not lines or any(line.hash is None for line in lines):
        return R5.unknown("the step log does not hold a hash of the parameters for every step")
    allowed = _spread(index)
    breaches, rounded = [], 0
    for generation in index.observation.generations:
        for step in sorted({line.step for line in generation.lines}):
            together = [line for line in generation.lines if line.step == step]
            problem = _disagreement(generation, together, allowed)
            rounded += len({line.hash for line in together}) > 1
            if problem:
                breaches.append(Breach(generation.step, f"step {step} (generation {generation.number}): {problem}"))
    if breaches:
        return R5.fails(breaches)
    rounding = f"; in {rounded} steps the two releases round differently" if rounded else ""
    return R5.passes(f"one hash on all ranks after each of {len(steps)} steps{rounding}")


def _spread(index: EvidenceIndex) -> float:
    """How far apart the norms of the two controls may be, relative: zero where the releases agree to the bit."""
    old, new = index.control(ControlKind.OLD_RESTARTED), index.control(ControlKind.NEW_RESTARTED)
    if old is None or new is None:
        return 0.0
    apart: list[float] = []
    for at, line in old.items():
        other = new.get(at)
        if line.norm and other is not None and other.norm is not None:
            apart.append(abs(line.norm - other.norm) / abs(line.norm))
    return MARGIN * max(apart, default=0.0)


def _disagreement(generation: Generation, lines: Sequence[Line], allowed: float) -> str | None:
    """Ranks of one release are equal to the bit; two releases may differ by as much as their controls do."""
    for version in dict.fromkeys(generation.versions):
        ours = [line for line in lines if generation.versions[line.rank] == version]
        if len({line.hash for line in ours}) > 1:
            ranks = ", ".join(str(line.rank) for line in ours if line.hash != ours[0].hash)
            return f"rank {ranks} differs from rank {ours[0].rank}, both on {version}"
    norms: list[float] = [line.norm for line in lines if line.norm is not None]
    if len({line.hash for line in lines}) > 1:
        top = max(norms, default=0.0)
        apart = (top - min(norms)) / abs(top) if top else float("inf")
        if not apart <= allowed:
            return f"the releases' parameters are apart by {apart:.3g} of their norm, {allowed:.3g} is allowed"
    return None
