"""`torchskew rehearse` as a person calls it: plans printed and saved, mistakes explained, a real run in docker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from torchskew.cli import main
from torchskew.workflows.rehearsal import workflow
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.keep import Kept
from torchskew.workflows.rehearsal.model import Do, Observed, Rehearsal
from torchskew.workflows.rehearsal.plan import make_rehearsal
from torchskew.workflows.rehearsal.runnable import flaw
from torchskew.workflows.rehearsal.text import load
from torchskew.workflows.rehearsal.workflow import Options, Work, shrink_failures

from tests.conftest import ROOT
from tests.workflows.rehearsal.made import World, spec
from tests.workflows.rehearsal.test_judge import edited

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


def _sick(plan: Rehearsal) -> Observed:
    """A cluster on which no pause ever heals."""
    seen = World(plan).observe()
    for step in plan.steps:
        if step.fault == "pause":
            seen = edited(seen, step.number, evidence={"healed": None})
    return seen


def test_a_failing_plan_is_shrunk_to_what_fails_and_can_be_carried_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress, capsys
) -> None:
    plan = make_rehearsal(spec(rollback=True, faults=("kill", "pause"), steps=70))
    monkeypatch.setattr(workflow, "carry_out", lambda _work, each, controlled: _sick(each))
    with ExitStack() as stack:
        work = Work(options=Options(shrink=True), watch=progress, stack=stack)
        kept = Kept(folder=tmp_path, seen=_sick(plan))
        work.results = [(kept, judge(kept.seen))]
        shrink_failures(work)
    smallest = load((tmp_path / "smallest.json").read_text(), "smallest.json")
    assert len(smallest.steps) < len(plan.steps) / 2
    assert [step.fault for step in smallest.steps if step.fault] == ["pause"]
    assert flaw(smallest.steps, smallest.spec) is None
    assert any(step.do is Do.FAULT for step in smallest.steps)
    said = capsys.readouterr().out
    assert "smallest plan that still fails R13 (6 runs)" in said
    assert f"rerun: torchskew rehearse --plan {tmp_path / 'smallest.json'}" in said


# Ctrl-C to all nodes gone: containers end side by side in less than a second each, on two busy cores.
END_SECONDS = 5.0


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.torch
def test_an_interrupt_ends_every_container_at_once_and_keeps_what_was_seen(place: Path) -> None:
    options = ["--runtime", "docker", "--nodes", "4", "--steps", "60", "--checkpoint", "plain"]
    command = [sys.executable, "-m", "torchskew", "rehearse", "-f", str(ROOT / "torchskew.toml"), *ASK[1:], *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "  train" in line:
                break
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        said = run.stderr.read()
        code = run.wait(60)
        took = time.monotonic() - began
    assert (code, "interrupted: 2 of " in said) == (2, True), said
    assert _theirs(run.pid) == []
    assert took < END_SECONDS
    folder = next(place.glob("out/rehearsal-*/rolling"))
    assert main(["report", str(folder)]) == 1


def _theirs(pid: int) -> list[str]:
    """Containers and networks that a process owns."""
    import docker

    client = docker.from_env()
    try:
        labelled = {"label": "torchskew.owner"}
        things = [*client.containers.list(all=True, filters=labelled), *client.networks.list(filters=labelled)]
        owners = [(thing.name, (thing.attrs.get("Labels") or thing.attrs["Config"]["Labels"])) for thing in things]
        return [name for name, labels in owners if labels["torchskew.owner"].startswith(f"{pid}:")]
    finally:
        client.close()


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
    assert said.splitlines()[-1].startswith("2.6.0 to 2.14.1 in rolling mode: safe, because every invariant holds; ")
    assert code == 0
    told = json.loads(next(place.glob("out/rehearsal-*/rolling/results.json")).read_text())
    observed = [step["evidence"]["observed"] for step in told["steps"] if "observed" in step["evidence"]]
    assert len(observed) == 5 - len(told["unsupported"])
