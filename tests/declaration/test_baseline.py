"""A baseline is read strictly, and its update is a text that counts only after someone wrote the reasons."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from dataclasses import replace
from pathlib import Path

from torchskew.declaration.baseline import parse_baseline
from torchskew.declaration.fields import Document, Problems
from torchskew.judging import update
from torchskew.judging.decide import decide
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult, Decision
from torchskew.workflows.inputs import append_to_baseline

TODAY = dt.date(2026, 11, 21)
CELL = Cell(scenario="s", skew=("candidate", "2.13.0"), runtime="venv")
PLAN = Plan(cells=(CELL,), runtime="venv", seed=0, digest="d")
FAIL = CellResult(
    cell=CELL, verdict=Verdict.FAIL, outcomes=(Outcome.OK, Outcome.WRONG), reason="rank 1\n[[expect]] WRONG: 3 isn't 4"
)
PASS = replace(FAIL, verdict=Verdict.PASS, outcomes=(Outcome.OK, Outcome.OK))
KNOWN = Expectation(cells="s/*", verdict=Verdict.FAIL, reason="r", outcomes=(Outcome.OK, Outcome.HANG))


def read(text: str) -> tuple[tuple[Expectation, ...], list[str]]:
    document = Document(path="here/baseline.toml", text=text)
    problems = Problems(document.name)
    return parse_baseline(document, problems), problems.texts


def decided(result: CellResult, *expectations: Expectation) -> Decision:
    return decide(PLAN, [result], expectations, today=TODAY)


def test_a_known_flake_needs_an_end() -> None:
    entries, found = read('[[flaky]]\ncells = "s/*"\nreason = "slow host"\nuntil = "2.17"\n')
    assert (found, entries[0].flaky, entries[0].until) == ([], True, "2.17")
    _, found = read('[[flaky]]\ncells = "s/*"\nreason = "slow host"\n')
    assert found == ["baseline.toml: flaky[1].until is required: a release or a date. A flake is a debt."]


def test_an_entry_may_name_several_patterns_and_each_must_match() -> None:
    text = '[[expect]]\ncells = ["s/candidate,*", "s/2.6.0,*"]\noutcomes = ["OK", "WRONG"]\nreason = "r"\n'
    entries, found = read(text)
    assert (found, [entry.cells for entry in entries]) == ([], ["s/candidate,*", "s/2.6.0,*"])
    assert decided(FAIL, *entries).checked[0].expectation == entries[0]
    assert "'s/2.6.0,*' matches no planned cell" in decided(FAIL, *entries).problems[0]
    for cells in ("[]", '""', '["s/*", ""]'):
        _, found = read(f'[[expect]]\ncells = {cells}\nreason = "r"\n')
        assert found == ["baseline.toml: expect[1].cells must be a pattern over cell ids, or a list of them."]


def test_a_flake_has_no_verdict_to_declare() -> None:
    _, found = read('[[flaky]]\ncells = "s/*"\nreason = "r"\nuntil = "2.17"\nverdict = "FAIL"\n')
    assert len(found) == 1
    assert "flaky[1].verdict is not a field" in found[0]


def test_an_entry_that_is_no_table_is_a_problem_not_a_crash() -> None:
    _, found = read('expect = ["s/*"]\n')
    assert found == ["baseline.toml: expect[1] must be a table, got 's/*'. Write [[expect]] above its fields."]


def test_an_update_names_the_one_cell_and_is_refused_until_a_reason_is_written(tmp_path: Path) -> None:
    path = tmp_path / "baseline.toml"
    append_to_baseline(path, update.difference(decided(FAIL), "r1").text)
    text = path.read_text()
    assert tomllib.loads(text)["expect"] == [
        {"cells": CELL.id, "verdict": "FAIL", "outcomes": ["OK", "WRONG"], "reason": ""}
    ]
    _, found = read(text)
    assert found == ["baseline.toml: expect[1].reason is required: say why these cells are expected to fail."]
    entries, found = read(text.replace('reason = ""', 'reason = "#1"'))
    assert found == []
    assert decided(FAIL, *entries).exit_code == 0


def test_an_update_keeps_what_stood_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "baseline.toml"
    path.write_text('# ours\n[[expect]]\ncells = "t/*"\nreason = "r"\n')
    append_to_baseline(path, update.difference(decided(FAIL), "r1").text)
    assert path.read_text().startswith("# ours\n")
    assert len(tomllib.loads(path.read_text())["expect"]) == 2


def test_an_update_never_touches_or_widens_an_entry_but_says_what_to_do() -> None:
    passes = update.difference(decided(PASS, KNOWN), "r1").text
    assert "'s/*' matches s/candidate,2.13.0/guard-off/venv, which passes now" in passes
    assert tomllib.loads(passes) == {}
    otherwise = update.difference(decided(FAIL, KNOWN), "r1").text
    assert "fails differently than 's/*' lists" in otherwise
    assert tomllib.loads(otherwise)["expect"][0]["cells"] == CELL.id
    ended = update.difference(decided(FAIL, replace(KNOWN, outcomes=None, until="2026-01-01")), "r1").text
    assert "'s/*' ended (until 2026-01-01)" in ended
    stale = update.difference(decided(PASS, replace(KNOWN, cells="gone/*")), "r1").text
    assert "'gone/*' matches no planned cell" in stale


def test_a_flake_goes_where_it_must_end_some_day() -> None:
    flaky = replace(FAIL, seen=(Verdict.PASS, Verdict.FAIL), seen_outcomes=(PASS.outcomes, FAIL.outcomes))
    text = update.difference(decided(flaky), "r1").text
    _, found = read(text)
    assert {line.split()[1] for line in found} == {"flaky[1].reason", "flaky[1].until"}


def test_what_the_machine_did_never_enters_a_baseline() -> None:
    assert update.difference(decided(replace(FAIL, verdict=Verdict.UNKNOWN)), "r1").text == ""
    assert update.difference(decided(PASS), "r1").text == ""


def test_the_examples_of_the_documentation_are_baselines() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "gate.md").read_text()
    examples = [block for block in re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL) if "[[expect]]" in block]
    found = [read(example) for example in examples]
    assert [problems for _, problems in found] == [[], []]
    assert [[entry.flaky for entry in entries] for entries, _ in found] == [[False, True], [False, False]]
