"""A rule: the name and promise of an invariant, and the four ways in which it can come out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal.findings import Breach, Invariant


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
        evidence = first_few(_distinct(breaches))
        return Invariant(
            name=self.name, promise=self.promise, verdict=Verdict.FAIL, evidence=evidence, steps=steps,
            breaches=tuple(breaches),
        )  # fmt: skip

    def unknown(self, evidence: str) -> Invariant:
        """Nothing shows that it holds."""
        return Invariant(name=self.name, promise=self.promise, verdict=Verdict.UNKNOWN, evidence=evidence)

    def untested(self, evidence: str) -> Invariant:
        """This plan does not test it, and says so."""
        return Invariant(name=self.name, promise=self.promise, verdict=Verdict.UNSUPPORTED, evidence=evidence)


def _distinct(breaches: Sequence[Breach]) -> list[str]:
    """Each breach in words; those with one cause as the first of them, the others counted."""
    alike: dict[str, list[Breach]] = {}
    for breach in breaches:
        alike.setdefault(breach.cause or breach.text, []).append(breach)
    return [
        each[0].text + (f" (and {len(each) - 1} more with this cause)" if len(each) > 1 else "")
        for each in alike.values()
    ]


def first_few(parts: Iterable[str], most: int = 3) -> str:
    """The first few of many, and how many more."""
    texts = list(parts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more
