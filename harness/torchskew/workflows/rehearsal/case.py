"""What the invariants look at, worked out once: the lineage, controls by name, results by step, and small helpers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal.lineage import Lineage, trace
from torchskew.workflows.rehearsal.model import Do, Expect, Generation, Invariant, Line, Observed, Step, StepResult

PASS, FAIL, UNKNOWN, UNSUPPORTED = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN, Verdict.UNSUPPORTED


@dataclass(frozen=True)
class Case:
    """A rehearsal as seen, with what several invariants need."""

    seen: Observed

    @cached_property
    def lineage(self) -> Lineage:
        """The steps that count."""
        return trace(self.seen.generations)

    @cached_property
    def results(self) -> Mapping[int, StepResult]:
        """By number of the plan's step."""
        return {result.number: result for result in self.seen.results}

    @cached_property
    def last_step(self) -> int:
        """The training step that the plan ends at; a shortened plan ends before the job does."""
        return max((step.until or 0 for step in self.seen.plan.steps), default=0)

    def steps(self, *kinds: Do) -> Iterator[tuple[Step, StepResult | None]]:
        """The plan's steps of these kinds with what came of them."""
        for step in self.seen.plan.steps:
            if step.do in kinds:
                yield step, self.results.get(step.number)

    def step(self, number: int) -> Step:
        """A plan's step by number."""
        return next(step for step in self.seen.plan.steps if step.number == number)

    def control(self, name: str) -> Mapping[tuple[int, int], Line] | None:
        """(step, rank) -> line of a control that finished, else None."""
        for one in self.seen.controls:
            if one.name == name and one.generation.why == "finished":
                return {(line.step, line.rank): line for line in one.generation.lines}
        return None

    def generations_of(self, number: int) -> list[Generation]:
        """What a step of the plan started."""
        return [one for one in self.seen.generations if one.step == number]

    def rolls_back(self, step: Step) -> bool:
        """Whether a step belongs to a rollback."""
        return step.stage.startswith("rollback")

    def attempts(self, result: StepResult | None) -> list[Mapping[str, Any]]:
        """The starts that a step tried."""
        found = result.evidence.get("starts") if result else None
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    def mixed_may_train(self) -> bool:
        """Whether the plan has a mixed group that is to train."""
        return any(step.mixed and step.expect is Expect.TRAIN for step, _ in self.steps(Do.START))


@dataclass(frozen=True, slots=True)
class Rule:
    """The name and the promise of an invariant."""

    name: str
    promise: str

    def passes(self, evidence: str) -> Invariant:
        """It holds, and this shows it."""
        return Invariant(name=self.name, promise=self.promise, verdict=PASS, evidence=evidence)

    def fails(self, evidence: str, bad: Iterable[int]) -> Invariant:
        """These steps of the plan broke it."""
        numbers = tuple(sorted(set(bad)))
        return Invariant(name=self.name, promise=self.promise, verdict=FAIL, evidence=evidence, bad=numbers)

    def unknown(self, evidence: str) -> Invariant:
        """Nothing shows that it holds."""
        return Invariant(name=self.name, promise=self.promise, verdict=UNKNOWN, evidence=evidence)

    def void(self, evidence: str) -> Invariant:
        """This plan does not put it to the test, and says so."""
        return Invariant(name=self.name, promise=self.promise, verdict=UNSUPPORTED, evidence=evidence)


def listed(parts: Iterable[str], most: int = 3) -> str:
    """The first few of many, and how many more."""
    found = list(parts)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more
