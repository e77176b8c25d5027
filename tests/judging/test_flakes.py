"""A cell that shows two verdicts is flaky, keeps both, and is never repeated into green."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchskew.judging.decide import decide
from torchskew.judging.flakes import fold, rates, wilson
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult, Status
from torchskew.model.runs import Past

TODAY = dt.date(2026, 11, 21)
CELL = Cell(scenario="s", skew=("a", "b"), runtime="venv")
PLAN = Plan(cells=(CELL,), runtime="venv", seed=0, digest="d")
FLAKY = Expectation(cells="s/*", verdict=Verdict.PASS, reason="r", until="2026-12-01", flaky=True)
PASS = CellResult(cell=CELL, verdict=Verdict.PASS, outcomes=(Outcome.OK, Outcome.OK), reason="right")
FAIL = CellResult(cell=CELL, verdict=Verdict.FAIL, outcomes=(Outcome.OK, Outcome.CRASH), reason="rank 1 CRASH")
BLOCKED = replace(PASS, verdict=Verdict.BLOCKED)
UNKNOWN = replace(PASS, verdict=Verdict.UNKNOWN)


def folded(*results: CellResult) -> CellResult:
    return fold([{CELL.id: result} for result in results])[CELL.id]


def status(result: CellResult, *expectations: Expectation) -> Status:
    return decide(PLAN, [result], expectations, today=TODAY).checked[0].status


def test_two_verdicts_make_a_flaky_cell_with_both_kept_and_the_gate_shut() -> None:
    result = folded(PASS, FAIL, PASS)
    assert result.seen == (Verdict.PASS, Verdict.FAIL, Verdict.PASS)
    assert result.verdict is Verdict.FAIL
    assert result.reason == "flaky: 1 FAIL, 2 PASS in 3 repetitions; one FAIL: rank 1 CRASH"
    assert status(result) is Status.FLAKY
    assert decide(PLAN, [result], (), today=TODAY).exit_code == 1


def test_a_known_failure_that_passes_once_is_flaky_too() -> None:
    known = Expectation(cells="s/*", verdict=Verdict.FAIL, reason="r")
    assert status(folded(FAIL, PASS), known) is Status.FLAKY


def test_a_known_failure_that_fails_differently_in_one_repetition_is_red() -> None:
    known = Expectation(cells="s/*", verdict=Verdict.FAIL, reason="r", outcomes=FAIL.outcomes)
    other = replace(FAIL, outcomes=(Outcome.HANG, Outcome.OK))
    assert status(folded(FAIL, FAIL), known) is Status.KNOWN_FAILURE
    assert status(folded(FAIL, other), known) is status(folded(other, FAIL), known) is Status.FAILS_DIFFERENTLY


def test_known_flaky_is_reported_and_does_not_gate_until_its_day() -> None:
    assert status(folded(PASS, FAIL), FLAKY) is status(FAIL, FLAKY) is Status.KNOWN_FLAKY
    assert status(PASS, FLAKY) is Status.EXPECTED
    assert status(FAIL, replace(FLAKY, until="2026-11-20")) is Status.EXPIRED
    assert status(FAIL, replace(FLAKY, outcomes=(Outcome.HANG, Outcome.OK))) is Status.FAILS_DIFFERENTLY


def test_what_the_machine_did_is_unknown_and_no_flake() -> None:
    assert status(folded(PASS, UNKNOWN)) is Status.UNKNOWN


def test_a_blocked_repetition_says_nothing_about_the_cell() -> None:
    assert folded(PASS, BLOCKED).seen == (Verdict.PASS,)
    assert status(folded(BLOCKED, BLOCKED)) is Status.NOT_JUDGED


def test_a_cell_that_lacks_a_repetition_is_missing() -> None:
    left = fold([{CELL.id: PASS}, {}])
    assert decide(PLAN, list(left.values()), (), today=TODAY).checked[0].status is Status.MISSING


@given(st.integers(1, 10**6), st.data())
def test_the_interval_holds_the_share_and_stays_within_bounds(runs: int, data: st.DataObject) -> None:
    failures = data.draw(st.integers(0, runs))
    low, high = wilson(failures, runs)
    assert 0.0 <= low <= failures / runs + 1e-12
    assert failures / runs - 1e-12 <= high <= 1.0


@pytest.mark.parametrize(
    ("failures", "runs", "low", "high"), [(0, 10, 0.0, 0.2775), (1, 20, 0.0089, 0.2361), (5, 10, 0.2366, 0.7634)]
)
def test_the_interval_equals_published_values(failures: int, runs: int, low: float, high: float) -> None:
    assert wilson(failures, runs) == pytest.approx((low, high), abs=1e-4)


def past(verdict: Verdict, key: str = "k", *, cached: bool = False, cell_id: str = CELL.id) -> Past:
    at = "2026-11-20T10:00:00+00:00"
    return Past(
        run_id="r", cell_id=cell_id, repeat=0, verdict=verdict, outcomes=(), seconds=0.1, cached=cached, key=key, at=at
    )


def test_rates_count_what_really_ran_of_the_newest_content() -> None:
    history = [
        past(Verdict.PASS),
        past(Verdict.PASS, cached=True),
        past(Verdict.FAIL),
        past(Verdict.PASS),
        past(Verdict.FAIL, "old"),
    ]
    steady = [past(Verdict.FAIL, cell_id="t"), past(Verdict.FAIL, cell_id="t"), past(Verdict.PASS, "old", cell_id="t")]
    (rate,) = rates([history, steady, []])
    assert (rate.cell_id, rate.failures, rate.runs) == (CELL.id, 1, 3)
    assert rate.last_failure == "2026-11-20T10:00:00+00:00"
