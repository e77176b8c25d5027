"""The oracles of what goes through files: a renamed key or a changed byte is wrong on the right rank."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import pytest

from harness.scenario import Scenario, World, load_all

KEYS = {f"M{number}": {"weight": "4x4 float32"} for number in range(100)}


def world(*, skip: dict[str, str] | None = None) -> World:
    return World(size=2, skew=("a", "b"), params={}, skip=skip or {}, seed=0)


def module_of(scenario: Scenario) -> ModuleType:
    made = ModuleType(scenario.name)
    exec(scenario.source, made.__dict__)
    return made


@pytest.fixture(scope="module")
def keys() -> Scenario:
    return load_all()["state_dict_keys"]


@pytest.fixture(scope="module")
def files() -> Scenario:
    return load_all()["torch_save"]


def snapshot(torch: str, **changed: Any) -> dict[str, Any]:
    return {"torch": torch, "built": {**copy.deepcopy(KEYS), **changed}, "refused": {}}


def test_equal_snapshots_are_right_in_every_order(keys: Scenario) -> None:
    assert keys.judge([snapshot("2.6.0"), snapshot("2.13.0+cpu")], world()) == {}
    assert keys.judge([snapshot("2.13.0"), snapshot("2.13.0")], world()) == {}


@pytest.mark.parametrize("late", [0, 1])
def test_a_renamed_key_is_wrong_on_the_later_releases_rank(keys: Scenario, late: int) -> None:
    reports = [snapshot("2.9.0"), snapshot("2.9.0")]
    reports[late] = snapshot("2.10.1+cpu", M7={"W": "4x4 float32"})
    assert keys.judge(reports, world()) == {late: "against 2.9.0: lost M7.weight, new M7.W"}


def test_additions_of_a_later_release_are_allowed_and_of_the_same_release_not(keys: Scenario) -> None:
    more = {"M7": {"weight": "4x4 float32", "extra": "4 float32"}, "New": {}}
    assert keys.judge([snapshot("2.9.0"), snapshot("2.10.0", **more)], world()) == {}
    assert "new M7.extra" in keys.judge([snapshot("2.9.0"), snapshot("2.9.0", **more)], world())[1]


def test_a_changed_shape_or_dtype_is_wrong(keys: Scenario) -> None:
    changed = snapshot("2.10.0", M7={"weight": "4x5 float32"}, M8={"weight": "4x4 float64"})
    told = keys.judge([snapshot("2.9.0"), changed], world())[1]
    assert told == (
        "against 2.9.0: M7.weight was 4x4 float32, is 4x5 float32; M8.weight was 4x4 float32, is 4x4 float64"
    )


def test_a_module_that_is_gone_or_can_no_longer_be_built_is_wrong(keys: Scenario) -> None:
    late = snapshot("2.10.0")
    del late["built"]["M7"]
    late["refused"]["M7"] = "TypeError: no"
    late["built"].update(M200={})
    assert keys.judge([snapshot("2.9.0"), late], world()) == {1: "against 2.9.0: M7 is gone: TypeError: no"}


def test_a_snapshot_of_too_few_modules_is_wrong_and_never_compared(keys: Scenario) -> None:
    empty = {"torch": "2.9.0", "built": {}, "refused": {}}
    assert keys.judge([empty, empty], world()) == dict.fromkeys((0, 1), "only 0 modules were built, 100 are the fewest")


@pytest.fixture
def read(files: Scenario) -> dict[str, Any]:
    right = module_of(files).expected()
    forms = ("zip", "legacy", "weights_only")
    return {"cases": {f"{form}/{name}": copy.deepcopy(value) for form in forms for name, value in right.items()}}


WRITTEN = {"written": ["legacy.pt", "zip.pt"]}


def test_every_case_right_is_right(files: Scenario, read: dict[str, Any]) -> None:
    assert files.judge([WRITTEN, read], world()) == {}


@pytest.mark.parametrize(
    "case", ["zip/dtype/bfloat16", "legacy/view", "weights_only/model", "zip/plain", "zip/empty", "zip/shared"]
)
def test_one_changed_case_is_wrong_on_the_reader_and_named(files: Scenario, read: dict[str, Any], case: str) -> None:
    read["cases"][case] = "other"
    assert list(files.judge([WRITTEN, read], world())) == [1]
    assert case in files.judge([WRITTEN, read], world())[1]


def test_a_missing_case_and_a_case_too_many_are_wrong(files: Scenario, read: dict[str, Any]) -> None:
    del read["cases"]["zip/view"]
    read["cases"]["zip/other"] = 1
    told = files.judge([WRITTEN, read], world())[1]
    assert "zip/view is None" in told
    assert "zip/other is 1" in told


def test_what_a_version_lacks_is_not_wanted(files: Scenario, read: dict[str, Any]) -> None:
    without = {"cases": {name: value for name, value in read["cases"].items() if not name.startswith("weights_only")}}
    lacks = world(skip={"weights_only/*": "a: none"})
    assert files.judge([WRITTEN, without], lacks) == {}
    assert 1 in files.judge([WRITTEN, without], world())


def test_a_writer_that_left_a_file_out_is_wrong(files: Scenario, read: dict[str, Any]) -> None:
    assert files.judge([{"written": ["zip.pt"]}, read], world()) == {0: "wrote ['zip.pt']"}
    assert files.judge([WRITTEN, None], world()) == {}
