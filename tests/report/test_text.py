"""The terminal's report: golden files show what a person sees."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.engine.run import unprovisioned
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import RIGHT, Status
from torchskew.model.versions import EnvironmentFailure
from torchskew.report import write_reports
from torchskew.report.grid import Look
from torchskew.report.text import head, render

from tests import factories

GOLDEN = Path(__file__).parent.parent / "golden"
MADE = {"good": factories.good_run, "bad": factories.bad_run}


def golden(name: str, text: str) -> None:
    """Compare with a committed file; TORCHSKEW_GOLDEN=write makes it anew, for a look at the difference in git."""
    path = GOLDEN / name
    if os.environ.get("TORCHSKEW_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MADE)
def test_a_person_sees_this(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, decision = MADE[name]()
    paths = write_reports(run, decision, Path("out", "run"))
    golden(f"report-{name}.txt", f"{head(run)}\n\n{render(run, decision, written=paths)}\n")


def test_the_last_line_is_the_decision():
    for made in MADE.values():
        run, decision = made()
        assert render(run, decision).splitlines()[-1] == decision.sentence


def test_colours_come_only_when_asked_for_and_change_no_word():
    run, decision = factories.bad_run()
    plain, painted = render(run, decision), render(run, decision, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[1;31m" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain


def test_a_rank_can_not_move_the_cursor():
    result = factories.result(factories.cell(), Outcome.OPAQUE, Outcome.OPAQUE)
    nasty = tuple(replace(one, error=ErrorFacts(type="E", text="\n\x1b[2Jgone\nmore")) for one in result.ranks)
    found = (replace(result, attempts=(replace(result.attempts[0], ranks=nasty),), reason="a\x07b"),)
    decision = replace(factories.decision(found), checked=())
    decision = replace(decision, checked=(replace(factories.checked(found[0]), status="regression"),))
    text = render(factories.run(found), decision)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "E: ?[2Jgone" in text


def test_a_long_list_ends_with_how_many_more_there_are():
    cells = (factories.cell(f"scenario_{n}", ("1.13.1", "2.6.0")) for n in range(30))
    found = tuple(factories.result(cell, Outcome.OK, Outcome.WRONG) for cell in cells)
    run, decision = factories.run(found), factories.decision(found)
    assert "… and 10 more: see the report" in render(run, decision)
    assert "more: see" not in render(run, decision, look=Look(most=30))


def test_a_cell_that_is_not_as_expected_although_no_rank_failed_says_why():
    lacks = replace(factories.result(factories.cell(), Outcome.OK, Outcome.OK), reason="newly unsupported: int64")
    lacks = replace(lacks, verdict=Verdict.UNSUPPORTED)
    item = replace(factories.checked(lacks), status=Status.REGRESSION)
    decision = replace(factories.decision((lacks,)), checked=(item,))
    assert "  newly unsupported: int64" in render(factories.run((lacks,)), decision)


def test_what_could_not_be_tried_is_shown_by_its_reason() -> None:
    cells = [factories.cell(f"scenario_{number}") for number in range(6)]
    found = [factories.result(cell, Outcome.UNSUPPORTED, Outcome.UNSUPPORTED) for cell in cells]
    found = [replace(each, reason=f"reason {number % 5}") for number, each in enumerate(found)]
    text = render(factories.run(tuple(found)), factories.decision(tuple(found)))
    assert f"not tried  6   2x reason 0\n                   {cells[0].id} and 1 more\n" in text
    found = [replace(each, reason=f"reason {number}") for number, each in enumerate(found)]
    text = render(factories.run(tuple(found)), factories.decision(tuple(found)))
    assert "reason 4" in text
    assert "… and 1 more: see the report" in text


def test_a_small_run_says_what_its_judges_noted_and_a_large_one_leaves_it_to_the_file() -> None:
    cells = [factories.cell(f"scenario_{number}") for number in range(21)]
    found = tuple(factories.result(cell, Outcome.OK, Outcome.OK) for cell in cells)
    found = (replace(found[0], reason=f"{RIGHT}; faster by 9 %"), *found[1:])
    shown = f"notes      1   {cells[0].id}\n                   faster by 9 %\n"
    few, many = found[:20], found
    assert shown in render(factories.run(few), factories.decision(few))
    assert "faster" not in render(factories.run(many), factories.decision(many))
    assert shown in render(factories.run(many), factories.decision(many), look=Look(most=1000))


def test_of_very_many_tables_a_terminal_gets_those_in_which_something_is_not_right_and_a_file_all():
    names = [f"promise_{number}" for number in range(42)]
    found = tuple(factories.result(factories.cell(scenario=name), Outcome.OK, Outcome.OK) for name in names)
    found += (factories.result(factories.cell(scenario="broken"), Outcome.OK, Outcome.WRONG),)
    run, decision = factories.run(found), factories.decision(found)
    text = render(run, decision)
    assert "promise_1 · guard off" not in text
    assert "broken · guard off" in text
    assert "… and 42 more tables, in which every cell is right: see the report" in text
    assert "promise_1 · guard off" in render(run, decision, look=Look(most=1000))
    fewer = found[:40]
    assert "promise_1 · guard off" in render(factories.run(fewer), factories.decision(fewer))


def test_narrow_terminals_get_one_table_below_the_other():
    run, decision = factories.good_run()
    wide, narrow = (render(run, decision, look=Look(width=width)) for width in (120, 60))
    assert "rendezvous_tcp · guard off    " in wide
    assert "\nrendezvous_tcp · guard off\n" in narrow
    assert "\nrendezvous_tcp · guard on\n" in narrow


def test_a_run_from_the_cache_says_so():
    found = tuple(replace(result, cached=True) for result in factories.results())
    text = render(factories.run(found), factories.decision(found))
    assert "every cell came from an earlier run" in text


def test_cells_that_never_ran_are_counted():
    run, decision = factories.good_run()
    lost = replace(
        decision.checked[-1], status="missing", result=factories.result(run.plan.cells[-1], verdict="UNKNOWN")
    )
    text = render(run, replace(decision, checked=(*decision.checked[:-1], lost)))
    assert "1 unknown (1 never ran)" in text
    assert "never ran: " in text


def test_an_unfinished_run_is_called_that():
    run = factories.run(tuple(factories.results()), finished=None, environments={})
    assert "to unfinished" in head(run)
    assert "none could be made" in head(run)


def test_a_known_hang_names_where_each_rank_waited():
    known, hung = (factories.cell(skew=("2.1.2", name)) for name in ("2.6.0", "2.14.1"))
    reason = "rank 0 HANG: no exit within 29 s, in run at new_group -> wait; rank 1 HANG: no exit within 29 s, in run"
    found = (
        factories.result(known, Outcome.TIMEOUT, Outcome.OPAQUE),
        factories.result(hung, Outcome.HANG, Outcome.HANG, reason=reason),
    )
    lines = render(factories.run(found), factories.decision(found)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("known "))
    assert lines[at].startswith("known      2   2x ")
    assert [line.strip() for line in lines[at + 1 : at + 3]] == [f"{hung.id} HANG and 1 more", reason]


def test_why_a_version_has_no_environment_is_said_once_with_every_cell_that_needs_it():
    failures = {name: EnvironmentFailure(version=name, reason=f"{name} is no Python") for name in ("a", "b")}
    cells = [factories.cell(skew=skew) for skew in (("a", "a"), ("a", "b"), ("b", "b"))]
    found = tuple(unprovisioned(cell, failures[cell.skew[0]]) for cell in cells)
    text = render(factories.run(found), factories.decision(found))
    assert [text.count(failure.reason) for failure in failures.values()] == [1, 1]
    assert f"unknown: 2 cells: no environment for a\n  a is no Python\n  {cells[0].id}\n  {cells[1].id}\n" in text
    assert f"unknown: 1 cell: no environment for b\n  b is no Python\n  {cells[2].id}\n" in text
    assert text.count("rerun: ") == 2
