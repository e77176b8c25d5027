"""`torchskew rehearse` as a person calls it: plans printed and saved, mistakes explained, a real run in docker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.rehearse.text import load
from tests.conftest import ROOT

ASK = ["rehearse", "--from", "2.6.0", "--to", "2.13.0"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a declaration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_prints_the_plan_saves_it_and_runs_nothing(place: Path, capsys) -> None:
    assert main([*ASK, "--runtime", "venv", "--dry-run", "--faults", "kill,partition"]) == 0
    said = capsys.readouterr().out
    assert "2.6.0 to 2.13.0 · rolling · 4 nodes" in said
    assert "left out: fault partition: nodes of the venv runtime" in said
    saved = list(place.glob("out/rehearsal-*/rolling/plan.json"))
    assert len(saved) == 1
    assert load(saved[0].read_text(), "plan").spec.faults == ("kill", "partition")


def test_a_saved_plan_is_printed_again_as_it_was(place: Path, capsys) -> None:
    assert main([*ASK, "--runtime", "venv", "--dry-run", "--seed", "9", "--rollback"]) == 0
    first = capsys.readouterr().out.split("plan       ")[0]
    path = next(place.glob("out/rehearsal-*/rolling/plan.json"))
    assert main(["rehearse", "--plan", str(path), "--dry-run", "--out", "again"]) == 0
    assert capsys.readouterr().out.split("plan       ")[0] == first


def test_a_saved_plan_is_carried_out_again_byte_for_byte(place: Path) -> None:
    assert main([*ASK, "--runtime", "venv", "--dry-run", "--seed", "3", "--rollback", "all", "--faults", "kill"]) == 0
    path = next(place.glob("out/rehearsal-*/rolling/plan.json"))
    assert main(["rehearse", "--plan", str(path), "--dry-run", "--out", "again"]) == 0
    assert next(place.glob("again/rehearsal-*/rolling/plan.json")).read_bytes() == path.read_bytes()


def test_what_a_plan_holds_can_not_be_asked_for_beside_it(place: Path, capsys) -> None:
    assert main([*ASK, "--runtime", "venv", "--dry-run"]) == 0
    path = next(place.glob("out/rehearsal-*/rolling/plan.json"))
    assert main(["rehearse", "--plan", str(path), "--seed", "4", "--nodes", "2", "--dry-run"]) == 4
    said = capsys.readouterr().err
    assert "--nodes, --seed would not be followed" in said or "--seed, --nodes would not be followed" in said


def _edited(place: Path, change) -> Path:
    assert main([*ASK, "--runtime", "venv", "--dry-run", "--out", "first"]) == 0
    path = next(place.glob("first/rehearsal-*/rolling/plan.json"))
    told = json.loads(path.read_text())
    change(told["steps"])
    path.write_text(json.dumps(told))
    return path


def test_a_plan_that_somebody_edited_says_so_and_has_another_digest(place: Path, capsys) -> None:
    path = _edited(place, lambda steps: steps[1].update(deadline=99.0))
    capsys.readouterr()
    assert main(["rehearse", "--plan", str(path), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "plan.json was edited, or made by another torchskew" in said.err
    assert said.out.splitlines()[0].split("plan ")[-1] not in path.read_text()


def test_an_edited_plan_that_can_not_be_carried_out_is_named_before_anything_runs(place: Path, capsys) -> None:
    path = _edited(place, lambda steps: steps.pop(0))
    assert main(["rehearse", "--plan", str(path)]) == 4
    assert "can't be carried out: step 2 (train): the job does not run then" in capsys.readouterr().err


def test_the_declaration_holds_the_defaults(place: Path, capsys) -> None:
    (place / "torchskew.toml").write_text(
        '[versions]\na = { pip = "torch==2.6.0" }\nb = { pip = "torch==2.13.0" }\n'
        '[rehearsal]\nfrom = "a"\nto = "b"\nnodes = 3\nstrategy = ["rolling", "stop-the-world"]\n'
    )
    assert main(["rehearse", "--runtime", "venv", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "a to b · rolling · 3 nodes" in said
    assert "a to b · stop-the-world · 3 nodes" in said


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--nodes", "99"], "nodes must be from 2 to 16"),
        (["--strategy", "sideways"], "strategy must be one of"),
        (["--faults", "meteor"], "faults must be of"),
        (["--steps", "7"], "Use --steps"),
        (["--to", "2.6.0"], "must be another version than from"),
        (["--script", "no-such.py"], "rehearsal.script can't be read"),
        (["--plan", "no-such.json"], "no-such.json: can't be read"),
        (["--rollback", "half"], "rehearsal.rollback must be true"),
        (["--rollback", "5"], "must name replacements from 1 to 4, got 5"),
    ],
)
def test_a_mistake_is_said_with_its_mend_and_exit_code_4(more: list[str], text: str, capsys) -> None:
    assert main([*ASK, "--runtime", "venv", "--dry-run", *more]) == 4
    assert text in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.torch
def test_two_containers_are_upgraded_and_back_under_faults_of_their_networks(place: Path, capsys) -> None:
    """The releases of two Debian suites that can mix; everything of the plan happens, and every invariant holds."""
    options = ["--runtime", "docker", "--nodes", "2", "--steps", "45", "--rollback", "--checkpoint", "plain"]
    faults = ["--faults", "kill,pause,partition,slow,loss"]
    code = main([
        "rehearse", "-f", str(ROOT / "torchskew.toml"), "--from", "2.6.0", "--to", "2.14.1", *options, *faults,
    ])  # fmt: skip
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "2.6.0 to 2.14.1 in rolling mode: safe, because every invariant holds"
    assert code == 0
    facts = json.loads(next(place.glob("out/rehearsal-*/rolling/facts.json")).read_text())
    observed = [
        result["evidence"]["observed"] for result in facts["seen"]["results"] if "observed" in result["evidence"]
    ]
    assert len(observed) == 5 - len(facts["seen"]["plan"]["unsupported"])
