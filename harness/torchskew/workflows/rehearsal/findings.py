"""The frozen records of what a rehearsal means: each invariant's verdict, and the answer for the operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torchskew.model.outcomes import Verdict


class Answer(StrEnum):
    """What an operator may do with the real cluster."""

    SAFE = "safe"
    STOP = "needs stop-the-world"
    UNSAFE = "not safe"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Breach:
    """One place where a promise was broken: the number of the plan's step (None: no single one), and how.

    cause: the error at the bottom of it, whole, as it is in the text; empty where there is none.
    """

    step: int | None
    text: str
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """R1..R16 judged: its verdict and what shows it. steps: numbers of the plan's steps that broke it."""

    name: str
    promise: str
    verdict: Verdict
    evidence: str
    steps: tuple[int, ...] = ()
    breaches: tuple[Breach, ...] = ()

    @property
    def shown_verdict(self) -> str:
        """The verdict as a reader gets it: what a plan does not test is no verdict."""
        return "not tested" if self.verdict is Verdict.UNSUPPORTED else str(self.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an operator reads. redone: training steps done again; idle: seconds without progress.

    first_bad: number of the first step that broke something.
    """

    answer: Answer
    because: str
    redone: int
    idle: float
    invariants: tuple[Invariant, ...]
    verdict: Verdict
    first_bad: int | None = None
