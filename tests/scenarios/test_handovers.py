"""The judges of what one release leaves for another: checkpoints, optimizers, generators."""

from __future__ import annotations

import copy
import hashlib
import struct

import pytest

from tests.scenarios.judging import judged, names

OPTIMIZERS = ["sgd", "adam", "adamw"]


def checkpoint():
    """What a reader reports that got every byte."""
    dcp = names("checkpoint_dcp")
    formats = {"float32": "f", "float64": "d", "int64": "q"}
    found = {}
    for dtype in dcp.DTYPES:
        values = dcp.values(dtype)
        packed = b"".join(struct.pack("<f", one)[2:] for one in values)
        if dtype in formats:
            packed = struct.pack(f"<{len(values)}{formats[dtype]}", *values)
        found[dtype] = [values, hashlib.sha256(packed).hexdigest()]
    return {"cases": {**found, "scalar": 0.10000000149011612, "object": dcp.OBJECT}}


def cut():
    rows = [[100.0 + 2 * row, 101.0 + 2 * row] for row in range(12)]
    return {"cases": {f"part {part}": rows[4 * part : 4 * part + 4] for part in range(3)}}


def test_a_checkpoint_that_arrived_whole_passes() -> None:
    assert judged("checkpoint_dcp", [{}, checkpoint()], variant="one") == {}
    assert judged("checkpoint_dcp", [{}, cut(), cut()], variant="resharded") == {}


@pytest.mark.parametrize("case", ["float32", "scalar", "object"])
def test_a_value_that_was_not_read_is_wrong(case) -> None:
    got = checkpoint()
    got["cases"][case] = {"epoch": 0}
    assert list(judged("checkpoint_dcp", [{}, got], variant="one")) == [1]


def test_parts_in_swapped_places_are_wrong() -> None:
    got = cut()
    parts = got["cases"]
    parts["part 0"], parts["part 1"] = parts["part 1"], parts["part 0"]
    assert list(judged("checkpoint_dcp", [{}, got], variant="resharded")) == [1]


def test_a_reader_that_read_nothing_is_wrong() -> None:
    assert judged("checkpoint_dcp", [{}, {}], variant="one") == {1: "it reported no cases"}


def trained(variant):
    state = names("optimizer_state")
    name = dict(zip(OPTIMIZERS, state.NAMES, strict=True))[variant]
    third, sixth = state.updated(name, 3), state.updated(name, 6)
    return [{"cases": {"third": third}}, {"cases": {"third": third, "control": sixth, "resumed": sixth}}]


@pytest.mark.parametrize("variant", OPTIMIZERS)
def test_training_that_goes_on_passes(variant) -> None:
    assert judged("optimizer_state", trained(variant), variant=variant) == {}


@pytest.mark.parametrize("variant", OPTIMIZERS)
def test_training_that_starts_over_is_wrong(variant) -> None:
    reports = copy.deepcopy(trained(variant))
    reports[1]["cases"]["resumed"][0] += 1e-6
    assert list(judged("optimizer_state", reports, variant=variant)) == [1]


def test_an_optimizer_s_report_without_a_control_is_wrong() -> None:
    reports = trained("adam")
    del reports[1]["cases"]["control"]
    assert judged("optimizer_state", reports, variant="adam") == {1: "control is missing"}


def test_the_rules_are_the_published_ones() -> None:
    state = names("optimizer_state")
    sgd = state.SETTINGS["SGD"]
    assert state.momentum(sgd, 1.0, 0.0, 1) == 1.0 - 0.1 * (1.0 + 0.01)
    # Adam's first step is the rate, whatever the slope.
    assert state.adaptive(state.SETTINGS["Adam"], 1.0, 0.0, 1) == pytest.approx(1.0 - 0.05)
    assert state.adaptive(state.SETTINGS["AdamW"], 1.0, 0.0, 1) == pytest.approx(1.0 - 0.05 * 0.1 - 0.05)


def drawn():
    return {"cases": {kind: kind + "'s digest" for kind in names("rng_state").KINDS}}


def test_a_generator_that_goes_on_passes() -> None:
    assert judged("rng_state", [drawn(), drawn(), drawn()]) == {}


def test_another_stream_of_one_kind_is_named() -> None:
    got = drawn()
    got["cases"]["randn"] = "other"
    assert judged("rng_state", [drawn(), got])[1].startswith("randn is")


def test_a_writer_that_draws_the_same_for_every_kind_proves_nothing() -> None:
    got = {"cases": dict.fromkeys(drawn()["cases"], "same")}
    assert list(judged("rng_state", [got, got])) == [0]
