"""The oracles of files that one release writes and another reads, and of repeated work, see every seeded defect."""

from __future__ import annotations

import copy

import pytest

from tests.scenarios.judging import judged, names


def state():
    return {
        "cases": {
            "round": 3,
            "complete": True,
            "closed": False,
            "participants": {"one.example": 0, "two.example": 1},
            "pids": [100, 101],
            "waiting": ["three.example"],
            "heartbeats": ["2026-01-02 03:04:05"] * 3,
            "redundant": 0,
        }
    }


def scripts():
    script = names("script_files")
    assert script.computed([1.0, 2.0, 3.0]) == [5.0, 3.0, 4.5]
    return {"cases": {str(one): script.computed(one) for one in script.INPUTS}}


def exports():
    return {"cases": {"[1.0, 2.0, 3.0]": [8.0, 6.0, 7.5], "[-4.0, 1.0, 0.0]": [-3.0, -3.0, -3.0]}}


def wrapped(prefix):
    right = {"0.weight": range(6), "0.bias": range(10, 12), "1.weight": range(20, 22), "1.bias": range(30, 32)}
    return {"cases": {prefix + name: [float(one) for one in values] for name, values in right.items()}}


RIGHT = {
    ("rendezvous_state", None): [state(), state()],
    ("script_files", None): [{}, scripts()],
    ("export_files", None): [{}, exports()],
    ("ddp_fsdp_state", "ddp"): [{}, wrapped("module.")],
    ("ddp_fsdp_state", "fsdp"): [{}, wrapped("")],
}


@pytest.mark.parametrize(("name", "variant"), list(RIGHT))
def test_a_reader_that_got_everything_passes(name, variant) -> None:
    assert judged(name, RIGHT[name, variant], variant=variant) == {}


@pytest.mark.parametrize(("name", "variant"), list(RIGHT))
def test_a_reader_that_got_another_value_is_wrong(name, variant) -> None:
    reports = copy.deepcopy(RIGHT[name, variant])
    case = next(iter(reports[1]["cases"]))
    reports[1]["cases"][case] = "another"
    assert list(judged(name, reports, variant=variant)) == [1]


@pytest.mark.parametrize(("name", "variant"), list(RIGHT))
def test_a_reader_that_got_a_part_is_wrong(name, variant) -> None:
    reports = copy.deepcopy(RIGHT[name, variant])
    case, _ = reports[1]["cases"].popitem()
    assert judged(name, reports, variant=variant) == {1: f"{case} is missing"}


def test_a_state_of_ddp_under_the_keys_of_fsdp_is_wrong() -> None:
    assert list(judged("ddp_fsdp_state", [{}, wrapped("")], variant="ddp")) == [1]


def test_an_extension_that_was_built_for_another_release_is_wrong() -> None:
    right = {"built for": "2.6.0", "torch": "2.6.0+cpu"}
    assert judged("extension_cache", [right, {"built for": "2.13.0", "torch": "2.13.0+cu121"}]) == {}
    wrong = judged("extension_cache", [right, {"built for": "2.6.0", "torch": "2.13.0"}])
    assert wrong == {1: "its extension was built for 2.6.0, it runs 2.13.0"}
    assert list(judged("extension_cache", [right, {"torch": "2.13.0"}])) == [1]


def test_a_rank_that_never_had_the_lock_is_wrong() -> None:
    assert judged("stale_lock", [{"held": True}, {"held": True}]) == {}
    assert judged("stale_lock", [{"held": True}, {"held": False}]) == {1: "it never had the lock"}
    assert judged("stale_lock", [{"held": True}, {"other": True}]) == {1: "it never had the lock"}


def runs():
    return {"runs": {name: [name, name] for name in names("determinism").NAMES}}


def test_operators_that_give_the_same_bits_twice_pass() -> None:
    assert judged("determinism", [runs()]) == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found.update(lstm=["lstm", "other"]), "lstm differs between two runs"),
        (lambda found: found.update(lstm=["lstm"]), "lstm is missing"),
        (lambda found: found.pop("sort"), "sort is missing"),
        (lambda found: found.update(more=["more", "more"]), "more was not asked for"),
        (lambda found: found.update(sort=["lstm", "lstm"]), "two operators gave the same bits"),
    ],
)
def test_an_operator_that_differs_is_missing_or_idle_is_wrong(change, why) -> None:
    report = runs()
    change(report["runs"])
    assert judged("determinism", [report]) == {0: why}


def test_an_operator_without_a_deterministic_form_has_to_be_absent() -> None:
    report = runs()
    assert "ctc_loss was not asked for" in judged("determinism", [report], skip={"ctc_loss": "no such form"})[0]
    del report["runs"]["ctc_loss"]
    assert judged("determinism", [report], skip={"ctc_loss": "no such form"}) == {}
