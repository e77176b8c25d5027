"""Only what fails mixed and in no control is a finding; the rest is told and shuts nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from torchskew.judging.controls import against_controls, only_alone, only_mixed, summaries
from torchskew.model.cells import Cell, Plan, Variant
from torchskew.model.declared import Expectation
from torchskew.model.facts import Attempt
from torchskew.model.outcomes import Outcome, Store, Verdict
from torchskew.model.results import CellResult, Decision, Status
from torchskew.report.suite import markdown

TODAY = dt.date(2026, 11, 28)
PASS, FAIL, UNKNOWN, UNSUPPORTED = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN, Verdict.UNSUPPORTED
PAIRS = ("a,a", "b,b", "a,b")


def result(pair: str, verdict: Verdict, test: str = "test_x", *, ran: bool = True) -> CellResult:
    skew = tuple(pair.split(","))
    cell = Cell(scenario="suite", skew=skew, runtime="venv", variant=Variant(name=test))
    outcomes = (Outcome.WRONG if verdict is FAIL else Outcome.OK,) * len(skew)
    attempts = (Attempt(number=1, ranks=(), seconds=0.0),) if ran else ()
    return CellResult(cell=cell, verdict=verdict, outcomes=outcomes, reason=f"{pair} says so", attempts=attempts)


def decided(*verdicts: Verdict, expectations: tuple[Expectation, ...] = ()) -> Decision:
    results = [result(pair, verdict) for pair, verdict in zip(PAIRS, verdicts, strict=True)]
    plan = Plan(cells=tuple(one.cell for one in results), runtime="venv", seed=0, digest="d")
    return against_controls(plan, results, expectations, TODAY)


def statuses(decision: Decision) -> list[Status]:
    return [item.status for item in decision.checked]


def test_what_fails_only_mixed_shuts_it() -> None:
    decision = decided(PASS, PASS, FAIL)
    assert (decision.exit_code, decision.sentence) == (1, "1 cell fails only mixed")
    assert [item.result.cell.id for item in only_mixed(decision)] == ["suite.test_x/a,b/guard-off/venv"]
    assert summaries(decision)[-1].only_mixed == 1


def test_what_a_control_shows_as_well_is_no_finding_and_tells_the_controls_error() -> None:
    decision = decided(FAIL, PASS, FAIL)
    assert decision.exit_code == 0
    assert only_mixed(decision) == ()
    mixed = decision.checked[-1]
    assert mixed.status is Status.KNOWN_FAILURE
    assert mixed.expectation is not None
    assert mixed.expectation.reason == "fails with one release on all ranks as well: a: a,a says so"
    assert [line.fails_alone for line in summaries(decision)] == [1, 0, 1]


def test_a_mixed_failure_with_an_unknown_control_is_unknown() -> None:
    decision = decided(UNKNOWN, PASS, FAIL)
    assert statuses(decision) == [Status.UNKNOWN, Status.EXPECTED, Status.UNKNOWN]
    assert decision.exit_code == 1
    assert decision.sentence == "2 not as expected or unknown"


def test_a_failure_where_the_controls_skip_is_a_finding() -> None:
    assert decided(UNSUPPORTED, UNSUPPORTED, FAIL).exit_code == 1


def test_what_passes_only_mixed_is_told() -> None:
    decision = decided(FAIL, PASS, PASS)
    assert decision.exit_code == 0
    assert [(item.result.cell.skew, control.result.cell.skew) for item, control in only_alone(decision)] == [
        (("a", "b"), ("a", "a"))
    ]
    assert summaries(decision)[-1].only_alone == 1


def test_a_known_break_shuts_nothing_and_stays_a_finding() -> None:
    known = Expectation(cells="suite.test_x/a,b/*", verdict=FAIL, reason="seeds differ since 2.7")
    decision = decided(PASS, PASS, FAIL, expectations=(known, Expectation(cells="other", verdict=FAIL, reason="r")))
    assert (decision.exit_code, decision.problems) == (0, ())
    assert len(only_mixed(decision)) == 1
    assert decided(PASS, PASS, PASS, expectations=(known,)).exit_code == 1


def test_what_fails_at_a_bridge_has_a_line_of_its_own() -> None:
    results = [
        replace(one, cell=replace(one.cell, store=store))
        for store in Store
        for one in (result(pair, FAIL if pair == "a,b" and store is Store.BRIDGE else PASS) for pair in PAIRS)
    ]
    plan = Plan(cells=tuple(one.cell for one in results), runtime="venv", seed=0, digest="d")
    decision = against_controls(plan, results, (), TODAY)
    mixed = {(line.store, line.right, line.only_mixed) for line in summaries(decision) if line.skew == ("a", "b")}
    assert mixed == {(Store.STOCK, 1, 0), (Store.BRIDGE, 0, 1)}
    assert "| distributed | a,b at a bridge | 0 |" in markdown(decision)


def test_a_summary_tells_skipped_from_lacking() -> None:
    results = [result("a,a", UNSUPPORTED), result("a,a", UNSUPPORTED, "test_y", ran=False)]
    plan = Plan(cells=tuple(one.cell for one in results), runtime="venv", seed=0, digest="d")
    (line,) = summaries(against_controls(plan, results, (), TODAY))
    assert (line.skipped, line.lacking, line.undecided) == (1, 1, 0)
