"""The judges of speed and memory: a seeded slowdown and a leak are WRONG, and what was not measured is never a pass."""

from __future__ import annotations

import pytest
from torchskew.planning.scenario import with_bounds
from torchskew.workflows.inputs import read_scenarios

from tests.scenarios.judging import judged, names

STEADY = [1.0 + 0.001 * (number % 7) for number in range(80)]


def test_a_slower_operator_is_wrong_on_the_second_rank_and_a_faster_one_passes() -> None:
    slow = [value * 1.12 for value in STEADY]
    wrong = judged("speed", [{"seconds": STEADY}, {"seconds": slow}], variant="layer_norm").wrong
    assert list(wrong) == [1]
    assert wrong[1].startswith("slower by 12 % (")
    assert judged("speed", [{"seconds": slow}, {"seconds": STEADY}], variant="layer_norm").note.startswith("faster by")


def test_turns_that_are_missing_are_wrong() -> None:
    assert list(judged("speed", [{"seconds": STEADY}, {"seconds": STEADY[:3]}], variant="matmul")) == [1]
    assert list(judged("memory", [{"bytes": [1] * 3}, {"bytes": []}], variant="step")) == [1]


def test_the_ranks_take_turns_a_b_b_a() -> None:
    job = type("Job", (), {"path": staticmethod(str), "timeout": 1.0, "rank": 0})
    first = names("speed").Turns(job)
    job.rank = 1
    assert first.mine(8) == [0, 3, 4, 7]
    assert names("speed").Turns(job).mine(8) == [1, 2, 5, 6]


def test_a_leak_of_fifty_megabytes_is_wrong_with_both_sizes() -> None:
    before = [{"bytes": [400_000_000 + number for number in range(3)]}]
    wrong = judged("memory", [*before, {"bytes": [450_000_000 + number for number in range(3)]}], variant="step").wrong
    assert list(wrong) == [1]
    assert wrong[1].startswith("larger by 12 % (12 to ")
    assert wrong[1].endswith("; 5 % is allowed (400 then 450 MB)")
    assert judged("memory", before * 2, variant="step").note == "no difference above 0 % (400 then 400 MB)"


@pytest.mark.parametrize(("name", "bound"), [("speed", "slower"), ("memory", "larger")])
def test_the_gate_s_bound_reaches_every_variant(name: str, bound: str) -> None:
    scenario = with_bounds(read_scenarios(), {bound: 0.3})[name]
    assert {variant.params[bound] for variant in scenario.variants if variant} == {0.3}
