"""What a rehearsal leaves in its folder: facts that come back as they were, data for programs, reports made anew."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.cli import main
from torchskew.errors import RecordError
from torchskew.model.outcomes import Outcome
from torchskew.model.rehearsal import Script
from torchskew.workflows.rehearsal import archive
from torchskew.workflows.rehearsal.archive import FACTS, RESULTS, ArchivedRehearsal
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.reports import judged, show, write

from tests.conftest import ROOT
from tests.workflows.rehearsal.observations import healthy

SCRIPT = Script(name="train.py", text="print()\n")
FULL = {"rollback": True, "faults": ("kill", "pause"), "training_steps": 70, "script": SCRIPT}


def left(folder: Path, **more) -> ArchivedRehearsal:
    """A folder as a rehearsal leaves it."""
    archived = ArchivedRehearsal(folder=folder, observation=healthy(**more))
    write(folder / FACTS, archive.facts(archived.observation))
    return archived


def test_facts_come_back_exactly_and_are_judged_alike(tmp_path: Path) -> None:
    archived = left(tmp_path / "rolling", **FULL)
    again = archive.read(tmp_path / "rolling")
    assert again == archived
    assert judge(again.observation) == judge(archived.observation)


def test_a_finished_rehearsal_is_judged_again_by_the_name_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    archived = left(out / "rehearsal-x" / "rolling")
    show([judged(archived)])
    printed = capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in archived.folder.iterdir()}
    for name in ("report.html", "report.txt", RESULTS):
        (archived.folder / name).unlink()
    assert main(["report", "rehearsal-x", "--out", str(out)]) == 0
    assert capsys.readouterr().out == printed
    assert {path.name: path.read_bytes() for path in archived.folder.iterdir()} == before


def test_a_folder_is_found_by_its_path_and_several_strategies_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for strategy in ("rolling", "stop-the-world"):
        left(tmp_path / "rehearsal-x" / strategy, strategy=strategy)
    assert main(["report", str(tmp_path / "rehearsal-x")]) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split(":")[0] for line in last] == [
        f"2.6.0 to 2.13.0 in {strategy} mode" for strategy in ("rolling", "stop-the-world")
    ]
    assert main(["report", str(tmp_path / "rehearsal-x" / "rolling")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2.6.0 to 2.13.0 in rolling mode: safe")


def test_rehearsals_are_listed_with_their_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left(tmp_path / "rehearsal-x" / "rolling")
    assert main(["report", "--list", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("rehearsal-x/rolling  2.6.0 to 2.13.0 in rolling mode: safe")


def test_a_rehearsal_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "rehearsal-none", "--out", str(tmp_path)]) == 1
    assert "rehearsal-none" in capsys.readouterr().err


def _edited(change) -> str:
    fields = json.loads(archive.facts(healthy()))
    change(fields)
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not hold the facts of a rehearsal"),
        ("[]", "does not hold the facts of a rehearsal"),
        (
            _edited(lambda fields: fields.update(schema="3.0")),
            "its schema is 3.0, this torchskew reads 2.1. Use a newer",
        ),
        (_edited(lambda fields: fields.update(schema="1.0")), "its schema is 1.0, this torchskew reads 2.1. Rehearse"),
        (_edited(lambda fields: fields["seen"]["plan"].update(spec=3)), "plan.spec must be RehearsalSpec, got 3"),
        (_edited(lambda fields: fields["seen"].update(strange=1)), "strange is unknown"),
    ],
)
def test_damaged_facts_are_named_with_their_file(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / FACTS).write_text(text)
    with pytest.raises(RecordError) as caught:
        archive.read(tmp_path)
    assert why in str(caught.value)
    assert FACTS in str(caught.value)


def test_facts_of_a_later_minor_schema_are_read(tmp_path: Path) -> None:
    (tmp_path / FACTS).write_text(
        _edited(lambda fields: (fields.update(schema="2.9"), fields["seen"].update(strange=1)))
    )
    assert archive.read(tmp_path).observation == healthy()


def test_results_hold_what_the_documentation_states(tmp_path: Path) -> None:
    archived = ArchivedRehearsal(folder=tmp_path, observation=healthy(**FULL))
    fields = json.loads(archive.results(archived, judge(archived.observation)))
    page = (ROOT / "docs/rehearsal.md").read_text()
    section = page.split("## Files")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z_]+)`", section))
    keys = {*fields, *fields["steps"][0], *fields["stages"][0], *fields["invariants"][0]}
    assert keys <= named, sorted(keys - named)
    assert (fields["schema"], fields["answer"], fields["verdict"]) == ("2.1", "safe", "PASS")
    assert fields["holds"] == ["model", "optimizer"]
    assert [each["name"] for each in fields["invariants"]] == [f"R{number}" for number in range(1, 17)]
    assert [each["number"] for each in fields["steps"]] == list(range(1, len(archived.observation.plan.steps) + 1))


def test_a_rank_that_did_not_end_well_leaves_a_file_with_its_error_and_stacks(tmp_path: Path) -> None:
    observation = healthy()
    hung = observation.generations[1]
    facts = tuple(replace(each, killed=True, log="printed", stacks="in all_reduce") for each in hung.facts)
    hung = replace(hung, facts=facts, outcomes=(Outcome.HANG, *hung.outcomes[1:]))
    archived = ArchivedRehearsal(
        folder=tmp_path,
        observation=replace(observation, generations=(observation.generations[0], hung, *observation.generations[2:])),
    )
    show([judged(archived)])
    files = list((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == ["generation-2-rank-0.txt"]
    assert all(text in files[0].read_text() for text in ("HANG", "printed", "in all_reduce"))


def test_a_rehearsal_that_was_cut_short_keeps_what_it_saw_and_is_unknown(tmp_path: Path) -> None:
    observation = healthy()
    archived = ArchivedRehearsal(
        folder=tmp_path,
        observation=replace(observation, results=observation.results[:4], generations=observation.generations[:1]),
    )
    fields = json.loads(archive.results(archived, judge(archived.observation)))
    assert fields["answer"] == "unknown"
    assert fields["steps"][-1]["why"] == "not reached"
