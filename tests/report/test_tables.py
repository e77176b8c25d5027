"""Cells are laid out in tables as the plan orders them, whatever came from the cache."""

from __future__ import annotations

from dataclasses import replace

from torchskew.model.cells import Variant
from torchskew.model.outcomes import Guard, Kind, Outcome, Placement, Store
from torchskew.model.results import Checked, Decision, Status
from torchskew.report import tables as module
from torchskew.report import view
from torchskew.report.text import head

from tests import factories

OK, OPAQUE, TIMEOUT = Outcome.OK, Outcome.OPAQUE, Outcome.TIMEOUT


def held(*results, status=Status.EXPECTED):
    return Decision(
        checked=tuple(Checked(result=result, status=status) for result in results),
        problems=(),
        exit_code=0,
        sentence="as expected",
    )


def tables(*results):
    return module.tables(factories.run(results), held(*results))


def test_rows_are_the_hosts_versions_and_columns_the_joiners():
    found = [
        factories.result(factories.cell(skew=("a", "b")), OK, OPAQUE),
        factories.result(factories.cell(skew=("b", "a")), TIMEOUT, TIMEOUT),
    ]
    [table] = tables(*found)
    assert (table.corner, table.rows, table.columns) == ("host \\ joiner", ("a", "b"), ("a", "b"))
    assert view.label(table.grid["a", "b"]) == "OK/OPQ"
    assert view.label(table.grid["b", "a"]) == "TIME"


def test_versions_are_in_the_plans_order_whatever_was_made_or_cached_first():
    pairs = (("2.1", "2.1"), ("2.6", "2.1"), ("2.1", "2.6"), ("2.6", "2.2"))
    found = [factories.result(factories.cell(skew=pair), OK, OK) for pair in pairs]
    run = factories.run(found, environments={"2.6": "y", "beside": "z", "2.1": "x"})
    [table] = module.tables(run, held(*found))
    assert table.rows == ("2.1", "2.6")
    assert table.columns == ("2.1", "2.6", "2.2")
    assert [*module.environments(run)] == ["2.1", "2.6", "beside"]
    assert "versions   2.1 x · 2.6 y · beside z\n" in head(run)


def test_guarded_cells_stand_in_a_table_of_their_own_beside_it():
    found = [
        factories.result(factories.cell(scenario, guard=guard), OK, OK)
        for guard in (Guard.OFF, Guard.ON)
        for scenario in ("rendezvous_tcp", "barrier")
    ]
    assert [table.title for table in tables(*found)] == [
        "rendezvous_tcp · guard off",
        "rendezvous_tcp · guard on",
        "barrier · guard off",
        "barrier · guard on",
    ]


def test_cells_at_a_bridge_stand_in_a_table_of_their_own_beside_it():
    found = [factories.result(factories.cell("barrier", store=store), OK, OK) for store in Store]
    assert [table.title for table in tables(*found)] == ["barrier · guard off", "barrier · guard off · store bridge"]


def test_cells_of_spread_ranks_have_a_table_of_their_own():
    found = [factories.result(factories.cell(placement=placement), OK, OK) for placement in Placement]
    titles = [table.title for table in tables(*found)]
    assert titles == ["all_reduce · guard off", "all_reduce · guard off · ranks spread"]


def test_a_fault_makes_a_condition_of_its_own():
    cell = replace(factories.cell(), fault="kill")
    assert tables(factories.result(cell, OK, OK))[0].title == "all_reduce · guard off · fault kill"


def test_scenarios_that_never_mix_have_their_variants_as_rows():
    found = [
        factories.result(factories.cell("env_skew", (one, one), variant=Variant(name=name)), OK, OK)
        for name in ("lazy", "detail")
        for one in ("a", "b")
    ]
    [table] = tables(*found)
    assert (table.corner, table.rows, table.columns) == ("variant", ("lazy", "detail"), ("a", "b"))


def test_a_scenario_of_one_rank_has_one_row():
    [table] = tables(factories.result(factories.cell("import_smoke", ("a",), kind=Kind.SOLO), OK))
    assert (table.corner, table.rows, table.columns) == ("", ("alone",), ("a",))


def test_a_handover_names_writer_and_reader():
    [table] = tables(factories.result(factories.cell(kind=Kind.HANDOVER), OK, OK))
    assert table.corner == "writer \\ reader"


def test_wide_worlds_stand_below_the_table():
    wide = factories.result(factories.cell(skew=("a", "a", "b")), OK, OK, OK)
    [table] = tables(factories.result(factories.cell(skew=("a", "b")), OK, OK), wide)
    assert [item.result for item in table.wide] == [wide]
    assert table.rows == ("a",)
