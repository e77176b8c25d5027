"""The judge of monitored_barrier wants the missing rank by its number, and in time."""

from __future__ import annotations

import pytest

from tests.scenarios.judging import judged

NAMED = "RuntimeError: [Rank 0]: Rank 1 failed to pass monitoredBarrier in 500 ms"


def test_everybody_passes_a_barrier_with_a_late_rank() -> None:
    assert judged("monitored_barrier", [{"passed": True, "waited": 0.11}, {"passed": True, "waited": 0.01}]) == {}


def test_a_barrier_that_did_not_wait_for_the_late_rank_is_wrong() -> None:
    wrong = judged("monitored_barrier", [{"passed": True, "waited": 0.001}, {"passed": True, "waited": 0.0}])
    assert list(wrong) == [0]


def test_the_absent_rank_is_named_in_time() -> None:
    assert judged("monitored_barrier", [{"text": NAMED, "waited": 0.51}, {}]) == {}


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ({"text": None, "waited": 0.0}, "passed without rank 1"),
        ({"text": "RuntimeError: [Rank 0]: Rank 2 failed", "waited": 0.5}, "does not name rank 1"),
        ({"text": NAMED, "waited": 9.0}, "it waited 9.0 s"),
    ],
)
def test_silence_another_name_and_lateness_are_wrong(report, why) -> None:
    assert why in judged("monitored_barrier", [report, {}])[0]
