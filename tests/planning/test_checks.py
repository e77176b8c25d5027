"""Checks become cells: which are selected, where each runs, what it waits for, and which environments are one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from torchskew.errors import NothingSelectedError
from torchskew.model.checks import Check
from torchskew.model.outcomes import Kind
from torchskew.model.versions import Grants, Source, SourceKind, Version
from torchskew.planning.checks import Place, PlannedChecks, ordered, plan_checks, requirement_set, select, skip
from torchskew.planning.scenario import Scenario

COMMAND = Scenario(name="command", promise="p", doc="d", source="s", path="", judge=lambda reports, world: {})
PLACE = Place(root="/project", runtime="venv", until="2026-11-28T00:00:00Z")
UNIT = Check(name="unit", command=("pytest",), requires=("pytest", "numpy"))
SMOKE = Check(name="smoke", command="./smoke.sh", run_on=("pre_release",))
NAMED = Check(name="named", command="true", run_on=("explicit",))


def version(name: str, kind: SourceKind = SourceKind.PIP, *requires: str) -> Version:
    release = name if kind is SourceKind.PIP else None
    return Version(name=name, sources=(Source(kind=kind, value=f"torch=={name}", requires=requires),), torch=release)


VERSIONS = {name: version(name) for name in ("2.1.2", "2.6.0")}


def planned(*checks: Check, versions: dict[str, Version] = VERSIONS, place: Place = PLACE) -> PlannedChecks:
    return plan_checks(checks, versions, COMMAND, place)


def test_without_names_the_checks_of_the_default_tag_run() -> None:
    assert select([SMOKE, UNIT, NAMED], [], []) == (UNIT,)


def test_a_named_check_runs_whatever_its_tags_in_the_declared_order() -> None:
    assert select([SMOKE, UNIT, NAMED], ["named", "s*"], []) == (SMOKE, NAMED)


def test_a_tag_narrows_names() -> None:
    assert select([SMOKE, UNIT, NAMED], ["*"], ["pre_release"]) == (SMOKE,)


def test_a_name_without_a_match_is_an_error_with_the_nearest_ones() -> None:
    with pytest.raises(NothingSelectedError, match="no check is called 'unti'. Near: unit."):
        select([SMOKE, UNIT], ["unti", "smoke"], [])


def test_a_tag_on_which_nothing_runs_is_an_error() -> None:
    with pytest.raises(NothingSelectedError, match="no check runs on default. The checks run on: smoke: pre_release"):
        select([SMOKE], [], [])


def test_a_check_is_a_solo_cell_in_each_version() -> None:
    cells = planned(UNIT, SMOKE).cells
    assert [cell.id for cell in cells] == [
        "unit/2.1.2/guard-off/venv",
        "unit/2.6.0/guard-off/venv",
        "smoke/2.1.2/guard-off/venv",
        "smoke/2.6.0/guard-off/venv",
    ]
    assert {cell.kind for cell in cells} == {Kind.SOLO}
    assert [cell.provided for cell in cells[1:3]] == [("2.6.0 + numpy, pytest",), ("2.1.2",)]


@pytest.mark.parametrize("requires", list(permutations(["pytest", "Num_Py", "numpy < 2 , >=1"])))
def test_equal_sets_of_requirements_are_one_environment(requires: tuple[str, ...]) -> None:
    other = Check(name="other", command="true", requires=("numpy>=1,<2", "num-py", "PyTest", "pytest"))
    found = planned(replace(UNIT, requires=requires), other)
    assert {cell.environments[0] for cell in found.cells if cell.skew == ("2.6.0",)} == {
        "2.6.0 + num-py, numpy<2,>=1, pytest"
    }


def test_what_a_version_requires_itself_makes_no_other_environment() -> None:
    found = planned(UNIT, versions={"2.6.0": version("2.6.0", SourceKind.PIP, "pytest", "numpy")})
    assert found.cells[0].provided == ("2.6.0",)


def test_every_environment_that_is_installed_takes_packages_of_one_instant() -> None:
    found = planned(UNIT, SMOKE)
    used = {cell.provided[0] for cell in found.cells}
    assert {found.versions[name].sources[0].until for name in used} == {PLACE.until}
    assert found.versions["2.6.0 + numpy, pytest"].sources[0].requires == ("numpy", "pytest")


def test_into_a_version_that_is_not_made_from_wheels_nothing_is_installed() -> None:
    found = planned(UNIT, versions={"mine": version("mine", SourceKind.INTERPRETER)})
    [cell] = found.cells
    assert cell.provided == ("mine",)
    assert cell.variant.params["present"] == ["numpy", "pytest"]
    assert found.versions["mine"].sources[0].until is None


def test_an_environment_may_use_what_all_its_checks_may() -> None:
    first = Check(name="a", command="true", memory=10**9, processes=10)
    found = planned(first, replace(first, name="b", memory=2 * 10**9, processes=20))
    assert found.versions["2.6.0"].grants == Grants(
        root="/project", memory=(1 << 30) + 3 * 10**9, processes=256 + 30, network=False
    )


def test_a_network_makes_another_environment() -> None:
    found = planned(SMOKE, replace(SMOKE, name="online", network=True))
    assert [cell.provided[0] for cell in found.cells] == ["2.1.2", "2.6.0", "2.1.2 + network", "2.6.0 + network"]
    assert [found.versions[name].grants.network for name in ("2.6.0", "2.6.0 + network")] == [False, True]


def test_more_words_go_to_the_end_of_the_command_and_are_quoted_for_a_shell() -> None:
    place = replace(PLACE, extra=("-k", "a b"))
    cells = planned(UNIT, SMOKE, place=place).cells
    assert cells[0].variant.params["command"] == ["pytest", "-k", "a b"]
    assert cells[2].variant.params["command"] == "./smoke.sh -k 'a b'"


def test_a_check_does_not_run_where_it_does_not_apply_and_says_why() -> None:
    check = replace(UNIT, on_releases=">=2.2")
    assert skip(check, VERSIONS["2.1.2"]) == "unit runs on releases >=2.2, 2.1.2 is 2.1.2"
    assert skip(check, VERSIONS["2.6.0"]) is None
    assert skip(check, version("mine", SourceKind.INTERPRETER)) is None
    assert skip(replace(UNIT, on_versions=("2.1.2",)), VERSIONS["2.6.0"]) == "unit runs on 2.1.2 only"


def test_nothing_waits_unless_a_check_stops_others() -> None:
    checks = (UNIT, SMOKE)
    assert {cell.needs for cell in ordered(planned(*checks).cells, checks, {}, stop=False)} == {()}


def test_a_check_that_stops_others_stops_them_in_its_version() -> None:
    checks = (SMOKE, replace(UNIT, stop_on_fail=True), NAMED)
    cells = ordered(planned(*checks).cells, checks, {}, stop=False)
    assert {cell.id: cell.needs for cell in cells if cell.needs} == {
        "named/2.1.2/guard-off/venv": ("unit/2.1.2/guard-off/venv",),
        "named/2.6.0/guard-off/venv": ("unit/2.6.0/guard-off/venv",),
    }


def test_a_run_that_stops_waits_for_the_cell_before_but_not_for_one_that_is_skipped() -> None:
    cells = planned(UNIT).cells + planned(SMOKE).cells
    skipped = {cells[1].id: "does not apply"}
    found = ordered(cells, (UNIT, SMOKE), skipped, stop=True)
    assert [cell.needs for cell in found] == [(), (), (cells[0].id,), (cells[2].id,)]


def test_a_requirement_has_one_spelling() -> None:
    assert requirement_set(["pytest", "-e /home/me"]) == ("-e /home/me", "pytest")
    assert requirement_set(["Foo.Bar [B_c] >1", "foo-bar[b-c]>1"]) == ("foo-bar[b-c]>1",)
