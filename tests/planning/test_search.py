"""A plan of all pairs is answered by bisection: scenario by scenario, what others block is never run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import MatrixSpec
from torchskew.model.outcomes import Outcome, Store, Verdict
from torchskew.model.results import CellResult
from torchskew.model.runs import Run, RunInfo, RunKind
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.planning.plan import make_plan
from torchskew.planning.replay import replayed
from torchskew.planning.search import inferred, rounds, tables, wanted
from torchskew.workflows.inputs import read_scenarios

NAMES = ("2.0.1", "2.1.2", "2.2.2", "2.3.1", "2.4.1", "2.5.1", "2.6.0", "2.13.0")
VERSIONS = {
    name: Version(name=name, sources=(Source(kind=SourceKind.PIP, value=f"torch=={name}"),), torch=name)
    for name in NAMES
}
World = Callable[[Cell], CellResult]


def planned(*scenarios: str, sizes: tuple[int, ...] = (2,)) -> Plan:
    spec = MatrixSpec(versions=NAMES, scenarios=scenarios, world_sizes=sizes)
    return make_plan(spec, VERSIONS, read_scenarios(), "venv")


def test_cells_at_a_bridge_are_tables_of_their_own() -> None:
    spec = MatrixSpec(versions=NAMES, scenarios=("rendezvous_tcp",), store=tuple(Store))
    cells = make_plan(spec, VERSIONS, read_scenarios(), "venv").cells
    stores = [{cell.store for cell in table.cells.values()} for table in tables(cells, NAMES)]
    assert stores == [{Store.STOCK}, {Store.BRIDGE}]
    assert sum(len(table.cells) for table in tables(cells, NAMES)) == len(cells)


def passes(cell: Cell) -> CellResult:
    return CellResult(cell=cell, verdict=Verdict.PASS, outcomes=(Outcome.OK,) * cell.world_size, reason="right")


def fails(cell: Cell, outcome: Outcome = Outcome.TIMEOUT) -> CellResult:
    return CellResult(cell=cell, verdict=Verdict.FAIL, outcomes=(outcome,) * cell.world_size, reason="wrong")


def divided(cell: Cell) -> CellResult:
    """Nothing meets across 2.2; everything else is right."""
    sides = {NAMES.index(name) < 2 for name in cell.skew}
    return passes(cell) if len(sides) == 1 else fails(cell)


def searched(plan: Plan, world: World) -> tuple[dict[str, CellResult], list[str]]:
    """Everything that is known in the end, and what ran for it."""
    known: dict[str, CellResult] = {}
    ran: list[str] = []
    for asked in rounds(plan.cells, tables(plan.cells, NAMES), known, lambda one: known.update({one.cell.id: one})):
        known.update({cell.id: world(cell) for cell in asked})
        ran += [cell.id for cell in asked]
    return known, ran


def test_every_planned_cell_has_a_result_in_the_end_and_few_of_them_ran() -> None:
    plan = planned("rendezvous_tcp", "broadcast", "rng_state", "import_smoke")
    known, ran = searched(plan, divided)
    assert known.keys() == {cell.id for cell in plan.cells}
    assert len(ran) == len(set(ran)) < len(plan.cells) / 2
    assert all(known[cell.id].verdict is divided(cell).verdict for cell in plan.cells if cell.scenario != "broadcast")
    assert {f"import_smoke.core/{name}/guard-off/venv" for name in NAMES} <= set(ran)


def test_what_a_failed_rendezvous_blocks_is_not_run_even_where_the_failure_was_inferred() -> None:
    known, ran = searched(planned("rendezvous_tcp", "broadcast"), divided)
    across = [one for one in known.values() if one.cell.scenario == "broadcast" and divided(one.cell).verdict != "PASS"]
    assert {one.verdict for one in across} == {Verdict.BLOCKED}
    assert not {one.cell.id for one in across} & set(ran)
    assert any(known[str(one.blocked_by)].inferred_from for one in across)


def test_a_table_waits_until_the_one_it_needs_is_known() -> None:
    plan = planned("rendezvous_tcp", "broadcast")
    asked = wanted(plan.cells, tables(plan.cells, NAMES), {})
    assert {cell.scenario for cell in asked} == {"rendezvous_tcp"}
    assert {cell.skew for cell in asked} == {(name, name) for name in NAMES}


def test_an_inferred_result_names_the_cells_it_follows_from_and_is_no_surprise() -> None:
    known, ran = searched(planned("rendezvous_file"), divided)
    follows = [one for one in known.values() if one.inferred_from]
    assert follows
    for one in follows:
        assert set(one.inferred_from) <= set(ran)
        assert {known[each].verdict for each in one.inferred_from} == {one.verdict}
        assert one.reason.startswith("not run, inferred: ")
        assert not one.surprising
        assert not one.key


def test_worlds_of_three_are_searched_by_where_the_odd_rank_is() -> None:
    plan = planned("rendezvous_file", sizes=(2, 3))
    assert [len(table.cells) for table in tables(plan.cells, NAMES)] == [64] * 4
    known, ran = searched(plan, divided)
    assert known.keys() == {cell.id for cell in plan.cells}
    assert all(known[cell.id].verdict is divided(cell).verdict for cell in plan.cells)
    assert len(ran) < len(plan.cells) / 2


def test_a_world_that_fits_no_table_is_run() -> None:
    plan = planned("rendezvous_file")
    strange = replace(plan.cells[0], skew=("2.0.1", "2.1.2", "2.2.2"))
    assert strange in wanted([*plan.cells, strange], tables([*plan.cells, strange], NAMES), {})


def test_the_order_is_of_releases_whatever_the_declaration_says() -> None:
    plan = planned("rendezvous_file")
    table = tables(plan.cells, tuple(reversed(NAMES)))[0]
    assert table.cells[0, 1].skew == ("2.13.0", "2.6.0")


def test_nothing_is_inferred_before_a_table_has_nothing_left_to_run() -> None:
    plan = planned("rendezvous_file")
    known = {cell.id: passes(cell) for cell in plan.cells if len(set(cell.skew)) == 1}
    assert list(inferred(tables(plan.cells, NAMES), known)) == []


def recorded(plan: Plan, world: World) -> Run:
    info = RunInfo(
        run_id="r",
        kind=RunKind.MATRIX,
        command="",
        seed=0,
        torchskew="0",
        runtime="venv",
        runtime_why="",
        plan_digest="",
        started="",
    )
    return Run(info=info, plan=plan, results=tuple(map(world, plan.cells)))


def test_a_recorded_run_is_answered_again_the_same() -> None:
    replay = replayed(recorded(planned("rendezvous_file", "rng_state"), divided), NAMES)
    assert replay.different == ()
    assert replay.rounds > 1


def test_an_inference_that_the_recorded_run_denies_is_named() -> None:
    """A pair in the middle of two eras that only a full run can see."""
    odd = ("2.2.2", "2.4.1")

    def world(cell: Cell) -> CellResult:
        return fails(cell, Outcome.WRONG) if cell.skew == odd else passes(cell)

    replay = replayed(recorded(planned("rendezvous_file"), world), NAMES)
    assert [(one.cell.skew, seen.outcomes) for one, seen in replay.different] == [(odd, (Outcome.WRONG,) * 2)]


@pytest.mark.parametrize("pair", list(product(NAMES[:2], repeat=2)))
def test_a_pair_that_the_plan_does_not_hold_is_never_asked_for(pair: tuple[str, str]) -> None:
    plan = planned("rendezvous_file")
    cells = [cell for cell in plan.cells if cell.skew != pair]
    known: dict[str, CellResult] = {}
    for asked in rounds(cells, tables(cells, NAMES), known, lambda one: known.update({one.cell.id: one})):
        known.update({cell.id: divided(cell) for cell in asked})
    assert known.keys() == {cell.id for cell in cells}
