"""The judges of the collectives see a wrong value, a missing case, a swapped key."""

from __future__ import annotations

import copy

import pytest

from tests.scenarios.judging import cases, judged

TOTAL = [3, -6, 9, 120]
RIGHT = {
    ("reduce", None): [
        cases(root_0_int64=TOTAL, root_0_float64=TOTAL),
        cases(root_1_int64=TOTAL, root_1_float64=TOTAL),
    ],
    ("gather", None): [
        cases(root_0=[[0, 0, 0], [1, 0, 0]], root_1=None),
        cases(root_0=None, root_1=[[0, 1, 0], [1, 1, 1]]),
    ],
    ("scatter", None): [
        cases(root_0=[0, 0, 0], root_1=[1, 0, 100]),
        cases(root_0=[0, 1, 1], root_1=[1, 1, 101]),
    ],
    ("all_gather_into_tensor", None): [
        cases(int64=[0, 1, 10, 11], float64=[0, 1, 10, 11]),
        cases(int64=[0, 1, 10, 11], float64=[0, 1, 10, 11]),
    ],
    ("reduce_scatter", "list"): [cases(sum=[3, 0]), cases(sum=[3, 20])],
    ("reduce_scatter", "tensor"): [cases(sum=[3, 0]), cases(sum=[3, 20])],
    ("reduce_scatter", "average"): [cases(sum=[1.5, 0.0]), cases(sum=[1.5, 10.0])],
    ("reduce_scatter", "maximum"): [cases(sum=[2, 0]), cases(sum=[2, 10])],
    ("all_to_all", "list"): [cases(list=[0, 1, 100, 101]), cases(list=[10, 11, 110, 111])],
    ("all_to_all", "even"): [cases(even=[0, 1, 100, 101]), cases(even=[10, 11, 110, 111])],
    ("all_to_all", "uneven"): [cases(uneven=[0, 100, 101]), cases(uneven=[10, 11, 12, 110])],
}
NAMES = sorted(RIGHT, key=str)


@pytest.mark.parametrize(("name", "variant"), NAMES)
def test_right_reports_pass(name, variant) -> None:
    assert judged(name, RIGHT[name, variant], variant=variant) == {}


@pytest.mark.parametrize(("name", "variant"), NAMES)
def test_a_wrong_value_is_seen_on_its_rank(name, variant) -> None:
    reports = copy.deepcopy(RIGHT[name, variant])
    case, value = next((case, value) for case, value in reports[1]["cases"].items() if value)
    reports[1]["cases"][case] = [*value[:-1], 77]
    wrong = judged(name, reports, variant=variant)
    assert list(wrong) == [1]
    assert f"{case} is" in wrong[1]


@pytest.mark.parametrize(("name", "variant"), NAMES)
def test_a_missing_case_is_an_error(name, variant) -> None:
    reports = copy.deepcopy(RIGHT[name, variant])
    case, _ = reports[0]["cases"].popitem()
    assert judged(name, reports, variant=variant) == {0: f"{case} is missing"}


@pytest.mark.parametrize(("name", "variant"), NAMES)
def test_a_swapped_key_is_seen(name, variant) -> None:
    reports = copy.deepcopy(RIGHT[name, variant])
    case, value = reports[0]["cases"].popitem()
    reports[0]["cases"]["another"] = value
    assert judged(name, reports, variant=variant) == {0: f"{case} is missing; another was not asked for"}


def test_a_rank_that_did_not_finish_is_the_outcome_of_that_rank_alone() -> None:
    assert judged("reduce", [RIGHT["reduce", None][0], None]) == {}


def test_two_ranks_that_swapped_their_parts_are_both_wrong() -> None:
    assert sorted(judged("scatter", RIGHT["scatter", None][::-1])) == [0, 1]
