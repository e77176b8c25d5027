"""What every report shows, worked out once: counts, words for outcomes, names of logs."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Final

from torchskew.judging.decide import SHUT
from torchskew.model.cells import Cell
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult, Checked, Decision, Status
from torchskew.model.runs import Run

SHORT: Final[Mapping[Outcome, str]] = {
    Outcome.OK: "OK",
    Outcome.WRONG: "WRONG",
    Outcome.CLEAR: "CLEAR",
    Outcome.OPAQUE: "OPQ",
    Outcome.TIMEOUT: "TIME",
    Outcome.HANG: "HANG",
    Outcome.CRASH: "CRASH",
    Outcome.UNSUPPORTED: "N/A",
    Outcome.NOT_RUN: "-",
}
MEANING: Final[Mapping[Outcome, str]] = {
    Outcome.OK: "reached the end with the right answer",
    Outcome.WRONG: "reached the end with a wrong answer",
    Outcome.CLEAR: "refused early; the error names the versions",
    Outcome.OPAQUE: "failed early; the error does not say why",
    Outcome.TIMEOUT: "gave up at about its own timeout",
    Outcome.HANG: "never ended; stopped by us at the deadline",
    Outcome.CRASH: "ended by a signal, or without a report",
    Outcome.UNSUPPORTED: "this version says that it lacks the feature",
    Outcome.NOT_RUN: "never started: the machine's fault",
}
# A verdict without outcomes that a table could show.
SILENT: Final[Mapping[Verdict, str]] = {
    Verdict.BLOCKED: "blocked",
    Verdict.UNKNOWN: "unknown",
    Verdict.UNSUPPORTED: "n/a",
}
_SPELLED_OUT: Final = 4  # ranks; larger worlds are shown as OK*7/TIME
_APART: Final = (Status.FLAKY, Status.KNOWN_FLAKY, Status.UNKNOWN, Status.NOT_JUDGED)
_LONGEST_NAME: Final = 180  # of a log's folder: file systems allow 255 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How the planned cells came out; planned is what the plan holds, not a sum.

    apart: failures that count against no candidate: flaky cells, a gate's controls and its base. repeat: how often
    each cell was to run.
    """

    planned: int
    verdicts: Mapping[Verdict, int]
    statuses: Mapping[Status, int]
    cached: int
    apart: int = 0
    repeat: int = 1

    @property
    def known(self) -> int:
        """Failures that an expectation names."""
        return self.statuses.get(Status.KNOWN_FAILURE, 0)

    @property
    def regressions(self) -> int:
        """Failures that no expectation names as they are."""
        return self.verdicts[Verdict.FAIL] - self.known - self.apart

    @property
    def missing(self) -> int:
        """Planned cells without a result."""
        return self.statuses.get(Status.MISSING, 0)


def counts(run: Run, decision: Decision) -> Counts:
    """Count verdicts and statuses over every planned cell."""
    verdicts = Counter(item.result.verdict for item in decision.checked)
    return Counts(
        planned=len(run.plan.cells),
        verdicts={verdict: verdicts[verdict] for verdict in Verdict},
        statuses=Counter(item.status for item in decision.checked),
        cached=sum(item.result.cached for item in decision.checked),
        apart=sum(item.result.verdict is Verdict.FAIL and item.status in _APART for item in decision.checked),
        repeat=max((len(item.result.seen) for item in decision.checked), default=0) or 1,
    )


def shut(item: Checked) -> bool:
    """Whether this cell alone makes the run red."""
    return item.status in SHUT


def unexpected(decision: Decision) -> tuple[Checked, ...]:
    """The cells that shut the gate, worst kinds first, else in the plan's order."""
    order = (
        Status.REGRESSION,
        Status.FAILS_DIFFERENTLY,
        Status.UNEXPECTED_PASS,
        Status.FLAKY,
        Status.EXPIRED,
        Status.UNKNOWN,
        Status.MISSING,
    )
    return tuple(sorted(filter(shut, decision.checked), key=lambda item: order.index(item.status)))


def flaky(decision: Decision) -> tuple[Checked, ...]:
    """The cells that failed and are known to flake: reported, but they do not make the run red."""
    return tuple(item for item in decision.checked if item.status is Status.KNOWN_FLAKY)


def surprises(decision: Decision) -> tuple[Checked, ...]:
    """The cells that differ from what the table of eras predicted."""
    return tuple(item for item in decision.checked if item.result.surprising)


def known_failures(decision: Decision) -> Mapping[tuple[str, str | None], tuple[Checked, ...]]:
    """Known failures by reason and link, in the order of the first cell of each."""
    by_reason: dict[tuple[str, str | None], list[Checked]] = {}
    for item in decision.checked:
        if item.status is Status.KNOWN_FAILURE:
            entry = item.expectation
            by_reason.setdefault((entry.reason, entry.link) if entry else ("", None), []).append(item)
    return {reason: tuple(items) for reason, items in by_reason.items()}


def unsupported(decision: Decision) -> Mapping[str, tuple[Checked, ...]]:
    """Cells that could not be tried, by the reason; a feature that is gone is a regression instead."""
    by_reason: dict[str, list[Checked]] = {}
    for item in decision.checked:
        if item.result.verdict is Verdict.UNSUPPORTED and not shut(item):
            by_reason.setdefault(item.result.reason, []).append(item)
    return {reason: tuple(items) for reason, items in by_reason.items()}


def noted(decision: Decision) -> tuple[CellResult, ...]:
    """The cells that pass, and of which the judge says more."""
    return tuple(item.result for item in decision.checked if item.result.verdict is Verdict.PASS and item.result.note)


def label(item: Checked, *, mark: bool = True) -> str:
    """A cell of a table: one word when all ranks agree, else `TIME/OPQ`; `!` when it shuts the gate."""
    return words(item.result) + ("!" if mark and shut(item) else "")


def words(result: CellResult) -> str:
    """The outcomes in short words, or the verdict where there are none to show; `~` in front of what was inferred."""
    if result.verdict in SILENT or not result.outcomes:
        return SILENT.get(result.verdict, str(result.verdict).lower())
    text = outcome_words(result.outcomes)
    text = f"~{text}" if result.inferred_from else text
    promised = result.verdict is Verdict.FAIL and set(result.outcomes) in ({Outcome.OK}, {Outcome.CLEAR})
    return f"FAIL:{text}" if promised else text  # right or refused, but its policy promised the other


def outcome_words(outcomes: Iterable[Outcome], *, full: bool = False) -> str:
    """`OK` when all are equal, else rank by rank: `TIME/OPQ`; full: unabbreviated."""
    names = [str(outcome) if full else SHORT[outcome] for outcome in outcomes]
    if len(set(names)) == 1:
        return names[0]
    if len(names) <= _SPELLED_OUT:
        return "/".join(names)
    runs = [(name, len([*same])) for name, same in groupby(names)]
    return "/".join(f"{name}*{count}" if count > 1 else name for name, count in runs)


def observed_words(result: CellResult) -> str:
    """What was observed instead of the prediction: `TIMEOUT on rank 1`, one word when all ranks agree."""
    if len(set(result.outcomes)) == 1:
        return str(result.outcomes[0])
    pairs = zip_longest(result.outcomes, result.cell.predicted)
    return ", ".join(f"{seen} on rank {rank}" for rank, (seen, predicted) in enumerate(pairs) if seen != predicted)


def expected_words(item: Checked) -> str:
    """What the baseline expected of a cell; PASS where it says nothing."""
    if item.expectation is None:
        return str(Verdict.PASS)
    outcomes = item.expectation.outcomes
    return f"{item.expectation.verdict}{f' ({outcome_words(outcomes, full=True)})' if outcomes else ''}"


def log_name(cell: Cell, rank: int) -> str:
    """The path of a rank's log, relative to the report's folder."""
    return f"logs/{slug(cell.id)}/rank{rank}.txt"


def slug(cell_id: CellId) -> str:
    """A cell's id as a folder's name on every file system; different ids, different names."""
    name = re.sub(r"[^A-Za-z0-9._,+-]", "_", cell_id.replace("/", "__"))
    if len(name) <= _LONGEST_NAME and name.replace("__", "/") == cell_id:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(cell_id.encode()).hexdigest()[:8]}"


def seconds(value: float) -> str:
    """Seconds as a person reads them: 0.06 s, 12.3 s, 4 min 05 s."""
    if value >= 60:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02} s"
    return f"{value:.2f} s" if value < 9.95 else f"{value:.1f} s"
