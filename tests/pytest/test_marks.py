"""What the mark torchskew asks for, as the parameters of a test."""

from __future__ import annotations

from typing import Any

import pytest
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Kind, Store
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.pytest.conditions import Conditions, How, conditions, skew_of
from torchskew.pytest.marks import chosen


def versions(*releases: str) -> dict[str, Version]:
    source = Source(kind=SourceKind.PIP, value="torch")
    return {name: Version(name=name, sources=(source,), torch=name) for name in releases}


FOUR = versions("2.15.0", "2.6.0", "2.13.0", "2.4.1")


def ids(**arguments: Any) -> list[str]:
    return [each.id for each in chosen(arguments, FOUR)]


def test_all_pairs_are_ordered_and_a_release_meets_itself() -> None:
    assert len(ids()) == 16
    assert {"2.6.0+2.13.0", "2.13.0+2.6.0", "2.6.0+2.6.0"} <= set(ids())


def test_neighbours_are_those_of_the_declaration() -> None:
    pairs = ids(pairs="neighbours", versions=["2.6.0", "2.13.0", "2.15.0"])
    assert "2.6.0+2.15.0" not in pairs
    assert len(pairs) == 3 + 4


def test_boundaries_are_neighbours_in_age_that_speak_differently() -> None:
    assert ids(pairs="boundary") == ["2.4.1+2.6.0", "2.6.0+2.4.1", "2.13.0+2.15.0", "2.15.0+2.13.0"]
    assert ids(pairs="boundary", world_size=3)[0] == "2.4.1+2.6.0+2.4.1"


def test_sizes_and_guards_multiply_and_show_in_the_id() -> None:
    pair = [["2.6.0", "2.13.0"]]
    assert ids(pairs=pair, world_size=[2, 3], guard=["off", "host"]) == [
        "2.6.0+2.13.0-guard-off", "2.6.0+2.13.0-guard-host",
        "2.6.0+2.13.0+2.6.0-guard-off", "2.6.0+2.13.0+2.6.0-guard-host",
    ]  # fmt: skip


def test_stores_multiply_too_and_show_in_the_id() -> None:
    pair = [["2.6.0", "2.13.0"]]
    assert ids(pairs=pair, store=["stock", "bridge"]) == ["2.6.0+2.13.0-store-stock", "2.6.0+2.13.0-store-bridge"]


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({"store": "bridges"}, 'store must be "stock" or "bridge"'),
        ({"store": "bridge", "guard": True}, "the guard refuses what a bridge is for"),
        ({"store": "bridge", "launcher": "torchrun"}, "can't take effect under torchrun"),
    ],
)
def test_a_bridge_that_its_ranks_would_not_meet_at_is_refused(how: How, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        conditions(how)


def test_a_handover_has_no_bridge() -> None:
    assert conditions({"store": "bridge"}).store is Store.BRIDGE
    with pytest.raises(ConfigError, match="in a handover, whose functions run one after another"):
        conditions({"store": "bridge"}, Kind.HANDOVER)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"pairs": "some"}, "must be one of all, neighbours, boundary"),
        ({"world_size": 1}, "must be 2 or more"),
        ({"versions": ["2.9.9"]}, "names '2.9.9', which is not declared. Declared: 2.15.0"),
        ({"size": 2}, "has no argument 'size'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        chosen(arguments, FOUR)


def test_nodes_repeat_the_versions_and_each_has_ranks_of_one() -> None:
    four = Conditions(ranks_per_node=2)
    assert skew_of(["a", "b"], None, four) == ("a", "a", "b", "b")
    assert skew_of(["a", "b"], 6, four) == ("a", "a", "b", "b", "a", "a")
    assert skew_of(["a", "b"], None, Conditions(nodes=3)) == ("a", "b", "a")
    assert skew_of(["a", "b"], None, Conditions(ranks_per_node=2, launcher="torchrun")) == ("a", "b")
    with pytest.raises(ConfigError, match="3 nodes of 2 ranks are 6 ranks, not world_size 4"):
        skew_of(["a"], 4, Conditions(nodes=3, ranks_per_node=2))
