"""What speaks against a group, decided from the roster alone."""

from __future__ import annotations

from typing import Any

import pytest
from torchskew.guard import table
from torchskew.guard.roster import roster_of
from torchskew.guard.table import TABLE
from torchskew.guard.verdict import Objection, decide

from tests.guard.ranks import hello_of


def objections(*hellos: dict[str, Any], policy: str = "era") -> list[Objection]:
    return decide(roster_of(list(hellos), policy))


def kinds(*hellos: dict[str, Any], policy: str = "era") -> list[str]:
    return [one.kind for one in objections(*hellos, policy=policy)]


def test_releases_of_one_era_are_admitted() -> None:
    assert objections(hello_of(0, "2.6.0+cu124"), hello_of(1, "2.13.0+cpu")) == []


def test_an_era_that_differs_is_named_with_the_release_it_came_with() -> None:
    found = objections(hello_of(0, "2.1.2"), hello_of(1, "2.2.2"))
    assert [(one.era, one.since) for one in found] == [("store", "2.2"), ("gloo", "2.2")]


def test_the_store_has_a_direction() -> None:
    assert objections(hello_of(0, "2.6.0"), hello_of(1, "2.2.2")) == []
    assert [one.era for one in objections(hello_of(0, "2.2.2"), hello_of(1, "2.6.0"))] == ["store"]


def test_files_carry_no_store() -> None:
    assert objections(hello_of(0, "2.2.2", method="file"), hello_of(1, "2.6.0", method="file")) == []


def test_a_backend_without_gloo_is_not_refused_for_gloos_wire() -> None:
    pair = (hello_of(0, "2.0.1", backend="nccl"), hello_of(1, "2.1.2", backend="nccl"))
    assert {one.era for one in objections(*pair)} == {"keys"}


@pytest.mark.parametrize(
    ("policy", "releases", "admitted"),
    [
        ("minor", ("2.6.0", "2.6.1"), True),
        ("minor", ("2.6.0", "2.7.0"), False),
        ("exact", ("2.6.0", "2.6.1"), False),
        ("exact", ("2.6.0+cpu", "2.6.0+cu124"), True),
        ("allow:2.2.2,2.6.0", ("2.2.2", "2.6.0"), True),
        ("allow:2.2.2,2.6.0;2.7.0", ("2.6.0", "2.7.0"), False),
        ("allow:", ("2.7.0", "2.7.0"), True),
    ],
)
def test_a_policy_decides_on_the_mix(policy: str, releases: tuple[str, str], admitted: bool) -> None:
    assert (objections(*(hello_of(rank, name) for rank, name in enumerate(releases)), policy=policy) == []) is admitted


def test_exactly_one_build_means_one_commit_too() -> None:
    assert kinds(hello_of(0), hello_of(1, git="def"), policy="exact") == ["version"]


@pytest.mark.parametrize(
    "odd",
    [
        {"world": 3},
        {"backend": "nccl"},
        {"method": "agent"},
        {"job": "other"},
        {"order": "big"},
        {"rank": 5},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_ranks_that_are_no_group_are_told(odd: dict[str, Any]) -> None:
    assert "group" in kinds(hello_of(0, job="mine"), {**hello_of(1, job="mine"), **odd})


def test_two_processes_with_one_number_are_told() -> None:
    found = objections(hello_of(0, world=3), hello_of(1, world=3), hello_of(1, world=3, pid=7))
    assert "more than one process says it is rank 1" in found[0].text


def test_settings_that_change_the_wire_must_be_the_same() -> None:
    found = objections(hello_of(0, settings="TORCH_GLOO_LAZY_INIT=1"), hello_of(1))
    text = "settings that change the wire format differ: rank 0 TORCH_GLOO_LAZY_INIT=1; rank 1 none"
    assert found == [Objection("settings", text)]


def test_an_emptied_table_admits_what_must_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative proof: the refusal comes from the table and from nothing else."""
    monkeypatch.setattr(table, "TABLE", dict.fromkeys(TABLE, (((1, 7), "all"),)))
    monkeypatch.setattr(table, "SERVES", {"1.7": ("1.7",)})
    assert objections(hello_of(0, "2.1.2"), hello_of(1, "2.2.2")) == []
