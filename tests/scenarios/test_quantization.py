"""The judges of quantization: a call that did nothing, another result and a silent refusal are WRONG."""

from __future__ import annotations

import pytest

from tests.scenarios.judging import judged

STATIC = {"observed": True, "swapped": 2, "original": 0, "off": 0.02, "kernels": 0.01, "range": 0.9}


@pytest.mark.parametrize(
    ("case", "report", "wrong"),
    [
        ("static", STATIC, []),
        ("static", {**STATIC, "observed": False}, [0]),
        ("static", {**STATIC, "swapped": 0}, [0]),
        ("static", {**STATIC, "original": 2}, [0]),
        ("static", {**STATIC, "off": 0.2}, [0]),
        ("static", {**STATIC, "off": float("nan")}, [0]),
        ("static", {**STATIC, "kernels": 0.5}, [0]),
        ("static", {**STATIC, "kernels": float("nan")}, [0]),
        ("static", {**STATIC, "range": 0.3}, [0]),
        ("run_fn", {**STATIC, "arguments": [3, "x"]}, []),
        ("run_fn", {**STATIC, "arguments": [[3, "x"]]}, [0]),
        ("run_fn", {**STATIC, "arguments": []}, [0]),
        ("mapping", {"swapped": 2, "own": 0, "off": 0.0}, [0]),
        ("size", {"float": 1000, "quantized": 400}, []),
        ("size", {"float": 1000, "quantized": 900}, [0]),
        ("run_fn_none", {"error": "TypeError: 'NoneType' object is not callable"}, []),
        ("run_fn_none", {"error": "TypeError: "}, [0]),
        ("run_fn_none", {"error": None}, [0]),
    ],
)
def test_a_call_that_did_not_do_what_it_says_is_wrong(case: str, report: dict, wrong: list[int]) -> None:
    assert list(judged("quantization_calls", [report], variant=case)) == wrong


RIGHT = {"answers": [0.5, -1.0, 1.5, 2.0] * 4}


def found(second: dict, variant: str) -> list[int]:
    opinion = judged("quantized_models", [RIGHT, second], variant=variant)
    return list(getattr(opinion, "wrong", opinion))


@pytest.mark.parametrize("variant", ["dynamic", "static", "dynamic_plain", "static_plain"])
def test_equal_answers_pass_and_those_of_other_weights_are_wrong(variant: str) -> None:
    assert found(RIGHT, variant) == []
    assert found({"answers": [0.0] * 16}, variant) == [1]
    assert found({"answers": [value * 1.1 for value in RIGHT["answers"]]}, variant) == [1]


def test_only_a_plain_dict_may_be_refused_and_only_by_the_name_of_a_key() -> None:
    assert found({"refused": "KeyError: '0.weight'"}, "dynamic_plain") == []
    assert found({"refused": "KeyError: ''"}, "dynamic_plain") == [1]
    assert found({"refused": "KeyError: '0.weight'"}, "dynamic") == [1]
