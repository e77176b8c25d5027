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
from torchskew.workflows.rehearsal import keep
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.keep import FACTS, RESULTS, Kept
from torchskew.workflows.rehearsal.tell import show, write

from tests.conftest import ROOT
from tests.workflows.rehearsal.made import sound

FULL = {"rollback": True, "faults": ("kill", "pause"), "steps": 70, "script": "print()\n", "script_name": "train.py"}


def left(folder: Path, **more) -> Kept:
    """A folder as a rehearsal leaves it."""
    kept = Kept(folder=folder, seen=sound(**more))
    write(folder / FACTS, keep.facts(kept.seen))
    return kept


def test_facts_come_back_exactly_and_are_judged_alike(tmp_path: Path) -> None:
    kept = left(tmp_path / "rolling", **FULL)
    again = keep.read(tmp_path / "rolling")
    assert again == kept
    assert judge(again.seen) == judge(kept.seen)


def test_a_finished_rehearsal_is_judged_again_by_the_name_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    kept = left(out / "rehearsal-x" / "rolling")
    show([(kept, judge(kept.seen))])
    told = capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in kept.folder.iterdir()}
    for name in ("report.html", "report.txt", RESULTS):
        (kept.folder / name).unlink()
    assert main(["report", "rehearsal-x", "--out", str(out)]) == 0
    assert capsys.readouterr().out == told
    assert {path.name: path.read_bytes() for path in kept.folder.iterdir()} == before


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


def test_a_rehearsal_that_is_not_there_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "rehearsal-none", "--out", str(tmp_path)]) == 1
    assert "rehearsal-none" in capsys.readouterr().err


def _edited(change) -> str:
    told = json.loads(keep.facts(sound()))
    change(told)
    return json.dumps(told)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no facts of a rehearsal"),
        ("[]", "holds no facts of a rehearsal"),
        (_edited(lambda told: told.update(schema="2.0")), "its schema is 2.0, this torchskew reads 1.0"),
        (_edited(lambda told: told["seen"]["plan"].update(spec=3)), "plan.spec must be Spec, got 3"),
        (_edited(lambda told: told["seen"].update(strange=1)), "strange is unknown"),
    ],
)
def test_damaged_facts_are_named_with_their_file(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / FACTS).write_text(text)
    with pytest.raises(RecordError) as caught:
        keep.read(tmp_path)
    assert why in str(caught.value)
    assert FACTS in str(caught.value)


def test_facts_of_a_later_minor_schema_are_read(tmp_path: Path) -> None:
    (tmp_path / FACTS).write_text(_edited(lambda told: (told.update(schema="1.9"), told["seen"].update(strange=1))))
    assert keep.read(tmp_path).seen == sound()


def test_results_hold_what_the_documentation_states(tmp_path: Path) -> None:
    kept = Kept(folder=tmp_path, seen=sound(**FULL))
    told = json.loads(keep.results(kept, judge(kept.seen)))
    page = (ROOT / "docs/rehearsal.md").read_text()
    section = page.split("## Files")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z_]+)`", section))
    keys = {*told, *told["steps"][0], *told["stages"][0], *told["invariants"][0]}
    assert keys <= named, sorted(keys - named)
    assert (told["schema"], told["answer"], told["verdict"]) == ("1.0", "safe", "PASS")
    assert [one["name"] for one in told["invariants"]] == [f"R{number}" for number in range(1, 17)]
    assert [one["number"] for one in told["steps"]] == list(range(1, len(kept.seen.plan.steps) + 1))


def test_a_rank_that_did_not_end_well_leaves_a_file_with_its_error_and_stacks(tmp_path: Path) -> None:
    seen = sound()
    hung = seen.generations[1]
    facts = tuple(replace(one, killed=True, log="printed", stacks="in all_reduce") for one in hung.facts)
    hung = replace(hung, facts=facts, outcomes=(Outcome.HANG, *hung.outcomes[1:]))
    kept = Kept(folder=tmp_path, seen=replace(seen, generations=(seen.generations[0], hung, *seen.generations[2:])))
    show([(kept, judge(kept.seen))])
    files = list((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == ["generation-2-rank-0.txt"]
    assert all(text in files[0].read_text() for text in ("HANG", "printed", "in all_reduce"))


def test_a_rehearsal_that_was_cut_short_keeps_what_it_saw_and_is_unknown(tmp_path: Path) -> None:
    seen = sound()
    kept = Kept(folder=tmp_path, seen=replace(seen, results=seen.results[:4], generations=seen.generations[:1]))
    told = json.loads(keep.results(kept, judge(kept.seen)))
    assert told["answer"] == "unknown"
    assert told["steps"][-1]["why"] == "not reached"
