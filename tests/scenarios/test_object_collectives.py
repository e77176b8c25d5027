"""The judge of object_collectives holds the text of what arrived against the text of what was sent."""

from __future__ import annotations

import pytest

from tests.scenarios.judging import judged, names

KINDS = ["builtin", "data_class", "tensors", "torch_types", "numpy", "moved"]


def reports(kind):
    text = names("object_collectives").SHOWN[kind]
    everything = [text % 0, text % 1]
    found = [
        {"broadcast 0": text % 0, "broadcast 1": text % 1, "all_gather": everything, "gather": None} for _ in range(2)
    ]
    found[0].update(gather=everything, scatter=text % 10, send=text % 21)
    found[1].update(scatter=text % 11, send=text % 20)
    return [{"cases": one} for one in found]


@pytest.mark.parametrize("kind", KINDS)
def test_objects_that_arrived_equal_pass(kind) -> None:
    assert judged("object_collectives", reports(kind), variant=kind) == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["broadcast 0", "all_gather", "scatter", "send"])
def test_an_object_that_changed_on_its_way_is_wrong(kind, case) -> None:
    got = reports(kind)
    got[1]["cases"][case] = "another"
    assert list(judged("object_collectives", got, variant=kind)) == [1]


def test_objects_in_swapped_places_are_wrong() -> None:
    got = reports("builtin")
    got[0]["cases"]["all_gather"].reverse()
    assert 0 in judged("object_collectives", got, variant="builtin")


def test_sending_is_left_out_where_a_version_cannot() -> None:
    got = reports("builtin")
    for report in got:
        del report["cases"]["send"]
    assert judged("object_collectives", got, variant="builtin", skip={"send": "2.1.2: has none"}) == {}
    assert judged("object_collectives", got, variant="builtin") == {0: "send is missing", 1: "send is missing"}
