"""The judges of FSDP, DTensor, RPC, torchrun and of leaving see every seeded defect."""

from __future__ import annotations

import copy

import pytest

from tests.scenarios.judging import cases, judged


def sharded(size=2):
    """The closed form: the distance to the mean target shrinks by a quarter in each of two steps."""
    mean = [(k + 1) * (size + 1) / 2 for k in range(12)]
    values = [goal + 0.75**2 * (0.5 * k - 3 - goal) for k, goal in enumerate(mean)]
    return [{"parameter": list(values)} for _ in range(size)]


def test_a_parameter_that_followed_the_recurrence_passes() -> None:
    assert judged("fsdp", sharded()) == {}


def test_a_parameter_that_missed_a_gradient_is_wrong() -> None:
    reports = sharded()
    reports[1]["parameter"][3] += 0.01
    assert list(judged("fsdp", reports)) == [1]


def test_a_missing_shard_is_wrong() -> None:
    reports = sharded()
    del reports[1]["parameter"][6:]
    assert judged("fsdp", reports) == {1: "it gathered 6 elements of 12"}


def test_ranks_that_differ_in_the_last_bit_are_wrong() -> None:
    reports = sharded()
    reports[1]["parameter"][0] += 1e-9
    assert judged("fsdp", reports) == {1: "its parameter differs from another rank's"}


WHOLE = [[float(3 * row + column) for column in range(3)] for row in range(5)]
RIGHT = {
    "dtensor": [
        {
            "cases": {
                "rows": WHOLE[:3],
                "columns": [row[:2] for row in WHOLE],
                "whole": WHOLE,
                "rows again": WHOLE[:3],
                "partial": [3.0, 20.0],
            }
        },
        {
            "cases": {
                "rows": WHOLE[3:],
                "columns": [row[2:] for row in WHOLE],
                "whole": WHOLE,
                "rows again": WHOLE[3:],
                "partial": [3.0, 20.0],
            }
        },
    ],
    "rpc": [
        {"cases": {"builtin": [10, 12], "user": [1, 1], "async": [1, 6], "rref": [1, 8], "raises": True}},
        {"cases": {"builtin": [11, 12], "user": [0, 2], "async": [0, 7], "rref": [0, 9], "raises": True}},
    ],
    "shutdown_order": [cases(sum=3), cases(sum=3)],
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_reports_pass(name) -> None:
    assert judged(name, RIGHT[name]) == {}


@pytest.mark.parametrize("name", RIGHT)
def test_a_wrong_value_and_a_missing_case_are_seen(name) -> None:
    for change in (lambda found: found.update({next(iter(found)): 77}), lambda found: found.popitem()):
        reports = copy.deepcopy(RIGHT[name])
        change(reports[1]["cases"])
        assert list(judged(name, reports)) == [1]


def test_an_answer_that_another_rank_computed_is_wrong() -> None:
    reports = copy.deepcopy(RIGHT["rpc"])
    reports[0]["cases"]["user"] = [0, 1]
    assert list(judged("rpc", reports)) == [0]


def wait(seconds=0.41, error="RuntimeError: timed out", began=100.0):
    return {"seconds": seconds, "began": began, "error": error}


def test_a_wait_that_ends_at_its_timeout_passes() -> None:
    assert judged("stopped_peer", [{"waits": {"all_reduce": wait(), "barrier": wait(0.6)}}, {"stopped": True}]) == {}


@pytest.mark.parametrize(
    ("barrier", "why"),
    [
        (wait(2.5), "ended after 2.50 s"),
        (wait(0.1), "ended after 0.10 s"),
        (wait(error=None), "succeeded without the stopped rank"),
        (None, "barrier is missing"),
    ],
)
def test_a_wait_too_long_too_short_or_without_an_error_is_wrong(barrier, why) -> None:
    found = {"all_reduce": wait()} | ({"barrier": barrier} if barrier else {})
    assert why in judged("stopped_peer", [{"waits": found}, {"stopped": True}])[0]


def test_a_wait_that_ends_when_another_rank_gives_up_at_its_timeout_passes() -> None:
    early = {"waits": {"all_reduce": wait(), "barrier": wait(began=100.41)}}
    late = {"waits": {"all_reduce": wait(0.66), "barrier": wait(0.25, "Connection closed by peer", began=100.66)}}
    assert judged("stopped_peer", [early, late, {"stopped": True}]) == {}
    late["waits"]["barrier"] = wait(0.02, "Connection closed by peer", began=100.66)
    assert judged("stopped_peer", [early, late, {"stopped": True}]) == {
        1: "barrier ended after 0.02 s where 0.4 s were given"
    }


def workers(*reports):
    return [{"worker": list(report)} for report in reports]


def test_workers_that_share_a_world_pass() -> None:
    assert judged("torchrun", workers((1, 2, 3, "torchskew"), (0, 2, 3, "torchskew"))) == {}


@pytest.mark.parametrize("second", [(0, 2, 4, "torchskew"), (0, 1, 3, "torchskew"), (5, 2, 3, "torchskew")])
def test_a_worker_in_another_world_is_wrong(second) -> None:
    assert list(judged("torchrun", workers((1, 2, 3, "torchskew"), second))) == [1]


def test_two_workers_in_one_place_are_wrong() -> None:
    assert judged("torchrun", workers((0, 2, 3, "torchskew"), (0, 2, 3, "torchskew")))


def test_workers_of_another_release_pass_when_each_has_a_place() -> None:
    told = [{"place": 1, "size": 2, "sum": 3}, {"place": 0, "size": 2, "sum": 3}]
    assert judged("torchrun_worker", [{}, *told]) == {}
    assert list(judged("torchrun_worker", [{}, told[0], {**told[1], "sum": 4}])) == [2]
    assert judged("torchrun_worker", [{}, told[0], told[0]])
