"""The schedule: what leads to the longest wait first, what can't run blocked, nothing lost or started twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchskew.model.cells import Cell
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.planning.schedule import Schedule, blocked, chain_seconds

SKEW = ("1", "2")


def ident(scenario: str) -> CellId:
    return CellId.of(scenario, SKEW, "venv")


def cell(scenario: str, *needs: str, **fields: Any) -> Cell:
    return Cell(
        **{"skew": SKEW, "runtime": "venv", "timeout": 5.0, **fields},
        scenario=scenario,
        needs=tuple(map(ident, needs)),
    )


OK = (Outcome.OK, Outcome.OK)


def test_known_failures_block_through_others_without_starting_anything() -> None:
    meet = cell("meet")
    known = {meet.id: CellResult(cell=meet, verdict=Verdict.FAIL, outcomes=(), reason="", cached=True)}
    found = blocked([cell("last", "work"), cell("work", "meet"), meet], known)
    assert [(result.cell.id, result.blocked_by, result.cached) for result in found] == [
        (ident("work"), ident("meet"), True),
        (ident("last"), ident("work"), True),
    ]


def test_what_leads_to_the_longest_wait_starts_first() -> None:
    meet = cell("meet", predicted=OK)
    hangs = cell("hangs", "meet", predicted=(Outcome.HANG, Outcome.HANG))
    times_out = cell("slow", predicted=(Outcome.TIMEOUT, Outcome.OPAQUE))
    quick = cell("quick", predicted=OK)
    chains = chain_seconds([quick, times_out, hangs, meet])
    assert sorted(chains, key=lambda cell_id: -chains[cell_id]) == [*map(ident, ("meet", "hangs", "slow", "quick"))]
    schedule = Schedule([quick, times_out, hangs, meet], {})
    assert [schedule.pop().scenario for _ in range(3)] == ["meet", "slow", "quick"]
    assert not schedule.ready
    schedule.done(ident("meet"), Verdict.PASS)
    assert schedule.pop() == hangs


def test_a_cell_whose_needs_are_not_all_there_waits() -> None:
    schedule = Schedule([cell("both", "a", "b"), cell("a"), cell("b")], {})
    started = {schedule.pop().scenario, schedule.pop().scenario}
    assert (started, schedule.ready) == ({"a", "b"}, False)
    schedule.done(ident("a"), Verdict.PASS)
    assert not schedule.ready
    with pytest.raises(IndexError):
        schedule.pop()
    schedule.done(ident("b"), Verdict.PASS)
    assert schedule.pop().scenario == "both"


@given(
    needs=st.lists(st.sets(st.integers(0, 30), max_size=3), max_size=30),
    failing=st.sets(st.integers(0, 30)),
)
def test_every_cell_starts_after_what_it_needs_or_is_blocked_by_what_failed(
    needs: list[set[int]], failing: set[int]
) -> None:
    cells = [
        cell(str(number), *(str(need) for need in sorted(mine) if need < number)) for number, mine in enumerate(needs)
    ]
    verdicts: dict[CellId, Verdict] = {}
    schedule = Schedule(reversed(cells), {})
    while schedule.ready:
        started = schedule.pop()
        assert all(verdicts[need] is Verdict.PASS for need in started.needs)
        assert started.id not in verdicts
        verdicts[started.id] = Verdict.FAIL if int(started.scenario) in failing else Verdict.PASS
        schedule.done(started.id, verdicts[started.id])
        for result in schedule.blocked():
            assert result.cell.id not in verdicts
            assert verdicts[CellId(str(result.blocked_by))] is not Verdict.PASS
            verdicts[result.cell.id] = result.verdict
    assert set(verdicts) == {each.id for each in cells}
