"""A plan and a result are taken apart into rows of their own, and nothing of them is lost."""

from __future__ import annotations

import json

from torchskew.record.rows import of_plan, of_result, to_plan, to_result

from tests import factories


def test_a_result_comes_back_as_it_went():
    for result in factories.bad_run()[0].results:
        assert to_result(of_result(result), result.cell, result.attempts, newer=False) == result


def test_a_plan_comes_back_as_it_went():
    plan = factories.good_run()[0].plan
    assert to_plan(of_plan(plan).head, plan.cells, "plan", newer=False) == plan


def test_a_result_row_holds_neither_the_cell_nor_the_attempts():
    result = factories.bad_run()[0].results[0]
    assert not {"cell", "attempts"} & json.loads(of_result(result)).keys()
