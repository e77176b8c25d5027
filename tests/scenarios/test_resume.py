"""The judges of a run that goes on in another release see what was lost, left fresh or drawn anew."""

from __future__ import annotations

import copy

import pytest

from tests.scenarios.judging import judged, names


def trained():
    parameters = [0.5 + k for k in range(8)]
    settings = {"lr": 0.05, "betas": [0.8, 0.95], "weight_decay": 0.1}
    cases = {"parameters": parameters, "settings": settings, "counts": [3.0, 3.0]}
    return {"cases": {**cases, "later": [value - 0.25 for value in parameters]}}


def test_training_that_goes_on_from_its_checkpoint_passes() -> None:
    assert judged("checkpoint_resume", [trained(), trained()], variant="adamw") == {}


def test_a_learning_rate_that_stayed_fresh_is_wrong() -> None:
    got = copy.deepcopy(trained())
    got["cases"]["settings"]["lr"] = 0.5
    assert "settings is" in judged("checkpoint_resume", [trained(), got], variant="adamw")[1]


def test_an_optimizer_that_counts_from_the_beginning_is_wrong() -> None:
    got = copy.deepcopy(trained())
    got["cases"]["counts"] = [0.0, 0.0]
    assert "counts is" in judged("checkpoint_resume", [trained(), got], variant="adam")[1]


@pytest.mark.parametrize("later", [[], [0.25 + k + 1e-9 for k in range(8)]])
def test_training_that_ends_elsewhere_is_wrong(later: list[float]) -> None:
    got = copy.deepcopy(trained())
    got["cases"]["later"] = later
    assert "three steps later" in judged("checkpoint_resume", [trained(), got], variant="sgd")[1]


def test_a_writer_whose_training_stands_still_proves_nothing() -> None:
    idle = copy.deepcopy(trained())
    idle["cases"]["later"] = idle["cases"]["parameters"]
    assert list(judged("checkpoint_resume", [idle, idle], variant="adam")) == [0]


@pytest.mark.parametrize("variant", ["stateful", "nested"])
def test_an_epoch_that_was_left_as_it_was_is_wrong(variant: str) -> None:
    resume = names("checkpoint_resume")
    saved = {"cases": dict(resume.PROGRESS)}
    assert judged("checkpoint_resume", [saved, saved], variant=variant) == {}
    fresh = {"cases": {**resume.PROGRESS, "epoch": 0}}
    assert judged("checkpoint_resume", [saved, fresh], variant=variant) == {1: "epoch is 0, expected 7"}
    assert set(resume.progress(fresh=True)) == set(resume.PROGRESS)
    assert resume.progress(fresh=True)["losses"] == [0.0, 0.0, 0.0]


def test_contents_that_came_back_as_they_were_written_pass() -> None:
    written = {"cases": {"datetime": "2026-01-02 03:04:05", "timedelta": "0:01:30"}}
    assert judged("load_default", [written, written], variant="time") == {}
    other = {"cases": {**written["cases"], "timedelta": "0:01:31"}}
    assert list(judged("load_default", [written, other], variant="time")) == [1]
    assert list(judged("load_default", [{"cases": {}}, {"cases": {}}], variant="time")) == [0]


def test_every_content_that_can_be_refused_is_tried_with_the_remedy() -> None:
    contents = names("load_default").CONTENTS
    remedies = ("trusted", "nested_trusted", "allowed")
    kinds = [kind for kind in contents if kind not in remedies]
    tried = {*contents["trusted"], *contents["nested_trusted"]}
    assert tried == {name for kind in kinds for name in contents[kind]}


@pytest.mark.parametrize("name", ["optimizers", "schedulers"])
def test_numbers_within_the_bound_pass_and_beyond_it_are_named(name: str) -> None:
    wanted = names(name).SETTINGS if name == "optimizers" else ("StepLR", "OneCycleLR", "LambdaLR", "ChainedScheduler")
    written = {"cases": {case: [0.5, 0.25] for case in wanted}}
    near = {"cases": {case: [0.5, 0.25 + 1e-13] for case in wanted}}
    assert judged(name, [written, near]) == {}
    case = next(iter(wanted))
    off = {"cases": {**written["cases"], case: [0.5, 0.25 + 1e-6]}}
    assert judged(name, [written, off]) == {
        1: f"{case} is off by 1e-06, {1e-9 if name == 'optimizers' else 1e-12:.2g} allowed"
    }
    short = {"cases": {**written["cases"], case: [0.5]}}
    assert judged(name, [written, short]) == {1: f"{case} has 1 numbers, expected 2"}
    without = {"cases": {other: value for other, value in written["cases"].items() if other != case}}
    assert judged(name, [written, without]) == {1: f"{case} is missing"}
    assert judged(name, [without, without]) == {0: f"rank 0 reported nothing for {case}"}
    assert judged(name, [without, without], skip={case: "lacks it"}) == {}


def test_a_tensor_of_another_dtype_or_with_other_bytes_is_wrong() -> None:
    written = {"cases": {"dtype": "torch.uint16", "whole": ["digest"], "shape": [24]}}
    assert judged("newer_dtypes", [written, written], variant="uint16") == {}
    for case, value in (("dtype", "torch.int16"), ("whole", ["other"])):
        got = {"cases": {**written["cases"], case: value}}
        assert list(judged("newer_dtypes", [written, got], variant="uint16")) == [1]
    assert list(judged("newer_dtypes", [{"cases": {}}, written], variant="uint16")) == [0]


@pytest.mark.parametrize("variant", ["outside", "samplers", "loader", "dropout"])
def test_another_order_is_wrong_and_named(variant: str) -> None:
    written = {"cases": {"first": [1, 2, 3], "second": [True, False]}}
    assert judged("data_order", [written, written], variant=variant) == {}
    other = {"cases": {"first": [1, 3, 2], "second": [True, False]}}
    assert judged("data_order", [written, other], variant=variant)[1].startswith("first is [1, 3, 2]")
    assert list(judged("data_order", [{"cases": {"first": []}}, other], variant=variant)) == [0]


def test_an_average_that_starts_over_is_wrong() -> None:
    written, other = {"cases": {"ema": [1.0, 2.0]}}, {"cases": {"ema": [1.0, 1.0]}}
    assert judged("averaging", [written, written], variant="ema") == {}
    assert list(judged("averaging", [written, other], variant="ema")) == [1]
    assert list(judged("averaging", [other, other], variant="ema")) == [0]


@pytest.mark.parametrize("variant", ["average", "maximum"])
def test_a_sum_where_something_else_was_asked_for_is_wrong(variant: str) -> None:
    summed = [{"cases": {"sum": [3.0, 0.0]}}, {"cases": {"sum": [3.0, 20.0]}}]
    assert list(judged("reduce_scatter", summed, variant=variant)) == [0, 1]


@pytest.mark.parametrize(("name", "variant"), [("key_names", "compiled")])
def test_a_layer_with_other_numbers_is_wrong(name: str, variant: str) -> None:
    written, fresh = {"cases": {"output": [0.5, -0.25]}}, {"cases": {"output": [0.5, 0.75]}}
    assert judged(name, [written, written], variant=variant) == {}
    assert judged(name, [written, fresh], variant=variant)[1].startswith("output is off by 1")
    assert judged(name, [written, {"cases": {}}], variant=variant) == {1: "output is missing"}


@pytest.mark.parametrize("variant", ["path", "numpy_generator", "dcp"])
def test_an_object_that_another_python_changed_is_wrong(variant: str) -> None:
    written, other = {"cases": {"objects": ["list ['a']"]}}, {"cases": {"objects": ["list ['b']"]}}
    assert judged("pickles", [written, written], variant=variant) == {}
    assert list(judged("pickles", [written, other], variant=variant)) == [1]
    assert list(judged("pickles", [{"cases": {"objects": []}}, other], variant=variant)) == [0]
