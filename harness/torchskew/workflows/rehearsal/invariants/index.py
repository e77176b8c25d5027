"""What several invariants look up: the training history, controls by name, results by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from torchskew.workflows.rehearsal.history import TrainingHistory, training_history
from torchskew.workflows.rehearsal.observed import (
    ControlKind,
    Draws,
    EndKind,
    Generation,
    Line,
    Observation,
    StartAttempt,
    StartEvidence,
    StepResult,
)
from torchskew.workflows.rehearsal.planned import Action, Step

A = TypeVar("A", bound=Action)


@dataclass(frozen=True)
class EvidenceIndex:
    """What a rehearsal observed, ready to be looked up."""

    observation: Observation

    @cached_property
    def history(self) -> TrainingHistory:
        """The training steps that count."""
        return training_history(self.observation.generations)

    @cached_property
    def results(self) -> Mapping[int, StepResult]:
        """By number of the plan's step."""
        return {result.number: result for result in self.observation.results}

    @cached_property
    def last_training_step(self) -> int:
        """Where the plan ends; a shortened plan ends before the job does."""
        return max((step.training_step or 0 for step in self.observation.plan.steps), default=0)

    def steps(self, *kinds: type[Action]) -> Iterator[tuple[Step, StepResult | None]]:
        """The plan's steps of these kinds with their results (None: not reached)."""
        for step in self.observation.plan.steps:
            if isinstance(step.action, kinds):
                yield step, self.results.get(step.number)

    def actions(self, kind: type[A]) -> Iterator[tuple[Step, A, StepResult | None]]:
        """The plan's steps of one kind with their action and result (None: not reached)."""
        for step in self.observation.plan.steps:
            if isinstance(step.action, kind):
                yield step, step.action, self.results.get(step.number)

    def step(self, number: int) -> Step:
        """A plan's step by number."""
        return next(step for step in self.observation.plan.steps if step.number == number)

    def control(self, name: ControlKind) -> Mapping[tuple[int, int], Line] | None:
        """(step, rank) -> line of a control that finished, else None."""
        for control in self.observation.controls:
            if control.name is name and control.generation.end.kind is EndKind.FINISHED:
                return {(line.step, line.rank): line for line in control.generation.lines}
        return None

    def drawn_otherwise(self) -> Draws:
        """The samplers and layers to which one seed gives other numbers on the new release, with its digests."""
        draws = {control.name: control.draws or Draws() for control in self.observation.controls}
        old, new = draws.get(ControlKind.OLD, Draws()), draws.get(ControlKind.NEW_RESTARTED, Draws())

        def others(left: Mapping[str, str], right: Mapping[str, str]) -> dict[str, str]:
            return {name: digest for name, digest in right.items() if left.get(name, digest) != digest}

        return Draws(samplers=others(old.samplers, new.samplers), layers=others(old.layers, new.layers))

    def generations_of(self, number: int) -> list[Generation]:
        """What a step of the plan started."""
        return [generation for generation in self.observation.generations if generation.step == number]


def attempts(result: StepResult | None) -> tuple[StartAttempt, ...]:
    """The starts that a step tried."""
    evidence = result.evidence if result else None
    return evidence.attempts if isinstance(evidence, StartEvidence) else ()
