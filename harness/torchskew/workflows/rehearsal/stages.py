"""What each stage of a plan came to: the table that shows what ran mixed, where it stopped, and what it cost; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torchskew.workflows.rehearsal.case import Case
from torchskew.workflows.rehearsal.model import Do, Observed, State, Step, StepResult

NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage. versions: per node while it trains. steps: training steps of it that count; idle, seconds: seconds.

    came_to: trains, refused, what failed, or that it was not reached. bad: whether that is not what was planned.
    """

    name: str
    versions: tuple[str, ...]
    came_to: str
    bad: bool
    steps: int
    redone: int
    idle: float
    seconds: float

    @property
    def group(self) -> str:
        """`3 on 2.6.0, 1 on 2.14.1`."""
        return ", ".join(f"{count} on {name}" for name, count in Counter(self.versions).items())


def stages(seen: Observed, longest: float) -> tuple[Stage, ...]:
    """Every stage in order. longest: a wait between two training steps that is still none, in seconds."""
    case = Case(seen)
    steps, redone, idle = _counts(case, longest)
    found = []
    for name in dict.fromkeys(step.stage for step in seen.plan.steps):
        there = [step for step in seen.plan.steps if step.stage == name]
        results = [case.results[step.number] for step in there if step.number in case.results]
        start = next((step for step in there if step.do is Do.START), there[-1])
        came_to, bad = _came_to(case, there, results)
        found.append(
            Stage(
                name=name, versions=start.versions, came_to=came_to, bad=bad, steps=steps[name], redone=redone[name],
                idle=round(idle[name], 3), seconds=round(sum(one.seconds for one in results), 3),
            )
        )  # fmt: skip
    return tuple(found)


def _counts(case: Case, longest: float) -> tuple[Counter[str], Counter[str], Mapping[str, float]]:
    """Steps that count, steps redone, and seconds of waits that ended, by stage."""
    stage_of = {step.number: step.stage for step in case.seen.plan.steps}
    steps = Counter(stage_of[row.generation.step] for row in case.lineage.rows.values())
    redone: Counter[str] = Counter()
    for redo in case.lineage.redone:
        redone[stage_of[redo.generation.step]] += redo.count
    idle = dict.fromkeys(stage_of.values(), 0.0)
    times = sorted((line.at, stage_of[one.step]) for one in case.seen.generations for line in one.lines)
    for (earlier, _), (later, stage) in pairwise(times):
        idle[stage] += later - earlier if later - earlier > longest else 0.0
    return steps, redone, idle


def _came_to(case: Case, there: Sequence[Step], results: Sequence[StepResult]) -> tuple[str, bool]:
    failed = next((one for one in results if one.state is State.FAILED), None)
    start = next((step for step in there if step.do is Do.START), None)
    tried = case.attempts(case.results.get(start.number)) if start else []
    outcome = str(tried[-1].get("outcome")) if tried else NOT_REACHED
    text = outcome if outcome in ("trains", "refused", NOT_REACHED) else "does not start"
    if text == "trains" and tried[-1].get("checkpoint"):
        text += f" from {tried[-1]['checkpoint']}" + (f", at attempt {len(tried)}" if len(tried) > 1 else "")
    if failed:
        text += f"; step {failed.number} failed"
    return text, failed is not None or len(results) < len(there) or len(tried) > 1
