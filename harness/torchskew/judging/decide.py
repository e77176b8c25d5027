"""Gate: results are held against the plan and the baseline, and one decision comes out; pure."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torchskew.guard.table import parse
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.outcomes import Verdict
from torchskew.model.results import CellResult, Checked, Decision, Status
from torchskew.model.runs import Unmatched
from torchskew.model.runtimes import RUNTIMES

SHUT = frozenset(
    {
        Status.REGRESSION,
        Status.UNEXPECTED_PASS,
        Status.FAILS_DIFFERENTLY,
        Status.FLAKY,
        Status.UNKNOWN,
        Status.EXPIRED,
        Status.MISSING,
    }
)
WORDS = {
    Status.REGRESSION: ("regression", "regressions"),
    Status.UNEXPECTED_PASS: ("unexpected pass", "unexpected passes"),
    Status.FAILS_DIFFERENTLY: ("known failure that fails differently", "known failures that fail differently"),
    Status.FLAKY: ("flaky cell", "flaky cells"),
    Status.UNKNOWN: ("unknown", "unknown"),
    Status.EXPIRED: ("expired expectation", "expired expectations"),
    Status.MISSING: ("missing", "missing"),
}
NOTHING = 5


def decide(
    plan: Plan,
    results: Sequence[CellResult],
    expectations: Sequence[Expectation],
    *,
    today: dt.date,
    unmatched: Unmatched | None = None,
) -> Decision:
    """Hold every planned cell against the baseline.

    unmatched: what `stale` found over the plan before it was narrowed; without it, it is found over this plan.
    """
    by_id = {result.cell.id: result for result in results}
    checked = tuple(_check(cell, by_id.get(cell.id), expectations, today) for cell in plan.cells)
    gone = stale(expectations, plan.cells, plan.runtime) if unmatched is None else unmatched.problems
    problems = [*_sums(plan, results), *gone]
    shut = Counter(item.status for item in checked if item.status in SHUT)
    if not plan.cells:
        return Decision(checked=(), problems=tuple(problems), exit_code=NOTHING, sentence="nothing was selected")
    words = [f"{count} {WORDS[status][count != 1]}" for status, count in shut.items()]
    words += (
        [f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} with the baseline"] if problems else []
    )
    sentence = f"not as expected: {', '.join(words)}" if words else "as expected"
    return Decision(checked=checked, problems=tuple(problems), exit_code=int(bool(words)), sentence=sentence)


def counts(results: Sequence[CellResult]) -> Mapping[Verdict, int]:
    """How many cells came to each verdict; every verdict is named."""
    tally = Counter(result.verdict for result in results)
    return {verdict: tally[verdict] for verdict in Verdict}


def expectation_for(cell: Cell, expectations: Sequence[Expectation]) -> Expectation | None:
    """The first entry whose pattern matches: entries are read from the top."""
    return next((entry for entry in expectations if not entry.flaky and fnmatchcase(cell.id, entry.cells)), None)


def flaky_entry_for(cell: Cell, expectations: Sequence[Expectation]) -> Expectation | None:
    """The first known-flaky entry whose pattern matches."""
    return next((entry for entry in expectations if entry.flaky and fnmatchcase(cell.id, entry.cells)), None)


def _check(cell: Cell, result: CellResult | None, expectations: Sequence[Expectation], today: dt.date) -> Checked:
    entry = expectation_for(cell, expectations)
    flake = flaky_entry_for(cell, expectations)
    if result is not None and flake is not None and (result.flaky or result.verdict is Verdict.FAIL):
        return Checked(result=result, status=_flaking(result, flake, today), expectation=flake)
    if result is None:
        nothing = CellResult(cell=cell, verdict=Verdict.UNKNOWN, outcomes=(), reason="planned, but it has no result")
        return Checked(result=nothing, status=Status.MISSING, expectation=entry)
    return Checked(result=result, status=_status(result, entry, today), expectation=entry)


def _status(result: CellResult, entry: Expectation | None, today: dt.date) -> Status:
    verdict = result.verdict
    if verdict in (Verdict.UNKNOWN, Verdict.BLOCKED):
        return Status.UNKNOWN if verdict is Verdict.UNKNOWN else Status.NOT_JUDGED
    if result.flaky:
        return Status.FLAKY
    if entry is None:
        return Status.REGRESSION if verdict is Verdict.FAIL else Status.EXPECTED
    if expired(entry, today, result):
        return Status.EXPIRED
    if entry.verdict is not Verdict.FAIL:
        return Status.EXPECTED if verdict is entry.verdict else Status.REGRESSION
    return _known(result, entry)


def _known(result: CellResult, entry: Expectation) -> Status:
    """A cell that is expected to fail: it must fail, and in the declared way."""
    if result.verdict is Verdict.PASS:
        return Status.UNEXPECTED_PASS
    same = result.verdict is Verdict.FAIL and _in_that_way(result, entry)
    return Status.KNOWN_FAILURE if same else Status.FAILS_DIFFERENTLY


def _flaking(result: CellResult, entry: Expectation, today: dt.date) -> Status:
    """A cell that is known to flake and failed at least once: reported, and no more, until the entry ends."""
    if expired(entry, today, result):
        return Status.EXPIRED
    return Status.KNOWN_FLAKY if _in_that_way(result, entry) else Status.FAILS_DIFFERENTLY


def _in_that_way(result: CellResult, entry: Expectation) -> bool:
    """Every failure of the cell, in every repetition, has the declared outcome on each rank."""
    seen = zip(result.seen, result.seen_outcomes, strict=True)
    failures = {outcomes for verdict, outcomes in seen if verdict is Verdict.FAIL} or {result.outcomes}
    return entry.outcomes is None or failures == {entry.outcomes}


def expired(entry: Expectation, today: dt.date, result: CellResult) -> bool:
    """An entry ends after its date, or as soon as a rank of the cell runs the release it names, a nightly included."""
    if entry.until is None:
        return False
    if "-" in entry.until:
        return today > dt.date.fromisoformat(entry.until)
    ended = parse(entry.until) or ()
    return any((parse(facts.torch or "") or ()) >= ended for facts in result.ranks)


def _sums(plan: Plan, results: Sequence[CellResult]) -> list[str]:
    """Planned = pass + fail + unknown + unsupported + blocked, or the run is red."""
    planned = {cell.id for cell in plan.cells}
    strangers = [result.cell.id for result in results if result.cell.id not in planned]
    twice = [cell_id for cell_id, times in Counter(result.cell.id for result in results).items() if times > 1]
    return [
        *(f"{cell_id} has a result but was not planned" for cell_id in strangers),
        *(f"{cell_id} has more than one result" for cell_id in twice),
    ]


def stale(expectations: Sequence[Expectation], cells: Sequence[Cell], runtime: str) -> list[str]:
    """Patterns that match no cell; a pattern that names another runtime is that runtime's business."""
    others = RUNTIMES.keys() - {runtime}
    return [
        f"expectation {entry.cells!r} matches no planned cell: fix the pattern or remove the entry"
        for entry in expectations
        if entry.cells.rpartition("/")[2] not in others and not any(fnmatchcase(c.id, entry.cells) for c in cells)
    ]
