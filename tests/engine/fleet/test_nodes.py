"""Which node gets a cell: the least full that has its versions, and of equals the one whose agents are warm."""

from __future__ import annotations

from torchskew.engine.fleet.messages import Order
from torchskew.engine.fleet.nodes import Need, Node, Placing
from torchskew.model.cells import Cell, Variant

from tests.engine.fleet.desk import cell, node

BOTH = Need.of(cell(), alone=False)
ALONE = Need.of(cell(), alone=True)


def nodes(count: int = 2, slots: int = 2) -> list[Node]:
    names = frozenset({"1.0.0", "2.0.0"})
    return [Node(facts=node(str(n)), slots=slots, ready=True, versions=names) for n in range(count)]


def given(number: int) -> Cell:
    return cell(variant=Variant(name=str(number)))


def give(among: list[Node], need: Need, number: int) -> str | None:
    chosen = Placing(among).give(Order(cell=given(number)), need, 0.0)
    return chosen and chosen.facts.name


def test_a_node_is_filled_before_the_next_one_starts_agents_and_a_full_one_gets_nothing() -> None:
    among = nodes()
    assert [give(among, BOTH, number) for number in range(5)] == ["0", "0", "1", "1", None]


def test_a_cell_that_waits_or_ends_gives_its_slot_back_once() -> None:
    (only,) = nodes(1, slots=1)
    assert give([only], BOTH, 0) == "0"
    assert only.waits(given(0).id)
    assert not only.waits(given(0).id)
    assert give([only], BOTH, 1) == "0"
    assert only.drop(given(0).id) is not None
    assert only.drop(given(0).id) is None
    assert only.working == 1


def test_a_node_without_a_version_or_not_yet_ready_gets_nothing() -> None:
    lacking, unready = nodes(2)
    lacking.versions = frozenset({"1.0.0"})
    unready.ready = False
    assert give([lacking, unready], BOTH, 0) is None


def test_a_cell_that_measures_waits_for_one_node_to_empty_which_gets_no_other_cell() -> None:
    among = nodes(2, slots=2)
    for number in range(3):
        give(among, BOTH, number)
    assert give(among, ALONE, 10) is None
    assert among[1].kept == ALONE  # it has least to end
    assert give(among, BOTH, 3) is None
    among[1].drop(given(2).id)
    assert give(among, ALONE, 10) == "1"
    assert (among[1].working, among[1].kept) == (2, None)
    assert give(among, BOTH, 4) is None
    among[1].drop(given(10).id)
    assert give(among, BOTH, 4) == "1"


def test_no_node_holds_more_cells_than_its_processors_can_end_in_time() -> None:
    (only,) = nodes(1, slots=1)
    for number in range(48):
        assert give([only], BOTH, number) == "0"
        only.waits(given(number).id)
    assert give([only], BOTH, 48) is None


def test_one_pass_places_as_several_do() -> None:
    among, again = nodes(3), nodes(3)
    placing = Placing(among)
    assert placing.room == 6
    once = [placing.give(Order(cell=given(number)), BOTH, 0.0) for number in range(7)]
    assert [each and each.facts.name for each in once] == [give(again, BOTH, number) for number in range(7)]
    assert placing.room == 0
