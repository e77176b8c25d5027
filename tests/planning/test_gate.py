"""A gate's plan: the candidate in both orders with each release, controls, worlds of three, tiers, a base beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.declaration.candidate import read_candidate
from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.errors import NothingSelectedError
from torchskew.judging.decide import stale
from torchskew.model.cells import Plan
from torchskew.model.declared import MatrixSpec
from torchskew.model.outcomes import Guard, Kind, Store, Tier
from torchskew.model.runtimes import RUNTIMES, provides
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.planning.gate import GateSpec, bases, controls, gate_plan, is_control, of_tier
from torchskew.planning.plan import make_plan
from torchskew.planning.scenario import Scenario
from torchskew.workflows.inputs import read_baseline, read_declaration, read_scenarios

from tests.conftest import ROOT

PIP = (Source(kind=SourceKind.PIP, value="torch"),)
VERSIONS = {name: Version(name=name, sources=PIP) for name in ("candidate", "base", "2.13.0", "2.14.1")}
MEET = Scenario(name="meet", promise="p", doc="d", source="", path="", judge=lambda reports, world: {})
SCENARIOS = {
    "files": replace(MEET, name="files", kind=Kind.HANDOVER, world=(2, 2), tiers=("critical",)),
    "keys": replace(MEET, name="keys", kind=Kind.SOLO, world=(1, 1), tiers=("smoke", "critical")),
    "meet": MEET,
    "reduce": replace(MEET, name="reduce", after=("meet",), tiers=("smoke", "critical")),
}
SPEC = GateSpec(against=("2.13.0", "2.14.1"))


def planned(spec: GateSpec = SPEC) -> Plan:
    return gate_plan(spec, VERSIONS, SCENARIOS, "venv", 0)


def skews(plan: Plan, scenario: str) -> list[tuple[str, ...]]:
    return [cell.skew for cell in plan.cells if cell.scenario == scenario]


def test_the_candidate_meets_each_release_in_both_orders_and_in_worlds_of_three() -> None:
    found = skews(planned(), "meet")
    for release in SPEC.against:
        pairs = [("candidate", release), (release, "candidate")]
        threes = [("candidate", release, release), (release, release, "candidate")]
        assert {*pairs, *threes, (release,) * 2, (release,) * 3} <= set(found)
    assert ("candidate", "candidate") in found
    assert ("2.13.0", "2.14.1") not in found


def test_the_candidate_and_each_release_run_alone() -> None:
    assert skews(planned(), "keys") == [("candidate",), ("2.13.0",), ("2.14.1",)]


def test_a_handover_goes_both_ways() -> None:
    assert {("candidate", "2.13.0"), ("2.13.0", "candidate")} <= set(skews(planned(), "files"))


def test_what_judges_an_upgrade_runs_with_a_release_first_and_the_candidate_second_only() -> None:
    scenarios = {**SCENARIOS, "speed": replace(SCENARIOS["files"], name="speed", upgrade=True)}
    plan = gate_plan(replace(SPEC, base=True), VERSIONS, scenarios, "venv", 0)
    subjects = ("candidate", "base")
    assert skews(plan, "speed") == [(release, subject) for release in SPEC.against for subject in subjects]
    assert skews(plan, "files") == skews(planned(replace(SPEC, base=True)), "files")
    assert len(bases(plan.cells)) == len([cell for cell in plan.cells if "candidate" in cell.skew])
    with pytest.raises(NothingSelectedError, match="speed judges a release and then the candidate. Add --against"):
        gate_plan(replace(SPEC, against=()), VERSIONS, {"speed": scenarios["speed"]}, "venv", 0)


def test_a_candidate_without_a_build_is_tried_in_what_needs_none() -> None:
    tree = Version(name="candidate", sources=(Source(kind=SourceKind.SOURCE, value="/src"),))
    versions = {**VERSIONS, "candidate": tree}
    scenarios = {**SCENARIOS, "imports": replace(SCENARIOS["keys"], name="imports", build=False)}
    plan = gate_plan(SPEC, versions, scenarios, "venv", 0)
    assert {(cell.scenario, cell.skew) for cell in plan.cells} == {
        ("imports", (name,)) for name in ("candidate", *SPEC.against)
    }
    scenarios["whole"] = replace(scenarios["imports"], name="whole", tiers=("critical",))
    smoke = gate_plan(replace(SPEC, tier=Tier.SMOKE), versions, scenarios, "venv", 0)
    assert {cell.scenario for cell in smoke.cells} == {"imports", "whole"}
    with pytest.raises(NothingSelectedError):
        gate_plan(SPEC, versions, SCENARIOS, "venv", 0)
    with pytest.raises(
        NothingSelectedError, match="candidate: a source tree, in which only scenarios with BUILD = False"
    ):
        make_plan(MatrixSpec(versions=("candidate",)), versions, SCENARIOS, "venv")
    mixed = make_plan(MatrixSpec(versions=("candidate", "2.13.0")), versions, scenarios, "venv")
    assert {cell.skew for cell in mixed.cells if "candidate" in cell.skew} == {("candidate",)}
    assert ("2.13.0", "2.13.0") in {cell.skew for cell in mixed.cells}


def test_a_tier_holds_its_scenarios_and_what_they_need() -> None:
    assert set(of_tier(SCENARIOS, Tier.SMOKE)) == {"keys", "meet", "reduce"}
    assert set(of_tier(SCENARIOS, Tier.CRITICAL)) == {"files", "keys", "meet", "reduce"}
    assert of_tier(SCENARIOS, Tier.FULL) is SCENARIOS


def test_the_smoke_tier_has_no_worlds_of_three() -> None:
    smoke = planned(replace(SPEC, tier=Tier.SMOKE))
    assert max(cell.world_size for cell in smoke.cells) == 2


def test_a_tier_without_scenarios_is_nothing_selected() -> None:
    with pytest.raises(NothingSelectedError, match="no scenario is in tier smoke"):
        gate_plan(replace(SPEC, tier=Tier.SMOKE), VERSIONS, {"meet": MEET}, "venv", 0)


def test_every_mixed_cell_leans_on_the_control_of_its_release_and_size() -> None:
    plan = planned()
    leans = controls(plan.cells)
    assert leans["meet/candidate,2.13.0/guard-off/venv"] == ("meet/2.13.0,2.13.0/guard-off/venv",)
    assert leans["meet/2.14.1,2.14.1,candidate/guard-off/venv"] == ("meet/2.14.1,2.14.1,2.14.1/guard-off/venv",)
    assert leans["meet/candidate,candidate/guard-off/venv"] == ()
    assert set(leans) == {cell.id for cell in plan.cells if not is_control(cell)}


def test_at_a_bridge_each_group_has_a_control_at_a_bridge() -> None:
    at_both = {**SCENARIOS, "meet": replace(MEET, stores=tuple(Store))}
    plan = gate_plan(replace(SPEC, store=tuple(Store)), VERSIONS, at_both, "venv", 0)
    bridged = {cell.id for cell in plan.cells if cell.store is Store.BRIDGE}
    leans = controls(plan.cells)
    assert leans["meet/candidate,2.13.0/guard-off/store-bridge/venv"] == (
        "meet/2.13.0,2.13.0/guard-off/store-bridge/venv",
    )
    assert {scenario for cell in plan.cells if cell.id in bridged for scenario in [cell.scenario]} == {"meet"}
    assert len(plan.cells) == len(planned().cells) + len(bridged)


def test_the_base_runs_beside_the_candidate_cell_by_cell() -> None:
    plan = planned(replace(SPEC, base=True))
    order = [cell.id for cell in plan.cells]
    twins = bases(plan.cells)
    mixed = [cell for cell in plan.cells if "candidate" in cell.skew]
    assert len(twins) == len(mixed)
    for cell in mixed:
        assert twins[cell.id] == cell.id.replace("candidate", "base")
        assert abs(order.index(cell.id) - order.index(twins[cell.id])) == 1


@pytest.mark.slow
def test_the_committed_baseline_speaks_of_cells_that_there_are_and_gives_each_entry_a_link() -> None:
    declaration = read_declaration(ROOT / "torchskew.toml")
    problems = Problems("baseline.toml")
    entries = read_baseline(ROOT / "baseline.toml")
    usable = {name: v for name, v in declaration.versions.items() if provides(RUNTIMES["venv"], v)}
    versions = {name: for_runtime(version, "venv", problems) for name, version in usable.items()}
    spec = GateSpec(against=tuple(versions), guard=(Guard.OFF, Guard.ON))
    plan = gate_plan(spec, {**versions, "candidate": read_candidate("pip:torch==2.15.0")}, read_scenarios(), "venv", 0)
    assert (problems.texts, stale(entries, plan.cells, "venv")) == ([], [])
    assert [entry.cells for entry in entries if not (entry.link or "").startswith("https://")] == []
