"""The catalogue keeps to its schema, every known failure belongs to exactly one entry, and the page is its image."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome
from torchskew.releases import observed
from torchskew.releases.bounds import within
from torchskew.releases.breaks import Affected, Break, Side, catalogue_from
from torchskew.report.breaks import page
from torchskew.report.catalogue import FILE, SCHEMA, catalogue

from tests.conftest import ROOT
from tests.releases.sides import of as sides_of

DATA: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
RULES: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
BREAKS = catalogue().breaks
FAILS = {Outcome.WRONG, Outcome.OPAQUE, Outcome.TIMEOUT, Outcome.HANG, Outcome.CRASH}


# Python and NumPy of Debian's suites and of a wheel in docker, measured; of wheels in virtual environments.
SUITES = {"1.7.1": ("3.9", "1.19"), "1.13.1": ("3.11", "1.24"), "2.6.0": ("3.13", "2.2"), "2.14.1": ("3.14", "2.4")}


def sides(cell: str) -> tuple[str, list[Side]]:
    """The scenario of a cell's id, and what each rank runs."""
    parts = CellId(cell)
    found = []
    for release in parts.skew:
        numpy = "1.26" if within(release, "<2.4") or release.endswith("numpy1") else "2.4"
        found.append(
            Side(release, *(SUITES.get(release, ("3.11", "2.4")) if cell.endswith("docker") else ("3.11", numpy)))
        )
    return parts.name, found


def test_the_data_keeps_to_its_schema() -> None:
    """And the schema itself is one."""
    jsonschema.Draft202012Validator.check_schema(RULES)
    jsonschema.validate(DATA, RULES)


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "SKEW-1"), ("surfaces", ["sotre"]), ("guard", "maybe"), ("cells", ["rendezvous_tcp"]), ("cause", "?")],
)
def test_the_schema_refuses_what_breaks_it(field: str, value: object) -> None:
    """One wrong field each."""
    broken = {**DATA, "breaks": [{**DATA["breaks"][0], field: value}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, RULES)


def test_ids_are_unique_and_in_order() -> None:
    """An id names one entry for good."""
    ids = [entry.id for entry in BREAKS]
    assert ids == sorted(set(ids))
    assert len({cause.id for cause in catalogue().others}) == len(catalogue().others)


@pytest.mark.parametrize("entry", BREAKS, ids=lambda entry: entry.id)
def test_the_cells_of_an_entry_show_it_and_no_other(entry: Break) -> None:
    """Each cell that an entry names belongs to exactly that entry."""
    for cell in entry.cells:
        assert [each.id for each in catalogue().of_cell(*sides(cell))] == [entry.id], cell


@pytest.mark.parametrize("each", observed.OBSERVATIONS, ids=lambda each: f"{each.scenario}-{each.cell}")
def test_every_observed_failure_belongs_to_one_entry(each: observed.Observation) -> None:
    """What predictions know to fail is in the catalogue."""
    assert set(each.outcomes) & FAILS
    ranks = [Side(*rank) for rank in sides_of(each)]
    assert len(catalogue().of_cell(each.scenario, ranks)) == 1


def known_failures() -> list[Mapping[str, Any]]:
    """The entries of expectations.toml for single cells of two releases."""
    entries = tomllib.loads((ROOT / "expectations.toml").read_text(encoding="utf-8"))["expect"]
    return [entry for entry in entries if "*" not in entry["cells"] and entry["cells"].count(",") == 1]


@pytest.mark.parametrize("entry", known_failures(), ids=lambda entry: entry["cells"])
def test_every_known_failure_of_the_matrix_belongs_to_one_entry(entry: Mapping[str, Any]) -> None:
    """The default matrix's expectations are explained by the catalogue."""
    assert len(catalogue().of_cell(*sides(entry["cells"]))) == 1


def test_a_python_that_is_not_known_keeps_to_no_bound() -> None:
    """Nothing is blamed on a Python that nobody saw."""
    both = Affected(scenarios=("x",), first="", second="", either=False, python=(">=3.13", "<3.13"))
    assert both.between(Side("2.6.0", "3.13.1"), Side("2.13.0", "3.11.7"))
    assert not both.between(Side("2.6.0", "3.11.7"), Side("2.13.0", "3.13.1"))
    assert not both.between(Side("2.6.0"), Side("2.13.0"))


def test_the_numpy_of_both_ranks_is_a_condition_as_well() -> None:
    """What NumPy 2 wrote is no trouble for NumPy 2."""
    both = Affected(scenarios=("x",), first="", second="", either=False, numpy=(">=2.0", "<2.0"))
    assert both.between(Side("2.6.0", "", "2.4.6"), Side("2.13.0", "", "1.26.4"))
    assert not both.between(Side("2.6.0", "", "2.4.6"), Side("2.13.0", "", "2.0.2"))
    assert not both.between(Side("2.6.0", "", "2.4.6"), Side("2.13.0"))
    assert str(both) == "any release with NumPy 2.0 and later then any release with NumPy before 2.0"


def test_the_page_is_the_catalogue() -> None:
    """`torchskew explain --write docs/breaks.md` writes it again."""
    assert (ROOT / "docs" / "breaks.md").read_text(encoding="utf-8") == page(catalogue())


def test_a_field_that_nobody_knows_is_refused() -> None:
    """The reader is strict."""
    entry = {**DATA["breaks"][0], "remedy": {"now": "x", "lasting": "y", "later": "z"}}
    with pytest.raises(TypeError, match="later"):
        catalogue_from({**DATA, "breaks": [entry]})
