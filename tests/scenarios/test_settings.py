"""The judges of the init barrier, of DETAIL and of quantization see every seeded defect."""

from __future__ import annotations

import copy

import pytest

from tests.scenarios.judging import judged, names

MS = 10**6
CAME = [{"came": 0, "there": 101 * MS, "sum": 3}, {"came": 100 * MS, "there": 102 * MS, "sum": 3}]


def test_a_barrier_at_init_that_everybody_waited_in_passes() -> None:
    assert judged("init_barrier", CAME, variant="everywhere") == {}


def test_a_rank_that_had_its_group_before_the_last_came_is_wrong() -> None:
    early = copy.deepcopy(CAME)
    early[0]["there"] = 90 * MS
    assert judged("init_barrier", early) == {0: "it had its group 10.0 ms before rank 1 came"}


def test_a_wrong_sum_after_the_barrier_is_wrong() -> None:
    odd = copy.deepcopy(CAME)
    odd[1]["sum"] = 2
    assert judged("init_barrier", odd) == {1: "the sum is 2"}


def test_matching_calls_under_detail_have_the_sum() -> None:
    assert judged("debug_detail", [{"sum": 3}, {"sum": 3}], variant="alike") == {}
    assert judged("debug_detail", [{"sum": 3}, {"sum": 1}], variant="alike") == {1: "the sum is 1"}


TOLD = "RuntimeError: Detected mismatch between collectives on ranks. Rank 0 is running collective: …"


@pytest.mark.parametrize("text", [None, "RuntimeError: Connection closed by peer"])
def test_a_mismatch_that_one_rank_is_not_told_is_wrong(text: str | None) -> None:
    assert judged("debug_detail", [{"text": TOLD}, {"text": TOLD}], variant="mismatch") == {}
    assert list(judged("debug_detail", [{"text": TOLD}, {"text": text}], variant="mismatch")) == [1]


def exact() -> list[list[float]]:
    there = names("quantization")
    return [
        [sum(x * w for x, w in zip(row, weight, strict=True)) for weight in there.weights()] for row in there.rows()
    ]


def test_outputs_within_the_steps_of_eight_bits_pass() -> None:
    assert judged("quantization", [{"outputs": exact()}]) == {}
    near = [[value + 0.05 for value in row] for row in exact()]
    assert judged("quantization", [{"outputs": near}]) == {}


@pytest.mark.parametrize("defect", [1.0, -1.0, float("nan")])
def test_an_output_beyond_the_bound_is_wrong(defect: float) -> None:
    outputs = exact()
    outputs[3][2] += defect
    assert "right is" in judged("quantization", [{"outputs": outputs}])[0]


def test_a_missing_output_is_wrong() -> None:
    outputs = exact()
    outputs[1].pop()
    assert "another shape" in judged("quantization", [{"outputs": outputs}])[0]
