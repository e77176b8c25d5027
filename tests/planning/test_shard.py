"""A plan splits into equally long parts on every machine alike, and only all parts of one plan make it whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchskew.errors import ConfigError, RecordError
from torchskew.model.cells import Cell, Plan
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome
from torchskew.model.runs import Shard
from torchskew.planning.plan import deadline, plan_of
from torchskew.planning.shard import join, parse_shard, seconds, split


def ident(name: str) -> CellId:
    return CellId.of(name, ("a", "b"), "venv")


def cell(name: str, *needs: str, **fields: object) -> Cell:
    return Cell(
        **{"scenario": name, "skew": ("a", "b"), "runtime": "venv", "needs": tuple(map(ident, needs)), **fields}
    )


def plan(*cells: Cell) -> Plan:
    return plan_of(cells, "venv", 0)


def parts(whole: Plan, count: int, durations: dict[str, float] | None = None) -> list[tuple[str, Plan, Shard]]:
    return [
        (f"shard-{index}", *split(whole, {ident(name): each for name, each in (durations or {}).items()}, index, count))
        for index in range(1, count + 1)
    ]


GROUPS = st.lists(st.integers(1, 4), min_size=1, max_size=12)


def grouped(sizes: list[int]) -> Plan:
    """Groups in which every later cell needs the first."""
    groups = [[cell(f"{g}-{n}", *([f"{g}-0"] if n else [])) for n in range(size)] for g, size in enumerate(sizes)]
    return plan(*(one for group in groups for one in group))


@given(
    GROUPS,
    st.integers(1, 6),
    st.dictionaries(st.sampled_from([f"{g}-{n}" for g in range(9) for n in range(3)]), st.floats(0, 60)),
)
def test_any_split_puts_every_cell_into_one_shard_and_joins_to_the_same_plan(
    sizes: list[int], count: int, durations: dict[str, float]
) -> None:
    whole = grouped(sizes)
    split_up = parts(whole, count, durations)
    ids = sorted(one.id for _, part, _ in split_up for one in part.cells)
    assert ids == sorted(one.id for one in whole.cells)
    assert join(split_up[::-1]) == whole


@given(GROUPS, st.integers(1, 6))
def test_cells_that_need_each_other_stay_together(sizes: list[int], count: int) -> None:
    for _, part, _ in parts(grouped(sizes), count):
        inside = {one.id for one in part.cells}
        for one in part.cells:
            group = one.scenario.partition("-")[0]
            assert one.scenario.endswith("-0") or one.needs == (ident(f"{group}-0"),)
            assert ident(f"{group}-0") in inside


def test_shards_are_balanced_by_recorded_durations() -> None:
    durations = {"a": 9.0, "b": 3.0, "c": 3.0, "d": 3.0}
    _, first, _ = parts(plan(cell("b"), cell("a"), cell("c"), cell("d")), 2, durations)[0]
    assert [one.scenario for one in first.cells] == ["a"]


def test_a_cell_nobody_timed_is_taken_at_what_it_is_predicted_to_wait() -> None:
    assert seconds(cell("a", predicted=(Outcome.OK, Outcome.OK)), {}) < 1
    assert seconds(cell("a"), {}) == deadline(cell("a"))
    assert seconds(cell("a", predicted=(Outcome.TIMEOUT, Outcome.OPAQUE), timeout=7.0), {}) == 7.0
    hangs = cell("a", predicted=(Outcome.HANG, Outcome.OK), timeout=7.0)
    assert seconds(hangs, {}) == deadline(hangs)


def test_a_shard_that_did_not_arrive_keeps_the_gate_shut() -> None:
    with pytest.raises(RecordError, match="missing shards: 2, 4 of 5"):
        join([each for each in parts(grouped([1] * 9), 5) if each[2].index not in (2, 4)])


def test_a_shard_that_came_twice_is_an_error() -> None:
    split_up = parts(grouped([1] * 4), 2)
    with pytest.raises(RecordError, match="duplicate shards: 1 of 2"):
        join([*split_up, split_up[0]])


def test_shards_of_different_plans_do_not_fit() -> None:
    other = plan(cell("x", timeout=3.0), cell("y"))
    with pytest.raises(RecordError, match="shard-2 is a shard of 2 of plan .*not of one run"):
        join([parts(plan(cell("x"), cell("y")), 2)[0], parts(other, 2)[1]])


def test_shards_balanced_by_different_records_do_not_fit() -> None:
    whole = grouped([1] * 4)
    with pytest.raises(RecordError, match="shard-2 and shard-1 were balanced by different records"):
        join([parts(whole, 2)[0], parts(whole, 2, {"0-0": 9.0})[1]])


def test_a_forged_shard_that_lacks_cells_is_found_by_the_plans_digest() -> None:
    split_up = parts(grouped([1] * 4), 2)
    name, part, shard = split_up[0]
    cut = (name, replace(part, cells=part.cells[:1]), replace(shard, positions=shard.positions[:1]))
    with pytest.raises(RecordError, match="hold 3 of 4 cells"):
        join([cut, split_up[1]])


def test_no_shard_at_all_is_an_error() -> None:
    with pytest.raises(RecordError, match="no shard was given"):
        join([])


@pytest.mark.parametrize("text", ["2", "0/5", "6/5", "a/b", "-1/2", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be like 2/5"):
        parse_shard(text)


def test_a_shard_is_read() -> None:
    assert parse_shard("2/5") == (2, 5)
