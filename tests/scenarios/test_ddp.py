"""The judge of ddp holds parameters against the recurrence and against each other."""

from __future__ import annotations

import pytest

from tests.scenarios.judging import judged, names


def reports(size=2):
    columns, _ = names("ddp").reference(size)
    one = {"columns": columns, "spreads": [0.0] * len(columns), "digests": ["d"] * len(columns)}
    return [{key: list(value) for key, value in one.items()} for _ in range(size)]


def test_the_recurrence_goes_to_the_mean_target() -> None:
    ddp = names("ddp")
    start, goal = ddp.start(0)[0], (ddp.target(0, 0)[0] + ddp.target(0, 1)[0]) / 2
    (first, *_), *_ = ddp.reference(2)[0]
    assert first == goal + (1 - ddp.RATE) ** ddp.STEPS * (start - goal)


@pytest.mark.parametrize("variant", ["default", "bucket_cap", "unused", "hook"])
def test_right_parameters_pass(variant) -> None:
    assert judged("ddp", reports(), variant=variant) == {}


def test_a_parameter_that_missed_a_step_is_wrong() -> None:
    got = reports()
    got[1]["columns"][2] = [value + 1e-3 for value in got[1]["columns"][2]]
    assert list(judged("ddp", got)) == [1]


def test_a_parameter_that_is_right_in_its_first_row_only_is_wrong() -> None:
    got = reports()
    got[0]["spreads"][4] = 0.5
    assert list(judged("ddp", got)) == [0]


def test_ranks_that_differ_in_the_last_bit_are_wrong() -> None:
    got = reports()
    got[1]["digests"][0] = "e"
    assert judged("ddp", got) == {1: "its parameters differ from another rank's"}


def test_a_missing_parameter_is_wrong() -> None:
    got = reports()
    got[1]["columns"].pop()
    assert judged("ddp", got) == {1: "it reported 4 parameters of 5"}
