"""A cell's id is one text that patterns match, and its parts are fields."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchskew.model.cells import Cell, Variant
from torchskew.model.ids import CellId, Conditions
from torchskew.model.outcomes import Guard, Placement, Store

labels = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
versions = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)


conditions = st.builds(
    Conditions, guard=st.sampled_from(Guard), store=st.sampled_from(Store), placement=st.sampled_from(Placement)
)


@given(labels, st.none() | versions, st.lists(versions, min_size=1, max_size=4).map(tuple), conditions)
def test_an_id_gives_back_the_parts_that_made_it(
    scenario: str, variant: str | None, skew: tuple[str, ...], condition: Conditions
) -> None:
    name = f"{scenario}.{variant}" if variant else scenario
    made = CellId.parse(str(CellId.of(name, skew, "venv", condition)))
    assert (made.scenario, made.variant, made.skew, made.runtime) == (scenario, variant, skew, "venv")
    assert Conditions(guard=made.guard, store=made.store, placement=made.placement) == condition


def test_a_cell_derives_its_id_from_its_conditions() -> None:
    cell = Cell(scenario="s", variant=Variant(name="v"), skew=("a", "b"), runtime="docker", guard=Guard.ON)
    assert cell.id == "s.v/a,b/guard-on/docker"
    assert cell.id.name == cell.name == "s.v"


def test_only_a_bridge_is_named_in_an_id_so_that_earlier_ids_and_patterns_stay() -> None:
    cell = Cell(scenario="s", skew=("a", "b"), runtime="venv", store=Store.BRIDGE)
    assert cell.id == "s/a,b/guard-off/store-bridge/venv"
    assert replace(cell, store=Store.STOCK).id == "s/a,b/guard-off/venv"
    spread = replace(cell, placement=Placement.SPREAD)
    assert spread.id == "s/a,b/guard-off/store-bridge/placement-spread/venv"
    assert replace(spread, store=Store.STOCK).id == "s/a,b/guard-off/placement-spread/venv"


def test_an_id_is_its_text_in_json() -> None:
    assert json.dumps({"id": CellId.of("s", ("a",), "venv")}) == '{"id": "s/a/guard-off/venv"}'


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "s/a,b/guard-off", "s/a/off/venv", "/a/guard-off/venv", "s/a/guard-half/venv"),
        *("s/a/guard-off/bridge/venv", "s/a/guard-off/store-half/venv", "s/a/guard-off/store-stock/venv"),
        "s/a/guard-off/store-bridge/store-bridge/venv",
        "s/a/guard-off/placement-spread/store-bridge/venv",
        *("s/a/guard-off/placement-together/venv", "s/a/guard-off/placement-apart/venv", "s//guard-off/venv"),
        "s/a/guard-off/store-bridge/placement-spread/more/venv",
    ],
)
def test_text_of_another_form_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="must be like|not a valid"):
        CellId.parse(text)
