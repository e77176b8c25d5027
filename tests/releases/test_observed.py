"""What runs have shown is predicted from then on, each fact with the cell that shows it."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from torchskew.model.outcomes import Kind, Outcome
from torchskew.releases import observed as measured
from torchskew.releases.eras import Situation, predict, release
from torchskew.releases.observed import ROWS, RUN, Row
from torchskew.workflows.inputs import read_scenarios

OK, HANG = Outcome.OK, Outcome.HANG
NAMES = [
    f"{one.name}.{variant.name}" if variant else one.name
    for one in read_scenarios().values()
    for variant in one.variants
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.scenario} {row.first} {row.second}")
def test_a_row_speaks_of_a_scenario_there_is_and_predicts_the_cell_that_shows_it(row: Row) -> None:
    name = next(name for name in NAMES if fnmatchcase(name, row.scenario))
    first, second = row.cell.split(",")
    assert row.speaks_of(name, first, second)
    numbers = tuple(one.number for one in map(release, (first, second)) if one)
    assert len(numbers) == 2
    assert measured.outcomes(name, numbers) == row.outcomes


def test_the_run_that_showed_them_is_named() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", RUN)


@pytest.mark.parametrize(
    ("first", "second", "either", "across"),
    [
        ("<2.14", ">=2.14", False, ("2.13.0,2.14.1",)),
        ("<2.14", ">=2.14", True, ("2.13.0,2.14.1", "2.14.1,2.13.0")),
        ("", "<2.14", False, ("2.13.0,2.13.0", "2.14.1,2.13.0")),
        (">=2.14", ">=2.14", False, ("2.14.1,2.14.1",)),
    ],
)
def test_a_row_holds_for_the_releases_it_names_on_their_ranks(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str, either: bool, across: tuple[str, ...]
) -> None:
    monkeypatch.setattr(measured, "ROWS", (Row("ddp.*", first, second, (OK, HANG), "", either=either),))
    for skew in ("2.13.0,2.13.0", "2.13.0,2.14.1", "2.14.1,2.13.0", "2.14.1,2.14.1"):
        told = predict(Situation(torch=tuple(skew.split(",")), scenario="ddp.hook"))
        assert told == ((OK, HANG) if skew in across else (OK, OK)), skew


def test_a_row_changes_nothing_where_a_sourced_fact_stops_the_pair_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "ROWS", (Row("*", "<2.2", ">=2.2", (HANG, HANG), ""),))
    assert predict(Situation(torch=("2.1.2", "2.2.2"), scenario="ddp.hook")) == (Outcome.TIMEOUT, Outcome.OPAQUE)
    assert predict(Situation(torch=("2.1.2", "2.2.2"), scenario="rng_state", kind=Kind.HANDOVER)) == (HANG, HANG)
    assert predict(Situation(torch=("2.1.2",), scenario="x", kind=Kind.SOLO)) == (OK,)
