"""Every planned cell is held against the baseline; whatever is missing, unknown or changed shuts the gate."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from torchskew.judging.decide import decide, stale
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult, Decision, Status
from torchskew.model.runs import Unmatched

TODAY = dt.date(2026, 11, 21)
CELL = Cell(scenario="s", skew=("a", "b"), runtime="venv")
PLAN = Plan(cells=(CELL,), runtime="venv", seed=0, digest="d")
KNOWN = Expectation(cells="s/a,b/*", verdict=Verdict.FAIL, reason="r", outcomes=(Outcome.TIMEOUT, Outcome.OPAQUE))


def result(verdict: Verdict, *outcomes: Outcome) -> CellResult:
    facts = tuple(RankFacts(rank=rank, declared=name, torch="2.17.1+cpu") for rank, name in enumerate("ab"))
    attempt = Attempt(number=1, ranks=facts, seconds=0.1)
    return CellResult(cell=CELL, verdict=verdict, outcomes=outcomes, reason="", attempts=(attempt,))


def decided(what: CellResult | None, *expectations: Expectation) -> Decision:
    return decide(PLAN, [what] if what else [], expectations, today=TODAY)


@pytest.mark.parametrize(
    ("what", "expectations", "status"),
    [
        (result(Verdict.PASS), (), Status.EXPECTED),
        (result(Verdict.UNSUPPORTED), (), Status.EXPECTED),
        (result(Verdict.BLOCKED), (), Status.NOT_JUDGED),
        (result(Verdict.BLOCKED), (KNOWN,), Status.NOT_JUDGED),
        (result(Verdict.FAIL, Outcome.TIMEOUT, Outcome.OPAQUE), (KNOWN,), Status.KNOWN_FAILURE),
        (result(Verdict.FAIL), (), Status.REGRESSION),
        (result(Verdict.PASS), (KNOWN,), Status.UNEXPECTED_PASS),
        (result(Verdict.FAIL, Outcome.OPAQUE, Outcome.TIMEOUT), (KNOWN,), Status.FAILS_DIFFERENTLY),
        (result(Verdict.UNSUPPORTED), (KNOWN,), Status.FAILS_DIFFERENTLY),
        (result(Verdict.UNKNOWN), (KNOWN,), Status.UNKNOWN),
        (None, (), Status.MISSING),
        (None, (KNOWN,), Status.MISSING),
    ],
)
def test_each_status_and_the_exit_code_that_follows(
    what: CellResult | None, expectations: tuple[Expectation, ...], status: Status
) -> None:
    decision = decided(what, *expectations)
    assert decision.checked[0].status is status
    fine = status in (Status.EXPECTED, Status.NOT_JUDGED, Status.KNOWN_FAILURE)
    assert decision.exit_code == (0 if fine else 1)
    assert (decision.sentence == "as expected") is fine


@pytest.mark.parametrize("until", ["2026-11-20", "2.17", "2.17.1"])
def test_an_expired_entry_is_red_although_the_cell_fails_as_declared(until: str) -> None:
    what = result(Verdict.FAIL, Outcome.TIMEOUT, Outcome.OPAQUE)
    assert decided(what, replace(KNOWN, until=until)).checked[0].status is Status.EXPIRED


@pytest.mark.parametrize(
    ("torch", "ended"),
    [
        ("2.17.0rc1", True),
        ("2.17.0.dev20261201+cpu", True),
        ("2.17.0a0+git12ab", True),
        ("2.17.1-site.4", True),
        ("2.16.2", False),
        ("site", False),
        (None, False),
    ],
)
def test_a_nightly_of_the_release_ends_an_entry_and_an_odd_version_breaks_nothing(
    torch: str | None, ended: bool
) -> None:
    what = result(Verdict.FAIL, Outcome.TIMEOUT, Outcome.OPAQUE)
    (attempt,) = what.attempts
    ranks = tuple(replace(facts, torch=torch) for facts in attempt.ranks)
    status = (
        decided(replace(what, attempts=(replace(attempt, ranks=ranks),)), replace(KNOWN, until="2.17"))
        .checked[0]
        .status
    )
    assert status is (Status.EXPIRED if ended else Status.KNOWN_FAILURE)


@pytest.mark.parametrize("until", ["2026-11-21", "2.18"])
def test_an_entry_holds_until_its_day_or_release_has_come(until: str) -> None:
    what = result(Verdict.FAIL, Outcome.TIMEOUT, Outcome.OPAQUE)
    assert decided(what, replace(KNOWN, until=until)).checked[0].status is Status.KNOWN_FAILURE


def test_the_first_matching_entry_counts() -> None:
    special = replace(KNOWN, outcomes=None, reason="special")
    checked = decided(result(Verdict.FAIL, Outcome.HANG, Outcome.HANG), special, replace(KNOWN, cells="*")).checked[0]
    assert (checked.status, checked.expectation) == (Status.KNOWN_FAILURE, special)


def test_a_pattern_that_matches_no_cell_is_a_problem_unless_another_runtime_is_named() -> None:
    gone, other = replace(KNOWN, cells="gone/*"), replace(KNOWN, cells="s/c,d/*/docker")
    decision = decided(result(Verdict.PASS), gone, other)
    assert decision.problems == ("expectation 'gone/*' matches no planned cell: fix the pattern or remove the entry",)
    assert decision.exit_code == 1


def test_a_narrowed_run_does_not_call_the_rest_of_the_baseline_stale() -> None:
    rest = replace(CELL, scenario="t")
    elsewhere = replace(KNOWN, cells="t/*")
    unmatched = Unmatched(problems=tuple(stale([elsewhere], (CELL, rest), PLAN.runtime)))
    assert decide(PLAN, [result(Verdict.PASS)], [elsewhere], today=TODAY, unmatched=unmatched).exit_code == 0
    assert decide(PLAN, [result(Verdict.PASS)], [elsewhere], today=TODAY).exit_code == 1


def test_results_that_were_not_planned_or_came_twice_are_red() -> None:
    stranger = replace(result(Verdict.PASS), cell=replace(CELL, scenario="x"))
    twice = decide(PLAN, [result(Verdict.PASS)] * 2, (), today=TODAY)
    more = decide(PLAN, [result(Verdict.PASS), stranger], (), today=TODAY)
    assert (twice.exit_code, more.exit_code) == (1, 1)
    assert "more than one result" in twice.problems[0]
    assert "was not planned" in more.problems[0]


def test_an_empty_plan_is_exit_five_and_never_green() -> None:
    assert decide(replace(PLAN, cells=()), [], (), today=TODAY).exit_code == 5
