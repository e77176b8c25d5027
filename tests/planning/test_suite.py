"""PyTorch's own tests become cells: what every release has runs, what one lacks is said, what all skip is inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from torchskew.errors import ConfigError, NothingSelectedError
from torchskew.model.outcomes import Outcome, Store, Verdict
from torchskew.model.results import CellResult
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.planning.suite import (
    Listing,
    SuitePlan,
    SuiteSpec,
    SuiteTest,
    controls,
    narrowed,
    read_listing,
    skews,
    skipped_alone,
    suite_plan,
)
from torchskew.workflows.inputs import read_scenarios

NAMES = ("2.6.0", "2.13.0", "2.15.0")
GATHER, DDP = SuiteTest(suite="distributed", name="test_gather"), SuiteTest(suite="distributed", name="test_ddp")
ADD = SuiteTest(suite="rpc", name="RpcTest.test_add", ranks=4)
MODULE = SuiteTest(suite="rpc", name="ModuleTest.test_add", ranks=2)


def listing(version: str, *tests: SuiteTest, **lacks: str) -> Listing:
    return Listing(version=version, tests=frozenset(tests), lacks=lacks)


def planned(*listings: Listing, **fields) -> SuitePlan:
    names = tuple(one.version for one in listings)
    versions = {name: Version(name=name, sources=(Source(kind=SourceKind.PIP, value="torch"),)) for name in names}
    spec = SuiteSpec(versions=names, **fields)
    return suite_plan(spec, listings, read_scenarios(), versions, ("venv", 0))


def ids(plan: SuitePlan) -> list[str]:
    return [cell.id for cell in plan.plan.cells]


def test_a_pair_runs_alone_and_in_both_orders_after_its_list_and_its_rendezvous() -> None:
    plan = planned(listing("a", GATHER), listing("b", GATHER))
    pairs = ("a,a", "b,b", "a,b", "b,a")
    lists = ["suite_tests/a/guard-off/venv", "suite_tests/b/guard-off/venv"]
    meet, tests = (
        [f"{name}/{pair}/guard-off/venv" for pair in pairs] for name in ("rendezvous_file", "suite.test_gather")
    )
    assert ids(plan) == [*lists, *meet, *tests]
    assert [cell.needs for cell in plan.plan.cells[-4:]] == [(one,) for one in meet]


def test_a_test_that_a_release_lacks_is_unsupported_and_says_which_release() -> None:
    plan = planned(listing("a", GATHER, DDP), listing("b", GATHER))
    assert {result.cell.skew: result.reason for result in plan.lacking} == dict.fromkeys(
        [("b", "b"), ("a", "b"), ("b", "a")], "b: its suite has no test test_ddp"
    )
    assert all(result.outcomes == (Outcome.UNSUPPORTED,) * 2 for result in plan.lacking)


def test_a_release_whose_suite_does_not_start_says_why() -> None:
    plan = planned(listing("a", GATHER), listing("b", distributed="No module named 'expecttest'"))
    assert {result.reason for result in plan.lacking} == {"b: No module named 'expecttest'"}


def test_a_pattern_without_a_test_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"--tests 'test_gahter' matches none of 2 tests.* Near: test_gather,"):
        planned(listing("a", GATHER, DDP), tests=("test_gahter",))


def test_a_pattern_may_leave_out_the_class() -> None:
    plan = planned(listing("a", ADD, MODULE), suites=("rpc",), tests=("test_add",), world_sizes=(4,))
    assert [cell.name for cell in plan.plan.cells if cell.variant] == ["suite_rpc.RpcTest.test_add"]


def test_a_test_runs_in_the_world_it_is_written_for() -> None:
    plan = planned(listing("a", ADD, MODULE), suites=("rpc",))
    assert [(cell.variant.name, cell.world_size) for cell in plan.plan.cells if cell.variant] == [
        ("ModuleTest.test_add", 2),
        ("RpcTest.test_add", 4),
    ]


def test_a_world_that_no_test_is_written_for_selects_nothing() -> None:
    with pytest.raises(NothingSelectedError, match="--world-size 3: the tests chosen of suite rpc are for 2, 4 ranks"):
        planned(listing("a", ADD, MODULE), suites=("rpc",), world_sizes=(3,))


def test_a_suite_that_no_release_has_selects_nothing_and_says_why() -> None:
    with pytest.raises(NothingSelectedError, match=r"no release has the suite rpc\. a: it is broken"):
        planned(listing("a", GATHER, rpc="it is broken"), suites=("rpc",))


def test_the_odd_release_takes_every_place_of_a_larger_world() -> None:
    spec = SuiteSpec(versions=("a", "b"))
    assert list(skews(spec, 3)) == [
        ("a", "a", "a"), ("b", "b", "b"),
        ("b", "a", "a"), ("a", "b", "a"), ("a", "a", "b"),
        ("a", "b", "b"), ("b", "a", "b"), ("b", "b", "a"),
    ]  # fmt: skip


def test_neighbours_also_meet_the_last() -> None:
    mixed = [
        skew for skew in skews(SuiteSpec(versions=("a", "b", "c", "d"), pairs="neighbours"), 2) if len(set(skew)) > 1
    ]
    assert mixed == [
        ("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "c"),
        ("a", "d"), ("d", "a"), ("b", "d"), ("d", "b"),
    ]  # fmt: skip


def test_a_test_at_a_bridge_has_its_controls_there() -> None:
    plan = planned(listing("a", GATHER), listing("b", GATHER), stores=(Store.STOCK, Store.BRIDGE))
    mixed = {cell.id: cell for cell in plan.plan.cells if cell.variant and len(set(cell.skew)) > 1}
    assert {cell.store for cell in mixed.values()} == {Store.STOCK, Store.BRIDGE}
    held = {cell.id: cell for cell in plan.plan.cells}
    found = controls(plan.plan.cells)
    for cell in mixed.values():
        assert [held[one].store for one in found[cell.id]] == [cell.store] * 2


def test_a_suite_that_meets_over_a_file_alone_has_no_bridge() -> None:
    with pytest.raises(NothingSelectedError, match="suite rpc can't meet at a bridge"):
        planned(listing("a", MODULE), suites=("rpc",), stores=(Store.BRIDGE,))


def result(plan: SuitePlan, cell_id: str, verdict: Verdict, reason: str = "") -> CellResult:
    cell = next(cell for cell in plan.plan.cells if cell.id == cell_id)
    return CellResult(cell=cell, verdict=verdict, outcomes=(), reason=reason)


def inferred(plan: SuitePlan, verdicts: Sequence[Verdict]) -> list[CellResult]:
    cells = [f"suite.test_gather/{pair}/guard-off/venv" for pair in ("a,a", "b,b")]
    known = {cell: result(plan, cell, verdict, "no GPU") for cell, verdict in zip(cells, verdicts, strict=True)}
    return list(skipped_alone(plan.plan.cells, known))


def test_what_a_release_skips_alone_is_skipped_mixed_without_running() -> None:
    plan = planned(listing("a", GATHER), listing("b", GATHER))
    found = inferred(plan, [Verdict.UNSUPPORTED, Verdict.UNSUPPORTED])
    assert [one.cell.skew for one in found] == [("a", "b"), ("b", "a")]
    assert {one.reason for one in found} == {"no GPU"}
    assert all(one.inferred_from == controls(plan.plan.cells)[one.cell.id] for one in found)
    one = inferred(plan, [Verdict.PASS, Verdict.UNSUPPORTED])  # the other rank would wait for the one that skips
    assert [(each.cell.skew, each.reason) for each in one] == [(("a", "b"), "no GPU"), (("b", "a"), "no GPU")]
    assert inferred(plan, [Verdict.FAIL, Verdict.PASS]) == []


def test_narrowed_cells_bring_their_controls_and_what_they_need() -> None:
    plan = narrowed(planned(listing("a", GATHER, DDP), listing("b", GATHER, DDP)), ["suite.test_ddp/a,b/*"])
    assert ids(plan) == [
        *(f"rendezvous_file/{pair}/guard-off/venv" for pair in ("a,a", "b,b", "a,b")),
        *(f"suite.test_ddp/{pair}/guard-off/venv" for pair in ("a,a", "b,b", "a,b")),
    ]
    with pytest.raises(NothingSelectedError, match="--only 'nothing' matches none"):
        narrowed(plan, ["nothing"])


def test_what_a_release_reports_is_read_or_refused() -> None:
    report = {"tests": [["distributed", "test_gather", 0], ["rpc", "RpcTest.test_add", 4]], "lacks": {}}
    assert read_listing("a", report) == listing("a", GATHER, ADD)
    for broken in ({}, {"tests": "all", "lacks": {}}, {"tests": [["distributed", "test_gather"]], "lacks": {}}):
        with pytest.raises(ConfigError, match="its list of tests can't be read"):
            read_listing("a", broken)


def test_the_gate_runs_tests_that_need_no_list() -> None:
    scenario = read_scenarios()["suite"]
    names = [variant.name for variant in scenario.variants if variant]
    assert len(names) == len(set(names)) > 90
    assert replace(scenario, variants=()).tiers == ("full",)
