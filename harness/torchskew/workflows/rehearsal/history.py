"""Which training steps count: generations laid over each other, what was redone, and what does not add up; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from torchskew.workflows.rehearsal.observed import Generation, Line

# A wait between two training steps that is longer than this is time without progress, in seconds.
PAUSE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivingStep:
    """A training step that counts: the generation that did it last, and each rank's line."""

    step: int
    generation: Generation
    lines: Mapping[int, Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedoneSteps:
    """Training steps that a generation did again because it resumed from an older checkpoint."""

    generation: Generation
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A rank's step log that does not go on as a resumable job's does."""

    generation: Generation
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingHistory:
    """steps: those that count, by training step; redone; gaps."""

    steps: Mapping[int, SurvivingStep] = field(default_factory=dict)
    redone: tuple[RedoneSteps, ...] = ()
    gaps: tuple[Gap, ...] = ()


def training_history(generations: Iterable[Generation]) -> TrainingHistory:
    """Follow the generations in order; each replaces every step after the checkpoint that it resumed from."""
    steps: dict[int, SurvivingStep] = {}
    redone: list[RedoneSteps] = []
    gaps: list[Gap] = []
    for generation in generations:
        if not generation.lines:
            continue
        resumed = generation.resumed.step if generation.resumed else 0
        again = [step for step in steps if step > resumed]
        if again:
            redone.append(RedoneSteps(generation=generation, first=resumed + 1, count=len(again)))
        steps = {step: surviving for step, surviving in steps.items() if step <= resumed}
        gaps += _gaps(generation, resumed)
        for step in sorted({line.step for line in generation.lines}):
            lines = {line.rank: line for line in generation.lines if line.step == step}
            steps[step] = SurvivingStep(step=step, generation=generation, lines=lines)
    return TrainingHistory(steps=steps, redone=tuple(redone), gaps=tuple(gaps))


def _gaps(generation: Generation, resumed: int) -> list[Gap]:
    """Where a rank's own steps are not resumed + 1, resumed + 2, …, once each."""
    gaps = []
    for rank in range(len(generation.versions)):
        expected = resumed + 1
        for line in (line for line in generation.lines if line.rank == rank):
            if line.step != expected:
                word = "again" if line.step < expected else "too early"
                where = f"generation {generation.number}, rank {rank}"
                text = f"{where}: step {line.step} {word}, where {expected} was next"
                gaps.append(Gap(generation=generation, text=text))
                break
            expected += 1
    return gaps


def idle_seconds(generations: Iterable[Generation]) -> float:
    """Seconds without a completed training step, counting only waits longer than PAUSE."""
    times = sorted(line.at for generation in generations for line in generation.lines)
    waits = [later - earlier for earlier, later in pairwise(times)]
    return sum(wait for wait in waits if wait > PAUSE)
