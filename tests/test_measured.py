"""What runs have shown is predicted from then on, each fact with the cell that shows it."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest

from harness import measured
from harness.eras import Situation, predict, release
from harness.measured import ROWS, Row, Way
from harness.model import Kind, Outcome
from harness.scenario import load_all

OK, HANG = Outcome.OK, Outcome.HANG
NAMES = [
    f"{one.name}.{variant.name}" if variant else one.name for one in load_all().values() for variant in one.variants
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.scenario} {row.change}")
def test_a_row_speaks_of_a_scenario_there_is_and_names_the_cell_and_the_run_that_show_it(row: Row) -> None:
    assert any(fnmatchcase(name, row.scenario) for name in NAMES)
    skew, _, run_id = row.cell.partition(" in ")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", run_id)
    numbers = tuple(one.number for one in map(release, skew.split(",")) if one)
    assert len(numbers) == 2
    name = next(name for name in NAMES if fnmatchcase(name, row.scenario))
    assert measured.outcomes(name, numbers) == row.outcomes


@pytest.mark.parametrize(
    ("way", "across"),
    [
        (Way.FIRST_OLDER, ("2.13.0,2.14.1",)),
        (Way.SECOND_OLDER, ("2.14.1,2.13.0",)),
        (Way.EITHER, ("2.13.0,2.14.1", "2.14.1,2.13.0")),
        (Way.ALL_OLDER, ("2.13.0,2.13.0",)),
        (Way.ANY_OLDER, ("2.13.0,2.13.0", "2.13.0,2.14.1", "2.14.1,2.13.0")),
        (Way.NONE_OLDER, ("2.14.1,2.14.1",)),
    ],
)
def test_a_row_holds_for_the_ranks_on_its_sides_of_the_change(
    monkeypatch: pytest.MonkeyPatch, way: Way, across: tuple[str, ...]
) -> None:
    monkeypatch.setattr(measured, "ROWS", (Row("ddp.*", (2, 14), way, (OK, HANG), ""),))
    for skew in ("2.13.0,2.13.0", "2.13.0,2.14.1", "2.14.1,2.13.0", "2.14.1,2.14.1"):
        told = predict(Situation(torch=tuple(skew.split(",")), scenario="ddp.hook"))
        assert told == ((OK, HANG) if skew in across else (OK, OK)), skew


def test_a_row_changes_nothing_where_a_sourced_fact_stops_the_pair_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "ROWS", (Row("*", (2, 2), Way.EITHER, (HANG, HANG), ""),))
    assert predict(Situation(torch=("2.1.2", "2.2.2"), scenario="ddp.hook")) == (Outcome.TIMEOUT, Outcome.OPAQUE)
    assert predict(Situation(torch=("2.1.2", "2.2.2"), scenario="rng_state", kind=Kind.HANDOVER)) == (HANG, HANG)
    assert predict(Situation(torch=("2.1.2",), scenario="x", kind=Kind.SOLO)) == (OK,)
