"""A cell's id is one text that patterns match, and its parts are fields."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchskew.model.cells import Cell, Variant
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Guard

labels = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
versions = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)


@given(labels, st.none() | versions, st.lists(versions, min_size=1, max_size=4).map(tuple), st.sampled_from(Guard))
def test_an_id_gives_back_the_parts_that_made_it(
    scenario: str, variant: str | None, skew: tuple[str, ...], guard: Guard
) -> None:
    made = CellId.parse(str(CellId.of(scenario, skew, "venv", guard=guard, variant=variant)))
    assert (made.scenario, made.variant, made.skew, made.guard, made.runtime) == (
        scenario,
        variant,
        skew,
        guard,
        "venv",
    )


def test_a_cell_derives_its_id_from_its_conditions() -> None:
    cell = Cell(scenario="s", variant=Variant(name="v"), skew=("a", "b"), runtime="docker", guard=Guard.ON)
    assert cell.id == "s.v/a,b/guard-on/docker"
    assert cell.id.name == cell.name == "s.v"


def test_an_id_is_its_text_in_json() -> None:
    assert json.dumps({"id": CellId.of("s", ("a",), "venv")}) == '{"id": "s/a/guard-off/venv"}'


@pytest.mark.parametrize(
    "text", ["", "s", "s/a,b/guard-off", "s/a/off/venv", "/a/guard-off/venv", "s/a/guard-half/venv"]
)
def test_text_of_another_form_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="must be like|not a valid Guard"):
        CellId.parse(text)
