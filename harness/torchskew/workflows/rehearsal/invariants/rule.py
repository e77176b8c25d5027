"""A rule: the name and promise of an invariant, and the four ways in which it can come out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal.findings import Invariant


@dataclass(frozen=True, slots=True)
class Breach:
    """One place where a promise was broken: the number of the plan's step (None: no single one), and how."""

    step: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """The name and the promise of an invariant."""

    name: str
    promise: str

    def passes(self, evidence: str) -> Invariant:
        """It holds, and this shows it."""
        return Invariant(name=self.name, promise=self.promise, verdict=Verdict.PASS, evidence=evidence)

    def fails(self, breaches: Sequence[Breach]) -> Invariant:
        """It was broken here."""
        steps = tuple(sorted({breach.step for breach in breaches if breach.step is not None}))
        evidence = first_few(breach.text for breach in breaches)
        return Invariant(
            name=self.name, promise=self.promise, verdict=Verdict.FAIL, evidence=evidence, steps=steps
        )  # fmt: skip

    def unknown(self, evidence: str) -> Invariant:
        """Nothing shows that it holds."""
        return Invariant(name=self.name, promise=self.promise, verdict=Verdict.UNKNOWN, evidence=evidence)

    def untested(self, evidence: str) -> Invariant:
        """This plan does not test it, and says so."""
        return Invariant(name=self.name, promise=self.promise, verdict=Verdict.UNSUPPORTED, evidence=evidence)


def first_few(parts: Iterable[str], most: int = 3) -> str:
    """The first few of many, and how many more."""
    texts = list(parts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more
