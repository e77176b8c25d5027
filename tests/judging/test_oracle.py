"""Nothing a rank reports or leaves out is passed over."""

from __future__ import annotations

from torchskew.judging.oracle import MOST, compare, shown
from torchskew.planning.scenario import World


def world(**skip: str) -> World:
    return World(size=2, skew=("a", "b"), params={}, skip=skip, seed=0)


def right(rank: int) -> dict[str, object]:
    return {"first": (rank, 1), "second": {1: "x"}}


REPORT = {"cases": {"first": [0, 1], "second": {"1": "x"}}}


def test_values_are_compared_as_they_travel() -> None:
    assert compare([REPORT], world(), right) == {}


def test_a_case_that_a_version_lacks_has_to_be_absent() -> None:
    assert compare([REPORT], world(second="b: no such thing"), right) == {0: "second was not asked for"}
    assert compare([{"cases": {"first": [0, 1]}}], world(second="b: no such thing"), right) == {}


def test_a_report_in_which_nothing_was_tested_is_wrong() -> None:
    assert compare([{"cases": {}}], world(**{"*": "b: nothing"}), right) == {0: "every case was left out"}
    assert compare([{}], world(), right) == {0: "it reported no cases"}


def test_a_reason_tells_the_first_differences_and_counts_the_rest() -> None:
    wanted = {str(number): number for number in range(MOST + 2)}
    (why,) = compare([{"cases": {}}], world(), lambda _: wanted).values()
    assert why == "0 is missing; 1 is missing; 2 is missing; and 2 more"


def test_a_long_value_is_cut() -> None:
    assert len(shown("x" * 1000)) == 121
