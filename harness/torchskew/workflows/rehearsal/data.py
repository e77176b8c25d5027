"""Invariants of the training itself: steps, samples, loss, and the ranks' agreement; pure."""

from __future__ import annotations

from collections.abc import Mapping

from torchskew.workflows.rehearsal.case import Case, Rule, listed
from torchskew.workflows.rehearsal.lineage import Row
from torchskew.workflows.rehearsal.model import Generation, Invariant, Line

R2 = Rule("R2", "no training step is lost or counted twice; at most one checkpoint interval is redone")
R3 = Rule("R3", "every step sees the samples that it sees without an upgrade")
R4 = Rule("R4", "the loss equals the control's to the bit until the first upgraded step, and stays near it after")
R5 = Rule("R5", "all ranks hold the same parameters and optimizer state after every step")
# The controls are one measurement of how far two releases drift; a third run may drift a little farther.
MARGIN = 4.0
# What a restart alone may change, relative to the largest loss: rounding, because buckets are ordered anew. A job
# that does not restore its optimizer or generator is off by far more.
RESTART = 1e-4


def steps(case: Case) -> Invariant:
    """R2."""
    lineage, spec, last = case.lineage, case.seen.plan.spec, case.last_step
    if not lineage.rows:
        return R2.unknown("no training step was logged")
    problems = list(lineage.problems)
    problems += [
        (redo.generation.step, f"{redo.count} steps from {redo.first} were redone, {spec.every} are allowed")
        for redo in lineage.redone
        if redo.count > spec.every
    ]
    # What an interrupt kept from being done is not lost, and what the last generation logged was not collected.
    cut = len(case.results) < len(case.seen.plan.steps)
    missing = [step for step in range(1, max(lineage.rows) if cut else last + 1) if step not in lineage.rows]
    end = case.seen.plan.steps[-1].number
    if missing:
        problems.append((end, f"{len(missing)} of {last} steps are missing, the first is {missing[0]}"))
    problems += [(end, f"step {step} is beyond the last one") for step in lineage.rows if step > last]
    problems += _ragged(case)
    if problems:
        return R2.fails(listed(text for _, text in problems), (number for number, _ in problems))
    if cut:
        return R2.unknown(f"cut short at step {max(lineage.rows)} of {last}; until then none is lost or doubled")
    redone = sum(redo.count for redo in lineage.redone)
    count = len(case.seen.generations)
    return R2.passes(f"steps 1 to {last} once each over {count} generations; {redone} redone after faults")


def _ragged(case: Case) -> list[tuple[int, str]]:
    """Surviving steps that not every rank logged; the last of a killed generation is redone and does not count."""
    return [
        (row.generation.step, f"step {row.step} was logged by {len(row.lines)} of {len(row.generation.versions)} ranks")
        for row in case.lineage.rows.values()
        if len(row.lines) != len(row.generation.versions)
    ]


def samples(case: Case) -> Invariant:
    """R3."""
    control = case.control("old")
    if control is None:
        return R3.unknown("the control on the old release did not finish")
    if not case.lineage.rows:
        return R3.unknown("no training step was logged")
    wrong = []
    for row in case.lineage.rows.values():
        expected = sorted(one for (step, _), line in control.items() if step == row.step for one in line.samples)
        got = sorted(one for line in row.lines.values() for one in line.samples)
        if got != expected:
            lost, extra = _difference(expected, got)
            where = f"step {row.step} (generation {row.generation.number})"
            wrong.append((row.generation.step, f"{where}: missing samples {lost}, not expected {extra}"))
    if wrong:
        return R3.fails(listed(text for _, text in wrong), (number for number, _ in wrong))
    count = sum(len(line.samples) for row in case.lineage.rows.values() for line in row.lines.values())
    return R3.passes(f"{count} samples over {len(case.lineage.rows)} steps, the same as in the control")


def _difference(expected: list[int], got: list[int]) -> tuple[list[int], list[int]]:
    lost, extra = list(expected), []
    for one in got:
        if one in lost:
            lost.remove(one)
        else:
            extra.append(one)
    return lost[:4], extra[:4]


def loss(case: Case) -> Invariant:
    """R4."""
    plain, old, new = case.control("old"), case.control("old restarted"), case.control("new restarted")
    if plain is None or old is None or new is None:
        names = [name for name in ("old", "old restarted", "new restarted") if case.control(name) is None]
        return R4.unknown(f"no finished control: {', '.join(names)}")
    rows = sorted(case.lineage.rows.values(), key=lambda row: row.step)
    if not rows:
        return R4.unknown("no training step was logged")
    alone = _far(old, plain)
    if restart := _restart_changes(case, plain, alone):
        return restart
    drift = _larger(_far(old, new), alone)
    upgraded = next((row.step for row in rows if _upgraded(row, case)), None)
    for row in rows:
        early = upgraded is None or row.step < upgraded
        allowed = 0.0 if early else MARGIN * _most(drift, row.step)
        worst, rank = max((abs(line.loss - _loss(old, row.step, rank)), rank) for rank, line in row.lines.items())
        if not worst <= allowed:
            what = f"step {row.step} on rank {rank} is off by {worst:.3g}, {allowed:.3g} is allowed"
            versions = ", ".join(row.generation.versions)
            first = f"first diverging step {row.step} (generation {row.generation.number}: {versions}): {what}"
            return R4.fails(first, (row.generation.step,))
    first = f"bitwise through step {upgraded - 1}" if upgraded else "bitwise"
    farthest = max(drift.values(), default=0.0)
    exact = "the two releases agree to the bit, and so does the rehearsal" if farthest == 0 else _near(farthest)
    return R4.passes(f"{first}; {exact}")


def _restart_changes(case: Case, plain: Mapping[tuple[int, int], Line], alone: Mapping[int, float]) -> Invariant | None:
    """R4 fails where the job does not come back from its own checkpoint as it was, without any upgrade."""
    scale = max((abs(line.loss) for line in plain.values()), default=0.0)
    first = next((step for step, far in sorted(alone.items()) if not far <= RESTART * scale), None)
    if first is None:
        return None
    row = case.lineage.rows.get(first)
    text = f"first diverging step {first}: a restart alone changes the loss by {alone[first]:.3g}, without any upgrade"
    return R4.fails(
        f"{text}; does the job restore its optimizer and generators?", (row.generation.step,) if row else ()
    )


def _near(farthest: float) -> str:
    return f"after it within {MARGIN:.0f} times the controls' difference, {farthest:.3g} at most"


def _upgraded(row: Row, case: Case) -> bool:
    return case.seen.plan.spec.new.name in row.generation.versions


def _loss(control: Mapping[tuple[int, int], Line], step: int, rank: int) -> float:
    line = control.get((step, rank))
    return line.loss if line else float("nan")


def _far(one: Mapping[tuple[int, int], Line], other: Mapping[tuple[int, int], Line]) -> dict[int, float]:
    """Step -> largest difference of the loss over ranks."""
    found: dict[int, float] = {}
    for (step, rank), line in one.items():
        found[step] = max(found.get(step, 0.0), abs(line.loss - _loss(other, step, rank)))
    return found


def _larger(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {step: max(value, other.get(step, 0.0)) for step, value in one.items()}


def _most(far: Mapping[int, float], step: int) -> float:
    """Differences grow with training: the largest up to this step."""
    return max((value for at, value in far.items() if at <= step), default=0.0)


def agreement(case: Case) -> Invariant:
    """R5."""
    lines = [line for row in case.lineage.rows.values() for line in row.lines.values()]
    if not lines or any(line.hash is None for line in lines):
        return R5.unknown("the step log holds no hash of parameters for every step")
    allowed = _spread(case)
    wrong, apart = [], 0
    for generation in case.seen.generations:
        for step in sorted({line.step for line in generation.lines}):
            there = [line for line in generation.lines if line.step == step]
            problem = _apart(generation, there, allowed)
            apart += len({line.hash for line in there}) > 1
            if problem:
                wrong.append((generation.step, f"step {step} (generation {generation.number}): {problem}"))
    if wrong:
        return R5.fails(listed(text for _, text in wrong), (number for number, _ in wrong))
    rounding = f"; {apart} steps where the two releases round differently" if apart else ""
    return R5.passes(f"one hash on all ranks after each of {len(case.lineage.rows)} steps{rounding}")


def _spread(case: Case) -> float:
    """How far the norms of the two controls are apart, relative: zero where the releases agree to the bit."""
    old, new = case.control("old restarted"), case.control("new restarted")
    if old is None or new is None:
        return 0.0
    far: list[float] = []
    for at, line in old.items():
        other = new.get(at)
        if line.norm and other is not None and other.norm is not None:
            far.append(abs(line.norm - other.norm) / abs(line.norm))
    return MARGIN * max(far, default=0.0)


def _apart(generation: Generation, lines: list[Line], allowed: float) -> str | None:
    """Ranks of one release are equal to the bit; two releases may differ by what their controls do."""
    for version in dict.fromkeys(generation.versions):
        ours = [line for line in lines if generation.versions[line.rank] == version]
        if len({line.hash for line in ours}) > 1:
            ranks = ", ".join(str(line.rank) for line in ours if line.hash != ours[0].hash)
            return f"rank {ranks} differs from rank {ours[0].rank}, both on {version}"
    norms: list[float] = [line.norm for line in lines if line.norm is not None]
    if len({line.hash for line in lines}) > 1:
        top = max(norms, default=0.0)
        far = (top - min(norms)) / abs(top) if top else float("inf")
        if not far <= allowed:
            return f"the releases' parameters are apart by {far:.3g} of their norm, {allowed:.3g} is allowed"
    return None
