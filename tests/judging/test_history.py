"""The history of a cell: reused results say nothing, a regression has a first bad run, a drift needs enough passes."""

from __future__ import annotations

import pytest
from torchskew.judging.flakes import wilson
from torchskew.judging.history import CellHistory, histories
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Verdict
from torchskew.model.runs import Past

PASS, FAIL, UNKNOWN, BLOCKED = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN, Verdict.BLOCKED
CELL = CellId.of("all_reduce", ("2.2.2", "2.6.0"), "venv")


def past(day: int, verdict: Verdict = PASS, seconds: float = 1.0, key: str = "k", *, cached: bool = False) -> Past:
    """One result a day; the run is named after its day."""
    return Past(
        run_id=f"run{day}", cell_id=CELL, repeat=0, verdict=verdict, outcomes=(), seconds=seconds, cached=cached,
        key=key, at=f"2026-11-{day:02}T10:00:00+00:00",
    )  # fmt: skip


def history(*pasts: Past) -> CellHistory:
    [only] = histories(pasts)
    return only


def test_entries_are_oldest_first_whatever_order_the_records_had() -> None:
    assert [each.run_id for each in history(past(3), past(1), past(2)).entries] == ["run1", "run2", "run3"]


def test_reused_and_blocked_results_are_no_history() -> None:
    assert len(history(past(1), past(2, cached=True), past(3, BLOCKED)).entries) == 1
    assert histories([past(1, cached=True)]) == ()


def test_the_rate_is_of_the_newest_content_with_its_wilson_interval() -> None:
    seen = history(past(1, FAIL, key="old"), past(2), past(3, FAIL), past(4), past(5))
    assert (seen.failures, seen.judged, seen.unstable) == (1, 4, True)
    assert (seen.low, seen.high) == wilson(1, 4)
    assert not history(past(1, FAIL, key="old"), past(2)).unstable


def test_what_only_the_machine_ended_has_no_rate() -> None:
    seen = history(past(1, UNKNOWN))
    assert (seen.failures, seen.judged, seen.low, seen.high) == (0, 0, 0.0, 1.0)


def test_a_regression_is_named_by_its_first_bad_run_and_the_last_good_one() -> None:
    turn = history(past(1, FAIL), past(2), past(3, FAIL), past(4, UNKNOWN), past(5, FAIL)).turn
    assert turn is not None
    assert (turn.before.run_id, turn.first_bad.run_id, turn.changed) == ("run2", "run3", False)


def test_a_regression_says_whether_the_content_changed() -> None:
    turn = history(past(1), past(2, FAIL, key="new")).turn
    assert turn is not None
    assert turn.changed


@pytest.mark.parametrize("verdicts", [(PASS, FAIL, PASS), (FAIL, FAIL), (PASS, PASS), (UNKNOWN,)])
def test_what_passes_now_or_never_passed_is_no_regression(verdicts: tuple[Verdict, ...]) -> None:
    assert history(*(past(day, verdict) for day, verdict in enumerate(verdicts, 1))).turn is None


def test_the_duration_is_that_of_passes_and_its_drift_is_newest_over_oldest() -> None:
    seen = history(*(past(day, seconds=float(day)) for day in range(1, 7)), past(7, FAIL, 100.0))
    assert seen.seconds == 3.5
    assert seen.drift == pytest.approx(5.5 / 1.5)
    assert history(past(1, FAIL, 8.0)).seconds == 8.0


def test_five_passes_are_too_few_for_a_drift() -> None:
    assert history(*(past(day) for day in range(1, 6))).drift is None
