"""What a group of a user's own test did: its ranks, its verdict, and assertions whose failure shows every rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchskew.judging.stacks import under_test
from torchskew.model.facts import ErrorFacts, RankFacts
from torchskew.model.outcomes import Json, Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.pytest.kept import ALIVE
from torchskew.report.columns import aligned

LOG_LINES = 12


@dataclass(frozen=True, slots=True, repr=False)
class Rank:
    """What one rank did."""

    facts: RankFacts
    outcome: Outcome

    @property
    def ok(self) -> bool:
        """It reached the end, and what it returned was right."""
        return self.outcome is Outcome.OK

    @property
    def error(self) -> ErrorFacts | None:
        """The exception it ended with: type (qualified name) and text; None when there was none."""
        return self.facts.error

    @property
    def torch(self) -> str | None:
        """What `torch.__version__` said in it."""
        return self.facts.torch

    @property
    def payload(self) -> Mapping[str, Json]:
        """What its function returned."""
        return self.facts.payload

    @property
    def log(self) -> str:
        """What it printed."""
        return self.facts.log

    @property
    def exit_code(self) -> int | None:
        """The code that it ended with; None when a signal ended it, or it did not end."""
        return self.facts.exit

    def __repr__(self) -> str:
        return f"<rank {self.facts.rank} of {self.facts.declared}: {self.outcome}>"


@dataclass(frozen=True, slots=True, repr=False)
class Group:
    """A group that ran: its ranks, its verdict, and assertions whose failure shows every rank."""

    result: CellResult

    @property
    def verdict(self) -> Verdict:
        """The verdict on the group as a whole."""
        return self.result.verdict

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The class of each rank, rank 0 first."""
        return self.result.outcomes

    @property
    def versions(self) -> tuple[str, ...]:
        """The version of each rank by its declared name, rank 0 first."""
        return self.result.cell.skew

    def rank(self, number: int) -> Rank:
        """One rank."""
        return Rank(self.result.ranks[number], self.result.outcomes[number])

    def right(self) -> bool:
        """True when every rank reached the end and was right; AssertionError otherwise, the report shows each rank."""
        __tracebackhide__ = True
        return self._hold("every rank right", [{Outcome.OK}])

    def refused(self) -> bool:
        """True when every rank was refused with an error that names both versions; AssertionError otherwise."""
        __tracebackhide__ = True
        return self._hold("refused clearly on every rank", [{Outcome.CLEAR}])

    def right_or_refused(self) -> bool:
        """True when every rank was right, or every rank refused; AssertionError otherwise."""
        __tracebackhide__ = True
        return self._hold("right or refused", [{Outcome.OK}, {Outcome.CLEAR}])

    def _hold(self, promise: str, good: Sequence[set[Outcome]]) -> bool:
        __tracebackhide__ = True
        if set(self.outcomes) not in good:
            raise AssertionError(f"not {promise}: {self.result.reason}")
        return True

    def __repr__(self) -> str:
        return f"<group {','.join(self.result.cell.skew)}: {self.verdict}, {'/'.join(self.outcomes)}>"

    def __str__(self) -> str:
        return table(self.result)


def table(result: CellResult, *, logs: bool = True) -> str:
    """Every rank of a cell: outcome, how far it got, its error; logs: the end of what the failed ones printed."""
    rows = [("rank", "version", "torch", "outcome", "phase", "seconds", "error")]
    for facts, outcome in zip(result.ranks, result.outcomes, strict=False):
        error = f"{facts.error.type}: {facts.error.headline[:200]}" if facts.error else ""
        error = error or facts.machine or facts.unsupported or (facts.signal or "")
        cells = (str(facts.rank), facts.declared, facts.torch or "-", str(outcome), str(facts.phase))
        rows.append((*cells, f"{facts.seconds:.2f}", error))
    bad = [facts for facts, out in zip(result.ranks, result.outcomes, strict=False) if out is not Outcome.OK]
    ends = [_log(facts) for facts in bad] if logs else []
    return "\n".join([f"{result.cell.id}: {result.verdict}: {result.reason}", *aligned(rows), *filter(None, ends)])


def sections(result: CellResult, *, whole: bool) -> Iterator[tuple[str, str]]:
    """A title and a text for what each rank printed, and for where a rank that hung was.

    whole: everything that is kept of it, also of ranks that were right; else the end, of those that were not.
    """
    for facts, outcome in zip(result.ranks, result.outcomes, strict=False):
        title = f"rank {facts.rank} of {','.join(result.cell.skew)} ({facts.declared}, {outcome})"
        if facts.stacks.strip():
            lines = under_test(facts.stacks).strip().splitlines()
            yield f"{title}: where it was", "\n".join(lines if whole else lines[:LOG_LINES])
        if facts.log.strip() and (whole or outcome is not Outcome.OK):
            lines = facts.log.rstrip().splitlines()
            left = "" if whole or len(lines) <= LOG_LINES else f"[{len(lines) - LOG_LINES} lines before; -vv has all]\n"
            yield f"{title}: output", left + "\n".join(lines if whole else lines[-LOG_LINES:])
        if facts.inside:
            yield f"{title}: {ALIVE}", facts.inside


def _log(facts: RankFacts) -> str:
    """The innermost calls of a rank that hung, or the last lines that another rank printed."""
    if facts.stacks:
        title, lines = "was stopped in", under_test(facts.stacks).strip().splitlines()[:LOG_LINES]
    else:
        title, lines = "printed at last", facts.log.strip().splitlines()[-LOG_LINES:]
    return "\n".join([f"rank {facts.rank} {title}:", *(f"  {line}" for line in lines)]) if lines else ""
