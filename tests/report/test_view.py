"""Counts, tables and words are the same for every report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.model.cells import Variant
from torchskew.model.outcomes import Guard, Kind, Outcome, Policy, Verdict
from torchskew.model.results import Checked, Decision, Status
from torchskew.report import view

from tests import factories

OK, CLEAR, OPAQUE, TIMEOUT = Outcome.OK, Outcome.CLEAR, Outcome.OPAQUE, Outcome.TIMEOUT


def held(*results, status=Status.EXPECTED):
    return Decision(
        checked=tuple(Checked(result=result, status=status) for result in results),
        problems=(),
        exit_code=0,
        sentence="as expected",
    )


def tables(*results):
    return view.tables(factories.run(results), held(*results))


def test_planned_is_the_sum_of_the_verdicts():
    for run, decision in (factories.good_run(), factories.bad_run()):
        counts = view.tally(run, decision)
        assert counts.planned == sum(counts.verdicts.values()) == len(run.plan.cells)
        assert counts.verdicts[Verdict.FAIL] == counts.known + counts.regressions


def test_rows_are_the_hosts_versions_and_columns_the_joiners():
    found = [
        factories.result(factories.cell(skew=("a", "b")), OK, OPAQUE),
        factories.result(factories.cell(skew=("b", "a")), TIMEOUT, TIMEOUT),
    ]
    [table] = tables(*found)
    assert (table.corner, table.rows, table.columns) == ("host \\ joiner", ("a", "b"), ("a", "b"))
    assert view.label(table.grid["a", "b"]) == "OK/OPQ"
    assert view.label(table.grid["b", "a"]) == "TIME"


def test_versions_stand_in_the_order_of_the_declaration():
    found = [factories.result(factories.cell(skew=pair), OK, OK) for pair in (("2.6", "2.1"), ("2.1", "2.6"))]
    run = factories.run(found, environments={"2.1": "x", "2.6": "y"})
    [table] = view.tables(run, held(*found))
    assert table.rows == table.columns == ("2.1", "2.6")


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


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ((OK, OK), "OK"),
        ((TIMEOUT, OPAQUE), "TIME/OPQ"),
        ((Outcome.HANG,), "HANG"),
        ((OK,) * 7 + (TIMEOUT,), "OK*7/TIME"),
        ((Outcome.UNSUPPORTED, OK), "N/A/OK"),
    ],
)
def test_outcomes_in_short(outcomes, said):
    assert view.outcome_words(outcomes) == said


def test_cells_without_outcomes_show_their_verdict():
    blocked = factories.result(factories.cell(), verdict=Verdict.BLOCKED)
    assert view.words(blocked) == "blocked"
    assert view.words(factories.result(factories.cell(), Outcome.NOT_RUN, OK)) == "unknown"


def test_success_where_a_refusal_was_promised_does_not_look_like_success():
    cell = replace(factories.cell(), policy=Policy.REFUSE)
    assert view.words(factories.result(cell, OK, OK, verdict=Verdict.FAIL)) == "FAIL:OK"


def test_what_shuts_the_gate_is_marked():
    result = factories.result(factories.cell(), TIMEOUT, OPAQUE)
    assert view.label(Checked(result=result, status=Status.REGRESSION)) == "TIME/OPQ!"
    assert view.label(Checked(result=result, status=Status.KNOWN_FAILURE)) == "TIME/OPQ"


def test_a_surprise_names_the_rank_that_surprised():
    planned = factories.cell(predicted=(OK, OK))
    assert view.observed_words(factories.result(planned, OK, TIMEOUT)) == "TIMEOUT on rank 1"
    assert view.observed_words(factories.result(planned, CLEAR, CLEAR)) == "CLEAR"


def test_worst_comes_first_among_the_unexpected():
    _, decision = factories.bad_run()
    statuses = [item.status for item in view.unexpected(decision)]
    assert statuses == [Status.REGRESSION, Status.UNEXPECTED_PASS, Status.UNKNOWN]


def test_names_of_logs_are_safe_and_never_shared():
    ids = ["a/b,c/guard-off/docker", "a__b,c/guard-off/docker", "a b", "a*b", "x" * 300, "x" * 299 + "y"]
    slugs = [view.slug(each) for each in ids]
    assert len(set(slugs)) == len(ids)
    assert all(len(slug) < 250 and "/" not in slug and " " not in slug for slug in slugs)
    assert slugs[0] == "a__b,c__guard-off__docker"


@pytest.mark.parametrize(("value", "said"), [(0.061, "0.06 s"), (12.34, "12.3 s"), (245.2, "4 min 05 s")])
def test_seconds_as_a_person_reads_them(value, said):
    assert view.seconds(value) == said
