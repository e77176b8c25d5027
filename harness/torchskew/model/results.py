"""A judged cell, the cell against its expectation, and the decision over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torchskew.model.cells import Cell
from torchskew.model.declared import Expectation
from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.versions import EnvironmentFailure

RIGHT = "right on every rank"  # the reason of a cell that passes; a judge's note follows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a cell was judged. outcomes: one per rank of the last attempt. skipped: case -> why (a version lacks it).

    reason: one line in words. key: content key for the cache. phases: seconds by phase, slowest rank.
    seen, seen_outcomes: of a repeated cell, the verdict and the outcomes of each repetition, in their order.
    inferred_from: ids of the cells that a cell which was not run is inferred from.
    unprovisioned: of an UNKNOWN cell, the version without an environment.
    """

    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    reason: str
    blocked_by: CellId | None = None
    cached: bool = False
    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    seen: tuple[Verdict, ...] = ()
    seen_outcomes: tuple[tuple[Outcome, ...], ...] = ()
    inferred_from: tuple[CellId, ...] = ()
    unprovisioned: EnvironmentFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult(Judgement):
    """A judged cell: its judgement with the cell and every attempt at it."""

    cell: Cell
    attempts: tuple[Attempt, ...] = ()

    @property
    def flaky(self) -> bool:
        """Its repetitions showed more than one verdict."""
        return len(set(self.seen)) > 1

    @property
    def note(self) -> str:
        """What the judge says of a cell that passes, besides that it is right."""
        return self.reason.removeprefix(f"{RIGHT}; ") if self.reason.startswith(f"{RIGHT}; ") else ""

    @property
    def reusable(self) -> bool:
        """It really ran, and says something about the versions: equal cells need not run again."""
        return self.verdict not in (Verdict.BLOCKED, Verdict.UNKNOWN) and not self.inferred_from

    @property
    def ranks(self) -> tuple[RankFacts, ...]:
        """The facts of the attempt that was judged."""
        return self.attempts[-1].ranks if self.attempts else ()

    @property
    def surprising(self) -> bool:
        """A cell that ran and whose outcomes differ from the prediction."""
        ran = self.verdict not in (Verdict.BLOCKED, Verdict.UNKNOWN, Verdict.UNSUPPORTED)
        ran = ran and not self.inferred_from
        return ran and bool(self.cell.predicted) and self.outcomes != self.cell.predicted


class Status(StrEnum):
    """A cell against the baseline; all but the first four shut the gate."""

    EXPECTED = "expected"
    KNOWN_FAILURE = "known-failure"
    KNOWN_FLAKY = "known-flaky"
    NOT_JUDGED = "not-judged"
    FLAKY = "flaky"
    REGRESSION = "regression"
    UNEXPECTED_PASS = "unexpected-pass"
    FAILS_DIFFERENTLY = "fails-differently"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A result held against its expectation. status: as-expected, known-failure, regression, ...

    expectation: the matching entry, when one does.
    """

    result: CellResult
    status: Status
    expectation: Expectation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of a plan a run was, from 1."""

    index: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The result of a run: every planned cell checked, problems in words, and the exit code.

    part: of a run that was only a part of a plan, which one; nothing is decided then.
    difference: what changed since the run it was compared with, as text; empty when it was compared with none.
    changed: ids of the cells that `difference` shows.
    """

    checked: tuple[Checked, ...]
    problems: tuple[str, ...]
    exit_code: int
    sentence: str
    difference: str = ""
    changed: tuple[CellId, ...] = ()
    part: Part | None = None
