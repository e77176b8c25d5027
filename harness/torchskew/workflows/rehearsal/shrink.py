"""Shrink: the smallest plan that still fails the same way, by delta debugging over what can be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal.model import Do, Expect, Finding, Rehearsal, Step
from torchskew.workflows.rehearsal.plan import digested
from torchskew.workflows.rehearsal.runnable import flaw

# Each run takes as long as a rehearsal; most failures are down to their core by then.
RUNS = 8
Unit = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """The smallest failing plan found. runs: rehearsals that were spent; bounded: there was more to try."""

    plan: Rehearsal
    runs: int
    bounded: bool


def failing(finding: Finding) -> frozenset[str]:
    """The names of what failed: two plans fail the same way where these are the same or more."""
    return frozenset(one.name for one in finding.invariants if one.verdict is Verdict.FAIL)


def units(plan: Rehearsal) -> tuple[Unit, ...]:
    """What can be left out as one, by numbers of steps: a fault, a reading, a probe, a rollback, a stage."""
    found: list[Unit] = [(step.number,) for step in plan.steps if step.do in (Do.FAULT, Do.READ, Do.PROBE)]
    stages = list(dict.fromkeys(step.stage for step in plan.steps))
    for at, stage in enumerate(stages):
        there = tuple(step.number for step in plan.steps if step.stage == stage)
        if stage.startswith("rollback") and at + 1 < len(stages):
            found.append((*there, *(step.number for step in plan.steps if step.stage == stages[at + 1])))
        elif at:
            found.append(there)
    return tuple(found)


def without(plan: Rehearsal, left_out: Sequence[Unit]) -> Rehearsal | None:
    """The plan without these units, numbered anew; None where what is left can't be carried out."""
    gone = {number for unit in left_out for number in unit}
    kept = [step for step in plan.steps if step.number not in gone]
    if flaw(kept, plan.spec):
        return None
    steps = tuple(replace(step, number=number) for number, step in enumerate(_held(kept), 1))
    lost = {step.stage for step in plan.steps} - {step.stage for step in steps}
    notes = tuple(note for note in plan.notes if not any(note.startswith(f"{stage} (") for stage in lost))
    return digested(replace(plan, steps=steps, notes=notes))


def _held(steps: Sequence[Step]) -> list[Step]:
    """A start waits at the end of the training that now follows it."""
    held = []
    for at, step in enumerate(steps):
        after = steps[at + 1] if at + 1 < len(steps) else None
        if step.do is Do.START and step.expect is not Expect.REFUSE:
            until = after.until if after and after.do in (Do.TRAIN, Do.FAULT) else None
            held.append(replace(step, hold=until))
        else:
            held.append(step)
    return held


def shrink(plan: Rehearsal, fails: Callable[[Rehearsal], bool], runs: int = RUNS) -> Shrunk:
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
