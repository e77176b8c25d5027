"""Shrink: the smallest plan that still fails the same way, by delta debugging over what can be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal.findings import Finding
from torchskew.workflows.rehearsal.plan import with_digest
from torchskew.workflows.rehearsal.planned import (
    Collective,
    GroupPrediction,
    InjectFault,
    ReadCheckpoint,
    RehearsalPlan,
    Rejoin,
    StageKind,
)
from torchskew.workflows.rehearsal.validity import first_problem

# Each run takes as long as a rehearsal; most failures are down to their core by then.
RUNS = 8
# Numbers of steps that are left out together.
Unit = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """The smallest failing plan found. runs: rehearsals that were spent; bounded: there was more to try."""

    plan: RehearsalPlan
    runs: int
    bounded: bool


def failing(finding: Finding) -> frozenset[str]:
    """The names of what failed: two plans fail the same way where these are the same or more."""
    return frozenset(each.name for each in finding.invariants if each.verdict is Verdict.FAIL)


def units(plan: RehearsalPlan) -> tuple[Unit, ...]:
    """What can be left out together, by numbers of steps: a fault, a reading, a collective, a rollback, a stage."""
    alone = InjectFault | ReadCheckpoint | Collective | Rejoin
    parts: list[Unit] = [(step.number,) for step in plan.steps if isinstance(step.action, alone)]
    stages = plan.stages
    numbers = {stage: tuple(step.number for step in plan.steps if step.stage == stage) for stage in stages}
    for at, stage in enumerate(stages):
        if stage.kind is StageKind.ROLLBACK and at + 1 < len(stages):
            parts.append((*numbers[stage], *numbers[stages[at + 1]]))
        elif at:
            parts.append(numbers[stage])
    return tuple(parts)


def without(plan: RehearsalPlan, left_out: Sequence[Unit]) -> RehearsalPlan | None:
    """The plan without these units, renumbered; None where the rest can't be carried out."""
    gone = {number for unit in left_out for number in unit}
    kept = [step for step in plan.steps if step.number not in gone]
    if first_problem(kept, plan.spec):
        return None
    steps = tuple(replace(step, number=number) for number, step in enumerate(kept, 1))
    lost = {step.stage for step in plan.steps} - {step.stage for step in steps}
    predictions = tuple(
        prediction
        for prediction in plan.predictions
        if not (isinstance(prediction, GroupPrediction) and prediction.stage in lost)
    )
    return with_digest(replace(plan, steps=steps, predictions=predictions))


def shrink(plan: RehearsalPlan, fails: Callable[[RehearsalPlan], bool], runs: int = RUNS) -> Shrunk:
    """Leave out ever smaller parts while the plan still fails. fails: carries out a plan, at most `runs` times."""
    left, spent = list(units(plan)), 0
    out: list[Unit] = []
    best, size = plan, max(1, len(left) // 2)
    while left:
        progress = False
        for start in range(0, len(left), size):
            part = left[start : start + size]
            candidate = without(plan, [*out, *part])
            if candidate is None or len(candidate.steps) >= len(best.steps):
                continue
            if spent == runs:
                return Shrunk(plan=best, runs=spent, bounded=True)
            spent += 1
            if fails(candidate):
                best, out, progress = candidate, [*out, *part], True
                left = [unit for unit in left if unit not in part]
                break
        if not progress and size == 1:
            break
        size = min(size, max(1, len(left))) if progress else max(1, size // 2)
    return Shrunk(plan=best, runs=spent, bounded=False)
