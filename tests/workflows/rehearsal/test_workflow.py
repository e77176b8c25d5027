"""`torchskew rehearse` as a person calls it: plans printed and saved, mistakes explained, a real run in docker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest
from torchskew.cli import main
from torchskew.declaration.rehearsal import RehearsalRequest
from torchskew.engine.progress import Watch
from torchskew.model.outcomes import Verdict
from torchskew.model.rehearsal import DeclaredRelease
from torchskew.model.versions import Version
from torchskew.runtimes.venv.runtime import VenvRuntime
from torchskew.workflows.rehearsal import schedules, workflow
from torchskew.workflows.rehearsal.archive import ArchivedRehearsal
from torchskew.workflows.rehearsal.observed import Observation
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.plan_file import load
from torchskew.workflows.rehearsal.planned import Expect, InjectFault, RehearsalPlan, StartJob
from torchskew.workflows.rehearsal.reports import judged
from torchskew.workflows.rehearsal.validity import first_problem
from torchskew.workflows.rehearsal.workflow import (
    REHEARSE,
    KnownPlans,
    Nodes,
    Options,
    Plans,
    Rehearsals,
    Request,
    RunFolder,
    plan_with_what_is_known,
    shrink_failure,
)
from torchskew.workflows.steps import problems

from tests.conftest import ROOT
from tests.workflows.rehearsal.observations import World, spec
from tests.workflows.rehearsal.test_judge import edited

ASK = ["rehearse", "--from", "2.6.0", "--to", "2.13.0"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a declaration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_prints_the_plan_and_writes_nothing(place: Path, capsys) -> None:
    assert main([*ASK, "--runtime", "venv", "--dry-run", "--faults", "kill,partition"]) == 0
    printed = capsys.readouterr().out
    assert "2.6.0 to 2.13.0 · rolling · 4 nodes" in printed
    assert "left out: fault partition: nodes of the venv runtime" in printed
    assert list(place.iterdir()) == []


def save(place: Path, *options: str) -> Path:
    """The plan of a dry run, saved."""
    path = place / "plan.json"
    assert main([*ASK, "--runtime", "venv", "--dry-run", "--save-plan", str(path), *options]) == 0
    return path


def test_a_plan_is_saved_where_a_person_asks(place: Path, capsys) -> None:
    path = save(place, "--faults", "kill,partition")
    assert load(path.read_text(), "plan").spec.faults == ("kill", "partition")
    assert capsys.readouterr().out.splitlines()[-1] == f"plan       {path}"
    assert list(place.iterdir()) == [path]


def test_several_plans_are_not_saved_in_one_file(place: Path, capsys) -> None:
    path = place / "plan.json"
    several = ["--strategy", "rolling", "group:2", "--save-plan", str(path)]
    assert main([*ASK, "--runtime", "venv", "--dry-run", *several]) == 4
    assert "these strategies make several: rolling, group:2. Name one." in capsys.readouterr().err
    assert not path.exists()


def test_a_plan_that_can_not_be_saved_is_refused_with_its_path(place: Path, capsys) -> None:
    (place / "file").write_text("")
    assert main([*ASK, "--runtime", "venv", "--dry-run", "--save-plan", "file/plan.json"]) == 4
    assert "--save-plan file/plan.json: can't be written: " in capsys.readouterr().err


def test_a_folder_that_can_not_be_written_is_refused_before_anything_is_made(place: Path, capsys) -> None:
    (place / "out").write_text("")
    assert main([*ASK, "--runtime", "venv"]) == 4
    printed = capsys.readouterr()
    assert "--out out: " in printed.err
    assert printed.out == ""


def test_a_saved_plan_is_printed_again_as_it_was(place: Path, capsys) -> None:
    path = save(place, "--seed", "9", "--rollback")
    first = capsys.readouterr().out.split("plan       ")[0]
    assert main(["rehearse", "--plan", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out == first


def test_a_saved_plan_is_carried_out_again_byte_for_byte(place: Path) -> None:
    path = save(place, "--seed", "3", "--rollback", "all", "--faults", "kill")
    assert main(["rehearse", "--plan", str(path), "--dry-run", "--save-plan", "again.json"]) == 0
    assert (place / "again.json").read_bytes() == path.read_bytes()


def test_what_a_plan_fixes_can_not_be_asked_for_beside_it(place: Path, capsys) -> None:
    path = save(place)
    assert main(["rehearse", "--plan", str(path), "--seed", "4", "--nodes", "2", "--dry-run"]) == 4
    assert "--plan fixes the whole rehearsal, so --nodes, --seed would be ignored" in capsys.readouterr().err


def _edited(place: Path, change) -> Path:
    path = save(place)
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    return path


def test_a_plan_that_someone_edited_says_so_and_has_another_digest(place: Path, capsys) -> None:
    path = _edited(place, lambda plan: plan["steps"][1].update(deadline=99.0))
    capsys.readouterr()
    assert main(["rehearse", "--plan", str(path), "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "plan.json was edited, or made by another torchskew" in printed.err
    assert printed.out.splitlines()[0].split("plan ")[-1] not in path.read_text()


def test_an_edited_plan_that_can_not_be_carried_out_is_named_before_anything_runs(place: Path, capsys) -> None:
    path = _edited(place, lambda plan: plan["steps"].pop(0))
    assert main(["rehearse", "--plan", str(path)]) == 4
    assert "can't be carried out: step 2 (train): the job does not run then" in capsys.readouterr().err


def test_a_plan_with_clocks_for_some_of_its_nodes_only_is_refused(place: Path, capsys) -> None:
    path = _edited(place, lambda plan: plan.update(clock_offsets=[1.0]))
    assert main(["rehearse", "--plan", str(path)]) == 4
    assert "clock_offsets must hold one number for each of 4 nodes, or none" in capsys.readouterr().err


def test_a_plan_for_a_runtime_that_does_not_exist_is_refused(place: Path, capsys) -> None:
    path = _edited(place, lambda plan: plan["spec"].update(runtime="moon"))
    assert main(["rehearse", "--plan", str(path)]) == 4
    assert "spec.runtime must be one of auto, docker, venv, got 'moon'" in capsys.readouterr().err


def test_each_step_gets_what_it_asks_for_from_an_earlier_one() -> None:
    assert problems(REHEARSE, [Options, Watch, ExitStack]) == []


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
def test_a_mistake_is_reported_with_its_fix_and_exit_code_4(more: list[str], text: str, capsys) -> None:
    assert main([*ASK, "--runtime", "venv", "--dry-run", *more]) == 4
    assert text in capsys.readouterr().err


class Provisioned:
    """A session on local processes."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.runtime = watch, VenvRuntime()


def saying(**torch: str) -> Nodes:
    """Two interpreters, each of which says which release it is."""
    known = {name: Version(name=name, sources=(), torch=release) for name, release in torch.items()}
    return Nodes(runtime=None, environments={}, known=known)


def undeclared() -> Request:
    asked = spec(old=DeclaredRelease(name="a"), new=DeclaredRelease(name="b"), runtime="venv")
    return Request(asked=RehearsalRequest(runtime="venv", specs=(asked,), versions={}))


@pytest.mark.parametrize(
    ("old", "new", "expects"), [("2.6.0", "2.13.0", Expect.TRAIN), ("2.1.2", "2.2.2", Expect.REFUSE)]
)
def test_what_an_interpreter_says_that_it_is_decides_what_a_mixed_group_must_do(
    progress, capsys, old: str, new: str, expects: Expect
) -> None:
    request = undeclared()
    before = Plans(plans=(make_plan(request.asked.specs[0]),))
    known = plan_with_what_is_known(request, before, Provisioned(progress), saying(a=old, b=new)).plans[0]

    def mixed(plan: RehearsalPlan) -> set[Expect]:
        return {step.action.expect for step in plan.steps if isinstance(step.action, StartJob) and step.mixed}

    assert (mixed(before.plans[0]), mixed(known)) == ({Expect.EITHER}, {expects})
    assert (known.spec.old.torch, known.spec.new.torch) == (old, new)
    assert known.digest in capsys.readouterr().out


def test_a_saved_plan_and_one_of_declared_releases_are_carried_out_as_they_were_printed(progress, capsys) -> None:
    nodes, session = saying(a="2.6.0", b="2.13.0"), Provisioned(progress)
    saved = make_plan(undeclared().asked.specs[0])
    request = Request(asked=undeclared().asked, saved=saved)
    assert plan_with_what_is_known(request, Plans(plans=(saved,)), session, nodes).plans == (saved,)
    known = spec(
        old=DeclaredRelease(name="a", torch="2.6.0"), new=DeclaredRelease(name="b", torch="2.13.0"), runtime="venv"
    )
    request = Request(asked=RehearsalRequest(runtime="venv", specs=(known,), versions={}))
    declared = Plans(plans=(make_plan(known),))
    assert plan_with_what_is_known(request, declared, session, nodes).plans == declared.plans
    assert capsys.readouterr().out == ""


def faults(plan: RehearsalPlan) -> list[str]:
    return [step.action.fault for step in plan.steps if isinstance(step.action, InjectFault)]


def _sick(plan: RehearsalPlan) -> Observation:
    """A cluster on which no pause ever heals."""
    observation = World(plan).observe()
    for step in plan.steps:
        if isinstance(step.action, InjectFault) and step.action.fault == "pause":
            observation = edited(observation, step.number, evidence={"healed": None})
    return observation


def test_a_failing_plan_is_shrunk_to_what_fails_and_can_be_carried_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress, capsys
) -> None:
    plan = make_plan(spec(rollback=True, faults=("kill", "pause"), training_steps=70))
    monkeypatch.setattr(workflow, "carry_out", lambda _nodes, each, _watch, controlled: _sick(each))
    archived = ArchivedRehearsal(folder=tmp_path, observation=_sick(plan))
    nodes = Nodes(runtime=None, environments={})
    request = Request(asked=RehearsalRequest(runtime="venv", specs=(), versions={}))
    shrink_failure(Options(shrink=True), request, Rehearsals(judged=(judged(archived),)), nodes, progress)
    smallest = load((tmp_path / "smallest.json").read_text(), "smallest.json")
    assert len(smallest.steps) < len(plan.steps) / 2
    assert faults(smallest) == ["pause"]
    assert first_problem(smallest.steps, smallest.spec) is None
    printed = capsys.readouterr().out
    assert "smallest plan that still fails R13 (6 runs)" in printed
    assert f"rerun: torchskew rehearse --plan {tmp_path / 'smallest.json'}" in printed


def test_the_first_seed_that_fails_is_the_last_and_is_shrunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress, capsys
) -> None:
    """Seeds without a pause are sound here."""
    specs = tuple(spec(rollback=True, faults=("random",), training_steps=70, seed=seed) for seed in range(26, 40))
    request = Request(asked=RehearsalRequest(runtime="venv", specs=specs, versions={}, search=True))
    plans = tuple(schedules.plan(each, dict.fromkeys(("partition", "slow", "loss", "delay"), "no")) for each in specs)
    monkeypatch.setattr(workflow, "carry_out", lambda _nodes, each, _watch, **_: _sick(each))
    folder, nodes = RunFolder(path=tmp_path, seeded=True), Nodes(runtime=None, environments={})
    done = workflow.rehearse(request, KnownPlans(plans=plans), nodes, folder, progress)
    failing = next(index for index, each in enumerate(plans) if "pause" in each.spec.faults)
    assert failing > 0
    assert [each.finding.verdict for each in done.judged] == [Verdict.PASS] * failing + [Verdict.FAIL]
    assert done.judged[-1].archived.folder.name == f"rolling-seed-{26 + failing}"
    shrink_failure(Options(), request, done, nodes, progress)
    assert "smallest plan that still fails R13" in capsys.readouterr().out
    smallest = load((done.judged[-1].archived.folder / "smallest.json").read_text(), "smallest.json")
    assert "pause" in faults(smallest)


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.torch
def test_an_interrupt_ends_every_container_side_by_side_and_keeps_what_was_seen(place: Path) -> None:
    """Were one ended after another, each would be removed before the next is asked to end."""
    options = ["--runtime", "docker", "--nodes", "4", "--steps", "60", "--checkpoint", "plain", "--timeout", "600"]
    command = [sys.executable, "-m", "torchskew", "rehearse", "-f", str(ROOT / "torchskew.toml"), *ASK[1:], *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "  train" in line:
                break
        with _docker_events() as events:
            there = _containers(run.pid)
            run.send_signal(signal.SIGINT)
            said = run.stderr.read()
            code = run.wait(300)  # the process group's own timeout, which nothing may wait for, is twice that
            assert (code, "interrupted: 2 of " in said) == (2, True), said
            assert _theirs(run.pid) == []
            ends = _ends(events, there)
    assert len(there) >= 4
    assert [action for action, _ in ends].index("destroy") >= 2, ends
    folder = next(place.glob("out/rehearsal-*/rolling"))
    assert main(["report", str(folder)]) == 1


@contextmanager
def _docker_events() -> Iterator[IO[str]]:
    """What the daemon says of our containers from now on, one JSON object a line."""
    command = ["docker", "events", "--since", str(int(time.time())), "--filter", "type=container"]
    command += ["--filter", "label=torchskew.owner", "--format", "{{json .}}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        try:
            assert listener.stdout is not None
            yield listener.stdout
        finally:
            listener.terminate()


def _ends(events: IO[str], containers: set[str]) -> list[tuple[str, str]]:
    """The first order to end each of these, and its removal, in the order in which they happened."""
    ends: list[tuple[str, str]] = []
    while {ident for action, ident in ends if action == "destroy"} != containers:
        event = json.loads(events.readline())
        step = (event["Action"], event["id"])
        if event["id"] in containers and event["Action"] in ("kill", "destroy") and step not in ends:
            ends.append(step)
    return ends


def _containers(pid: int) -> set[str]:
    """Ids of the running containers that a process owns."""
    command = ["docker", "ps", "--no-trunc", "--filter", "label=torchskew.owner"]
    lines = subprocess.check_output([*command, "--format", '{{.ID}} {{.Label "torchskew.owner"}}'], text=True)
    pairs = [line.split(" ", 1) for line in lines.splitlines()]
    return {ident for ident, owner in pairs if owner.startswith(f"{pid}:")}


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
    observed = [step["evidence"]["observed"] for step in told["steps"] if step["do"] == "fault"]
    assert len(observed) == 5 - len(told["unsupported"])
