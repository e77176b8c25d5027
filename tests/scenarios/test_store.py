"""The judges of store_connect and store_operations hold every answer against a dict."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.workflows.inputs import read_scenarios

from tests.scenarios.judging import cases, judged

OPERATIONS = [one.name for one in read_scenarios()["store_operations"].variants if one]


def played(variant):
    """What two ranks report when the store is a dict."""
    module: dict = {}
    path = Path(read_scenarios()["store_operations"].path)
    exec(compile(path.read_text(), str(path), "exec"), module)
    steps = module["STEPS"][variant]
    given = module["modelled"](steps)
    turns: list[dict] = [{}, {}]
    for number, (step, value) in enumerate(zip(steps, given, strict=True)):
        turns[number % 2][f"{number} {step[0]}"] = value
    return [{"cases": turn} for turn in turns]


@pytest.mark.parametrize("variant", OPERATIONS)
def test_a_store_that_is_a_dict_passes(variant) -> None:
    assert judged("store_operations", played(variant), variant=variant) == {}


@pytest.mark.parametrize("variant", OPERATIONS)
def test_one_wrong_answer_is_wrong_on_the_rank_that_heard_it(variant) -> None:
    reports = played(variant)
    last = list(reports[1]["cases"])[-1]
    reports[1]["cases"][last] = "something else"
    assert list(judged("store_operations", reports, variant=variant)) == [1]


def test_the_model_itself_says_what_the_documentation_says() -> None:
    compared = {**played("compare_set")[0]["cases"], **played("compare_set")[1]["cases"]}
    assert [compared[name] for name in sorted(compared)] == ["first", "first", "first", "second", "second", "expected"]
    assert played("delete")[0]["cases"] == {"0 set": None, "2 delete_key": False, "4 delete_key": True}
    assert played("queue")[0]["cases"]["4 queue_pop"] == "2"


def test_a_step_that_nobody_took_is_wrong() -> None:
    reports = played("add")
    reports[0]["cases"].pop("2 add")
    assert judged("store_operations", reports, variant="add") == {0: "2 add is missing"}


def test_a_key_of_another_rank_is_wrong() -> None:
    right = cases(rank_0="rank 0 was here", rank_1="rank 1 was here")
    assert judged("store_connect", [right, right]) == {}
    assert list(judged("store_connect", [right, cases(rank_0="rank 1 was here", rank_1="rank 1 was here")])) == [1]
