"""The judges of subgroups, meshes, checkpoints, functional and coalesced collectives see every seeded defect."""

from __future__ import annotations

import copy

import pytest

from tests.scenarios.judging import cases, judged

RIGHT = {
    ("new_group", "counter"): [cases(all=6, two=3), cases(all=6, two=3), cases(all=6, two=None)],
    ("new_group", "local"): [cases(all=6, two=3), cases(all=6, two=3), cases(all=6, two=None)],
    ("split_group", None): [cases(sum=4), cases(sum=2), cases(sum=4)],
    ("device_mesh", "one_d"): [cases(dimension_0=10)] * 4,
    ("device_mesh", "two_d"): [
        cases(dimension_0=4, dimension_1=3),
        cases(dimension_0=6, dimension_1=3),
        cases(dimension_0=4, dimension_1=7),
        cases(dimension_0=6, dimension_1=7),
    ],
    ("checkpoint_together", "saved"): [cases(keys=["of rank 0", "of rank 1", "shared"]), cases(keys=[])],
    ("checkpoint_together", "loaded"): [
        cases(first=[-5.0, -2.5, 0.0, 2.5, 5.0], second=[-6.0, -3.5, -1.0, 1.5, 4.0, 6.5, 9.0, 11.5, 14.0])
    ]
    * 2,
    ("functional_collectives", None): [
        {"cases": {"all_reduce": [3, 10], "all_gather_tensor": [0, 7, 1, 7], "reduce_scatter_tensor": [1, 3]}},
        {"cases": {"all_reduce": [3, 10], "all_gather_tensor": [0, 7, 1, 7], "reduce_scatter_tensor": [5, 7]}},
    ],
    ("coalesced", None): [
        {
            "cases": {
                "all_reduce": [[3.0], [7.0, 7.0, 7.0], [5.0, 5.0]],
                "all_gather": [[[0.0], [10.0, -1.0]], [[1.0], [11.0, -1.0]]],
            }
        }
    ]
    * 2,
}
NAMES = sorted(RIGHT, key=str)


def right(name, variant):
    return [copy.deepcopy(report) for report in RIGHT[name, variant]]


@pytest.mark.parametrize(("name", "variant"), NAMES)
def test_right_reports_pass(name, variant) -> None:
    assert judged(name, right(name, variant), variant=variant) == {}


@pytest.mark.parametrize(("name", "variant"), NAMES)
def test_a_wrong_sum_is_seen_on_its_rank(name, variant) -> None:
    reports = right(name, variant)
    case = next(iter(reports[1]["cases"]))
    reports[1]["cases"][case] = 77
    assert list(judged(name, reports, variant=variant)) == [1]


@pytest.mark.parametrize(("name", "variant"), NAMES)
def test_a_missing_case_is_an_error(name, variant) -> None:
    reports = right(name, variant)
    case, _ = reports[0]["cases"].popitem()
    assert judged(name, reports, variant=variant) == {0: f"{case} is missing"}


def test_a_rank_outside_a_group_has_no_sum() -> None:
    reports = right("new_group", "counter")
    reports[2]["cases"]["two"] = 3
    assert list(judged("new_group", reports, variant="counter")) == [2]
