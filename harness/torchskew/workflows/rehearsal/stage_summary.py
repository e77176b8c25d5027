"""What became of each stage of a plan: what ran mixed, where it stopped, and what it cost; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torchskew.workflows.rehearsal.history import PAUSE
from torchskew.workflows.rehearsal.invariants.index import EvidenceIndex, attempts
from torchskew.workflows.rehearsal.observed import Observation, StartResult, State, StepResult
from torchskew.workflows.rehearsal.plan_text import group_text
from torchskew.workflows.rehearsal.planned import Stage, StartJob, Step

NOT_REACHED = "not reached"
RESULT_TEXTS = {
    StartResult.TRAINS: "trains",
    StartResult.REFUSED: "refused",
    StartResult.FAILED: "does not start",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSummary:
    """One stage. versions: of each node while it trains. steps: its training steps that count; idle: in seconds.

    result: trains, refused, what failed, or that it was not reached. bad: whether that differs from the plan.
    """

    stage: Stage
    versions: tuple[str, ...]
    result: str
    bad: bool
    steps: int
    redone: int
    idle: float
    seconds: float

    @property
    def group(self) -> str:
        """`3 on 2.6.0, 1 on 2.14.1`."""
        return group_text(self.versions)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """By stage: training steps that count, training steps redone, seconds of waits that ended in it."""

    steps: Mapping[Stage, int]
    redone: Mapping[Stage, int]
    idle: Mapping[Stage, float]


def summarise(observation: Observation) -> tuple[StageSummary, ...]:
    """Every stage in order."""
    index = EvidenceIndex(observation)
    costs = _costs(index)
    return tuple(_summary(index, stage, costs) for stage in observation.plan.stages)


def _summary(index: EvidenceIndex, stage: Stage, costs: _Costs) -> StageSummary:
    steps = [step for step in index.observation.plan.steps if step.stage == stage]
    results = [index.results[step.number] for step in steps if step.number in index.results]
    start = _start(steps)
    result, bad = _result(index, steps, results)
    return StageSummary(
        stage=stage,
        versions=(start or steps[-1]).versions,
        result=result,
        bad=bad,
        steps=costs.steps.get(stage, 0),
        redone=costs.redone.get(stage, 0),
        idle=round(costs.idle.get(stage, 0.0), 3),
        seconds=round(sum(result.seconds for result in results), 3),
    )


def _start(steps: Sequence[Step]) -> Step | None:
    return next((step for step in steps if isinstance(step.action, StartJob)), None)


def _costs(index: EvidenceIndex) -> _Costs:
    stage_of = {step.number: step.stage for step in index.observation.plan.steps}
    steps = Counter(stage_of[surviving.generation.step] for surviving in index.history.steps.values())
    redone: Counter[Stage] = Counter()
    for redo in index.history.redone:
        redone[stage_of[redo.generation.step]] += redo.count
    idle = dict.fromkeys(stage_of.values(), 0.0)
    times = sorted(
        (line.at, generation.step) for generation in index.observation.generations for line in generation.lines
    )
    for (earlier, _), (later, number) in pairwise(times):
        idle[stage_of[number]] += later - earlier if later - earlier > PAUSE else 0.0
    return _Costs(steps=steps, redone=redone, idle=idle)


def _result(index: EvidenceIndex, steps: Sequence[Step], results: Sequence[StepResult]) -> tuple[str, bool]:
    """What became of a stage, and whether that differs from the plan."""
    failed = next((result for result in results if result.state is State.FAILED), None)
    start = _start(steps)
    tries = attempts(index.results.get(start.number)) if start else ()
    text = RESULT_TEXTS[tries[-1].result] if tries else NOT_REACHED
    if tries and tries[-1].result is StartResult.TRAINS and tries[-1].checkpoint:
        text += f" from {tries[-1].checkpoint}" + (f", at attempt {len(tries)}" if len(tries) > 1 else "")
    if failed:
        text += f"; step {failed.number} failed"
    return text, failed is not None or len(results) < len(steps) or len(tries) > 1
