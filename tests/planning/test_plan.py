"""The plan is pure: same input, same cells; patterns that match nothing are errors."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchskew.errors import ConfigError, NothingSelectedError
from torchskew.model.cells import Cell
from torchskew.model.declared import MatrixSpec
from torchskew.model.outcomes import Guard, Kind, Outcome, Placement, Store
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.planning.plan import (
    deadline,
    make_plan,
    narrow,
    oldest_first,
    placements_of,
    predicted,
    skews,
    without_bridge,
    without_spread,
)
from torchskew.workflows.inputs import read_scenarios

from tests.conftest import ROOT

NAMES = ("1.13.1", "2.1.2", "2.2.2", "2.6.0", "2.13.0")
PIP = (Source(kind=SourceKind.PIP, value="torch"),)


def versions(*names: str) -> dict[str, Version]:
    return {name: Version(name=name, sources=PIP, torch=name) for name in names or NAMES}


def spec(**fields: object) -> MatrixSpec:
    return MatrixSpec(**{"versions": NAMES, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("page", ["pytest.md", "results.md"])
@pytest.mark.parametrize("timeout", [2.0, 10.0])
def test_a_page_says_how_long_a_hang_is_waited_for_as_the_code_does(page: str, timeout: float) -> None:
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    (seconds,) = re.findall(r"twice the timeout plus (\d+) seconds", text)
    cell = Cell(scenario="s", skew=("a",), runtime="venv", timeout=timeout)
    assert deadline(cell) == 2 * timeout + int(seconds)


def test_all_pairs_are_ordered_and_hold_each_version_with_itself() -> None:
    pairs = [skew for skew in skews(spec()) if len(skew) == 2]
    assert len(pairs) == len(set(pairs)) == len(NAMES) ** 2
    assert ("2.1.2", "2.2.2") in pairs
    assert ("2.2.2", "2.1.2") in pairs


def test_a_world_of_three_has_the_odd_rank_at_every_position() -> None:
    threes = skews(spec(versions=("a", "b"), world_sizes=(3,)))
    assert {skew for skew in threes if len(skew) == 3} == {
        ("a", "a", "a"), ("b", "b", "b"),
        ("b", "a", "a"), ("a", "b", "a"), ("a", "a", "b"),
        ("a", "b", "b"), ("b", "a", "b"), ("b", "b", "a"),
    }  # fmt: skip


def test_listed_skews_are_taken_as_they_stand() -> None:
    listed = (("2.1.2", "2.2.2"), ("2.6.0", "2.6.0", "2.2.2", "2.1.2"))
    assert [skew for skew in skews(spec(pairs=listed)) if len(skew) > 1] == list(listed)


def test_worlds_come_besides_the_pairs() -> None:
    listed = (("2.1.2", "2.2.2", "2.6.0"),)
    assert skews(spec(worlds=listed)) == [*skews(spec()), *listed]


def test_boundary_plans_every_pair_because_only_running_tells_which_follow() -> None:
    assert skews(spec(pairs="boundary")) == skews(spec())


def test_the_order_for_a_bisection_is_by_release_and_a_version_without_one_is_refused_by_name() -> None:
    assert oldest_first(versions("2.13.0", "2.2.2", "1.13.1")) == ("1.13.1", "2.2.2", "2.13.0")
    unknown = {**versions("2.6.0"), "site": Version(name="site", sources=PIP)}
    with pytest.raises(ConfigError, match=r"release of site.*torch = "):
        oldest_first(unknown)


def test_every_cell_of_a_known_release_is_predicted_for_every_rank() -> None:
    plan = make_plan(spec(world_sizes=(2, 3)), versions(), read_scenarios(), "venv")
    unpredicted = {cell.scenario for cell in plan.cells if len(cell.predicted) != cell.world_size}
    # Where chance decides, and where the oracle is PyTorch's own: the table of eras says nothing of such tests.
    assert unpredicted <= {"env_skew", "suite", "suite_rpc"}


def test_a_cell_needs_only_cells_of_its_own_plan() -> None:
    plan = make_plan(spec(), versions(), read_scenarios(), "venv")
    ids = {cell.id for cell in plan.cells}
    assert all(need in ids for cell in plan.cells for need in cell.needs)
    one = narrow(plan, ["barrier/2.6.0,2.6.0/*"])
    assert [cell.needs for cell in one.cells] == [() for _ in one.cells]


def test_a_bridge_is_a_condition_of_groups_that_can_meet_at_it() -> None:
    both = make_plan(spec(store=tuple(Store), guard=(Guard.OFF, Guard.ON)), versions(), read_scenarios(), "venv")
    stock = make_plan(spec(guard=(Guard.OFF, Guard.ON)), versions(), read_scenarios(), "venv")
    bridged = [cell for cell in both.cells if cell.store is Store.BRIDGE]
    assert [cell for cell in both.cells if cell.store is Store.STOCK] == list(stock.cells)
    assert {(cell.kind, cell.guard) for cell in bridged} == {(Kind.GROUP, Guard.OFF)}
    assert {need.store for cell in bridged for need in cell.needs} == {Store.BRIDGE}
    meet_elsewhere = {"env_skew", "guard_probe", "rendezvous_file", "suite_rpc", "torchrun", "torchrun_worker"}
    names = {cell.scenario for cell in bridged}
    assert {"all_reduce", "rendezvous_tcp", "rpc", "split_group", "store_operations"} <= names
    assert not names & meet_elsewhere
    assert meet_elsewhere <= set(without_bridge(tuple(Store), ["*"], read_scenarios()))
    assert not names & set(without_bridge(tuple(Store), ["*"], read_scenarios()))
    assert without_bridge([Store.STOCK], ["*"], read_scenarios()) == ()


def test_ranks_are_spread_only_in_groups_that_need_nothing_of_one_machine() -> None:
    both = make_plan(spec(placement=tuple(Placement), store=tuple(Store)), versions(), read_scenarios(), "venv")
    together = make_plan(spec(store=tuple(Store)), versions(), read_scenarios(), "venv")
    spread = [cell for cell in both.cells if cell.placement is Placement.SPREAD]
    assert [cell for cell in both.cells if cell.placement is Placement.TOGETHER] == list(together.cells)
    assert {cell.kind for cell in spread} == {Kind.GROUP}
    assert {need.placement for cell in spread for need in cell.needs} == {Placement.SPREAD}
    assert {cell.store for cell in spread} == set(Store)
    names = {cell.scenario for cell in spread}
    assert {"all_reduce", "rendezvous_tcp", "ddp", "new_group"} <= names
    left = without_spread(tuple(Placement), ["*"], read_scenarios())
    assert {"barrier", "rendezvous_file", "store_operations", "suite"} <= set(left)
    assert not names & set(left)
    assert without_spread([Placement.TOGETHER], ["*"], read_scenarios()) == ()


def test_a_scenario_whose_ranks_share_a_folder_or_a_clock_can_not_be_spread() -> None:
    shared = ("job.post(", "job.fetch(", "job.path(", "job.share", "monotonic_ns", "host_leaves_last", "forked_world")
    sharing = {
        name
        for name, scenario in read_scenarios().items()
        if any(word in scenario.source for word in shared) and Placement.SPREAD in placements_of(scenario)
    }
    assert sharing == set()


def test_a_matrix_of_spread_ranks_without_a_scenario_that_can_be_says_why_nothing_is_left() -> None:
    asked = spec(placement=(Placement.SPREAD,), scenarios=("barrier", "rng_state"))
    with pytest.raises(NothingSelectedError, match="barrier: needs its ranks on one machine"):
        make_plan(asked, versions(), read_scenarios(), "venv")


def test_a_matrix_of_bridges_without_a_scenario_that_meets_at_one_says_why_nothing_is_left() -> None:
    with pytest.raises(NothingSelectedError, match="torchrun: no bridge, because its ranks meet elsewhere"):
        make_plan(
            spec(store=(Store.BRIDGE,), scenarios=("torchrun", "rng_state")), versions(), read_scenarios(), "venv"
        )


@settings(max_examples=20, deadline=None)
@given(st.permutations(NAMES), st.integers(0, 3))
def test_the_same_declaration_and_seed_give_the_same_plan(names: list[str], seed: int) -> None:
    """Of one scenario of each kind, one with variants and one with needs: all of them are thousands of cells a plan."""
    asked = spec(versions=tuple(names), scenarios=("rendezvous_tcp", "all_reduce", "torch_save", "import_smoke"))
    first, again, other = (
        make_plan(asked, versions(), read_scenarios(), "venv", each) for each in (seed, seed, seed + 1)
    )
    assert first == again
    assert first.digest != other.digest


def test_ids_are_unique() -> None:
    both = spec(world_sizes=(2, 3), guard=(Guard.OFF, Guard.ON))
    plan = make_plan(both, versions(), read_scenarios(), "venv")
    assert len({cell.id for cell in plan.cells}) == len(plan.cells)


def test_a_pattern_that_matches_nothing_names_near_cells() -> None:
    plan = make_plan(spec(), versions(), read_scenarios(), "venv")
    with pytest.raises(NothingSelectedError, match=r"Near: rendezvous_tcp/2\.6\.0,2\.6\.0/guard-off/venv") as caught:
        narrow(plan, ["rendezvous_tpc/2.6.0,2.6.0/guard-off/venv"])
    assert caught.value.exit_code == 5


def test_a_scenario_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="scenario pattern 'al_reduce' matches nothing"):
        make_plan(spec(scenarios=("al_reduce",)), versions(), read_scenarios(), "venv")


def test_the_audits_pair_is_predicted_to_fail_without_naming_a_version() -> None:
    plan = make_plan(
        spec(scenarios=("rendezvous_tcp",), pairs=(("2.1.2", "2.2.2"),)), versions(), read_scenarios(), "venv"
    )
    assert [cell.predicted for cell in plan.cells] == [(Outcome.TIMEOUT, Outcome.OPAQUE)]


@pytest.mark.parametrize("known", [{}, {"known_python": "3.11.7", "known_numpy": "1.24.2"}])
def test_a_plan_made_again_predicts_with_the_python_and_numpy_that_environments_have(known: dict[str, str]) -> None:
    writer = Version(name="new", sources=PIP, torch="2.6.0", known_python="3.13.5", known_numpy="2.2.4")
    reader = Version(name="old", sources=PIP, torch="2.6.0")
    both = {"new": writer, "old": reader}
    wanted = spec(versions=("new", "old"), pairs=(("new", "old"),), scenarios=("pickles",))
    plan = make_plan(wanted, both, read_scenarios(), "venv")
    again = predicted(plan, read_scenarios(), {**both, "old": replace(reader, **known)})
    said = {cell.variant.name: cell.predicted for cell in again.cells if cell.variant}
    expected = (Outcome.OK, Outcome.OPAQUE if known else Outcome.OK)
    assert (said["path"], said["numpy_array"]) == (expected, expected)
