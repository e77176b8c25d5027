"""PyTorch's own tests, mixed, against the same tests with one release on all ranks: what only the mix breaks; pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torchskew.judging.decide import SHUT, decide
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Store, Verdict
from torchskew.model.results import CellResult, Checked, Decision, Status
from torchskew.planning.suite import SUITES, controls, is_control


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSummary:
    """How the tests of one suite came out with one assignment of releases to ranks.

    fails_alone: fail here and in a control; only_mixed: fail here and in no control; only_alone: right here, but a
    control fails. lacking: a release has no such test. undecided: blocked or unknown.
    """

    suite: str
    skew: tuple[str, ...]
    store: Store
    right: int
    fails_alone: int
    only_mixed: int
    only_alone: int
    skipped: int
    lacking: int
    undecided: int


def against_controls(
    plan: Plan, results: Sequence[CellResult], expectations: Sequence[Expectation], today: dt.date
) -> Decision:
    """The decision over a run of the suites: only what fails mixed and in no control shuts it.

    A failing control, and a mixed cell whose control fails too, are known failures with the control's error. A mixed
    cell whose control is unknown says nothing. expectations: known breaks; those that match no cell are left out.
    """
    matching = [entry for entry in expectations if any(fnmatchcase(cell.id, entry.cells) for cell in plan.cells)]
    decision = decide(plan, results, matching, today=today)
    held = {item.result.cell.id: item for item in decision.checked}
    leans = controls(plan.cells)
    checked = tuple(_fair(item, [held[one] for one in leans.get(item.result.cell.id, ())]) for item in held.values())
    return _decision(replace(decision, checked=checked))


def _fair(item: Checked, alone: Sequence[Checked]) -> Checked:
    """One cell with what its controls take off it."""
    result = item.result
    if item.status is not Status.REGRESSION or not of_suite(result.cell):
        return item
    if is_control(result.cell):
        return _known(item, "the suite fails here with one release on all ranks, so it says nothing about a mix")
    failing = [control.result for control in alone if control.result.verdict is Verdict.FAIL]
    if failing:
        whys = "; ".join(f"{one.cell.skew[0]}: {one.reason}" for one in failing)
        return _known(item, f"fails with one release on all ranks as well: {whys}")
    unknown = next((control.result for control in alone if control.result.verdict is Verdict.UNKNOWN), None)
    if unknown is not None:
        reason = f"its control {unknown.cell.id} is unknown, so this {result.verdict} says nothing about the mix"
        return replace(item, status=Status.UNKNOWN, result=replace(result, verdict=Verdict.UNKNOWN, reason=reason))
    return item


def _known(item: Checked, reason: str) -> Checked:
    entry = Expectation(cells=item.result.cell.id, verdict=Verdict.FAIL, reason=reason)
    return replace(item, status=Status.KNOWN_FAILURE, expectation=entry)


def of_suite(cell: Cell) -> bool:
    """Whether the cell is one of PyTorch's own tests, not a list of them or a rendezvous that they need."""
    return cell.scenario in SUITES.values()


def only_mixed(decision: Decision) -> tuple[Checked, ...]:
    """The findings: tests that fail mixed and in no control, known breaks included."""
    shown = (Status.REGRESSION, Status.FAILS_DIFFERENTLY, Status.KNOWN_FAILURE, Status.EXPIRED)
    leans = controls([item.result.cell for item in decision.checked])
    held = {item.result.cell.id: item.result.verdict for item in decision.checked}
    return tuple(
        item
        for item in decision.checked
        if item.status in shown
        and item.result.verdict is Verdict.FAIL
        and not is_control(item.result.cell)
        and all(held[one] is not Verdict.FAIL for one in leans.get(item.result.cell.id, ()))
    )


def only_alone(decision: Decision) -> tuple[tuple[Checked, Checked], ...]:
    """Tests that pass mixed although a control fails, each with that control."""
    leans = controls([item.result.cell for item in decision.checked])
    held = {item.result.cell.id: item for item in decision.checked}
    return tuple(
        (item, held[control])
        for item in decision.checked
        if item.result.verdict is Verdict.PASS
        for control in leans.get(item.result.cell.id, ())
        if held[control].result.verdict is Verdict.FAIL
    )


def summaries(decision: Decision) -> tuple[PairSummary, ...]:
    """One line for each suite, assignment of releases to ranks, and store, in the plan's order."""
    groups: dict[tuple[str, tuple[str, ...], Store], list[Checked]] = {}
    for item in decision.checked:
        cell = item.result.cell
        if of_suite(cell):
            groups.setdefault((cell.scenario, cell.skew, cell.store), []).append(item)
    findings = {item.result.cell.id for item in only_mixed(decision)}
    lucky = {item.result.cell.id for item, _ in only_alone(decision)}
    names = {scenario: suite for suite, scenario in SUITES.items()}
    return tuple(_summary(names[scenario], items, (findings, lucky)) for (scenario, *_), items in groups.items())


def _summary(suite: str, items: Sequence[Checked], marked: tuple[set[CellId], set[CellId]]) -> PairSummary:
    findings, lucky = marked
    cell = items[0].result.cell
    failed = [item.result.cell.id for item in items if item.result.verdict is Verdict.FAIL]
    unsupported = [item.result for item in items if item.result.verdict is Verdict.UNSUPPORTED]
    lacking = sum(not (result.attempts or result.inferred_from) for result in unsupported)
    mixed = sum(cell_id in findings for cell_id in failed)
    return PairSummary(
        suite=suite,
        skew=cell.skew,
        store=cell.store,
        right=sum(item.result.verdict is Verdict.PASS for item in items),
        fails_alone=len(failed) - mixed,
        only_mixed=mixed,
        only_alone=sum(item.result.cell.id in lucky for item in items),
        skipped=len(unsupported) - lacking,
        lacking=lacking,
        undecided=sum(item.result.verdict in (Verdict.UNKNOWN, Verdict.BLOCKED) for item in items),
    )


def _decision(decision: Decision) -> Decision:
    shut = [item for item in decision.checked if item.status in SHUT]
    if not decision.checked or not (shut or decision.problems):
        count = sum(of_suite(item.result.cell) for item in decision.checked)
        return replace(
            decision, sentence=f"nothing fails only mixed: {count} cells of PyTorch's own tests", exit_code=0
        )
    findings = sum(item.status is Status.REGRESSION for item in shut)
    others = len(shut) - findings + len(decision.problems)
    words = [f"{findings} {'cell fails' if findings == 1 else 'cells fail'} only mixed"] if findings else []
    words += [f"{others} not as expected or unknown"] if others else []
    return replace(decision, sentence=", ".join(words), exit_code=1)


def wrong_ranks(result: CellResult) -> tuple[tuple[int, Outcome], ...]:
    """The ranks of a failed cell that are not right, with their outcomes."""
    return tuple((rank, seen) for rank, seen in enumerate(result.outcomes) if seen is not Outcome.OK)
