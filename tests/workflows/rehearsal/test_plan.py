"""Plans: the rules that hold for every seed, and golden trees so that a change of the planner shows as a diff."""

from __future__ import annotations

import json
import os
import re
import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from torchskew.errors import ConfigError
from torchskew.faults import FAULTS
from torchskew.faults.together import SHORTEST
from torchskew.model.rehearsal import CheckpointFormat, DeclaredRelease, MixedPolicy, Strategy, StrategyKind
from torchskew.workflows.rehearsal.plan import LONGEST, MOST_STEPS, PROGRESS, make_plan
from torchskew.workflows.rehearsal.plan_file import dump, load
from torchskew.workflows.rehearsal.plan_text import tree
from torchskew.workflows.rehearsal.planned import (
    Expect,
    Finish,
    InjectFault,
    RehearsalPlan,
    ReplaceNodes,
    StageKind,
    StartJob,
    StepKind,
    Train,
)
from torchskew.workflows.rehearsal.validity import first_problem

from tests.conftest import ROOT
from tests.workflows.rehearsal.observations import NEW, OLD, spec

EVERY_FAULT = tuple(FAULTS)
STRATEGIES = ("rolling", "stop-the-world", "host-first", "host-last", "bridged", "group:2", "group:3")
GOLDEN = ROOT / "tests/golden/rehearsal"
CASES = {
    "rolling": spec(),
    "rollback-and-faults": spec(rollback=True, faults=EVERY_FAULT, training_steps=80, seed=7),
    "stop-the-world": spec(strategy="stop-the-world", nodes=2, training_steps=20),
    "refused-host-last": spec(
        old=DeclaredRelease(name="1.13.1", torch="1.13.1"),
        new=DeclaredRelease(name="2.6.0", torch="2.6.0"),
        strategy="host-last",
    ),
    "one-way-host-first": spec(
        old=DeclaredRelease(name="2.2.2", torch="2.2.2"),
        new=DeclaredRelease(name="2.5.1", torch="2.5.1"),
        strategy="host-first",
    ),
    "groups-of-two": spec(strategy="group:2", policy="refuse"),
    "every-rollback": spec(rollback=(1, 2, 3), nodes=3, seed=4),
    "bridged": spec(
        old=DeclaredRelease(name="2.1.2", torch="2.1.2"),
        new=DeclaredRelease(name="2.15.0", torch="2.15.0"),
        strategy="bridged",
        nodes=3,
    ),
    "unknown-release": spec(new=DeclaredRelease(name="site"), nodes=3),
}


def _everywhere(made):
    """The same, rolling back after every replacement where it rolls back at all."""
    after = tuple(range(1, made.strategy.replacements(made.nodes) + 1))
    return replace(made, rollback=replace(made.rollback, after=after) if made.rollback else None)


specs = (
    some.builds(
        spec,
        seed=some.integers(0, 2**32),
        nodes=some.integers(2, 8),
        strategy=some.sampled_from(STRATEGIES),
        policy=some.sampled_from(["interoperate", "refuse", "auto"]),
        faults=some.lists(some.sampled_from(EVERY_FAULT), unique=True).map(tuple),
        rollback=some.booleans(),
        training_steps=some.integers(120, 300),
        checkpoint_every=some.integers(1, 9),
    )
    .filter(lambda made: not made.strategy.bridged or made.policy is not MixedPolicy.REFUSE)
    .flatmap(lambda made: some.booleans().map(lambda everywhere: _everywhere(made) if everywhere else made))
)


@pytest.mark.parametrize("name", CASES)
def test_the_printed_plan_is_the_golden_one(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    got = tree(make_plan(CASES[name], {"delay": "this kernel has no netem"}))
    if os.environ.get("TORCHSKEW_WRITE_GOLDEN"):
        path.write_text(got)
    assert got == path.read_text()


@settings(max_examples=2000, deadline=None)
@given(specs)
def test_every_plan_holds_the_rules(asked) -> None:
    plan = make_plan(asked)
    assert len(plan.steps) <= MOST_STEPS
    assert [step.number for step in plan.steps] == list(range(1, len(plan.steps) + 1))
    assert first_problem(plan.steps, plan.spec) is None
    assert set(faults(plan)) == set(asked.faults)
    assert plan.steps[-1].action == Finish(until=asked.training_steps)
    assert plan.steps[-1].versions == (NEW.name,) * asked.nodes
    _faults_stand_alone(plan)
    _every_stretch_makes_progress(plan)
    assert 0 < plan.estimate < 600
    assert all(step.deadline > 3 * step.estimate for step in plan.steps)


def faults(plan: RehearsalPlan) -> list[str]:
    return [step.action.fault for step in plan.steps if isinstance(step.action, InjectFault)]


def _faults_stand_alone(plan: RehearsalPlan) -> None:
    """Each fault heals within its own step, while the job runs, and training follows before the next one."""
    for at, step in enumerate(plan.steps):
        if isinstance(step.action, InjectFault):
            assert SHORTEST <= step.action.seconds <= min(LONGEST, plan.spec.patience)
            assert 0 <= step.action.node < plan.spec.nodes
            assert plan.steps[at - 1].action == Train(until=step.action.at)
            assert isinstance(plan.steps[at + 1].action, Train | Finish)


def _every_stretch_makes_progress(plan: RehearsalPlan) -> None:
    done = 0
    for step in plan.steps:
        if isinstance(step.action, Train | Finish):
            assert step.action.until - done >= PROGRESS
            done = step.action.until


@settings(max_examples=300, deadline=None)
@given(specs)
def test_the_same_spec_gives_the_same_bytes_and_they_come_back(asked) -> None:
    first = make_plan(asked)
    assert dump(make_plan(asked)) == dump(first)
    assert load(dump(first), "here") == first


@pytest.mark.parametrize(("fault", "least"), [("pause", 1.6), ("partition+loss", 1.6), ("pause+pause+pause", 4.8)])
def test_a_fault_never_stops_the_job_for_longer_than_half_its_timeout(fault: str, least: float) -> None:
    shortest = make_plan(spec(faults=(fault,), timeout=least))
    assert all(step.action.seconds <= least / 2 for step in shortest.steps if isinstance(step.action, InjectFault))
    with pytest.raises(ConfigError, match=f"timeout must be at least {least:g} for '{re.escape(fault)}'"):
        make_plan(spec(faults=(fault,), timeout=least - 0.1))
    make_plan(spec(faults=("loss+slow", "kill"), timeout=0.5))


def test_another_seed_gives_another_plan() -> None:
    trees = {tree(make_plan(spec(seed=seed, rollback=True))) for seed in range(20)}
    assert len(trees) == 20


def test_every_group_is_upgraded_and_every_kind_of_step_is_there() -> None:
    plan = make_plan(spec(rollback=True))
    replaced = [step.action for step in plan.steps if isinstance(step.action, ReplaceNodes)]
    assert {node for action in replaced for node in action.nodes} == {0, 1, 2, 3}
    assert {step.action.kind for step in plan.steps} == set(StepKind) - {StepKind.FAULT}
    assert sum(stage.kind is StageKind.ROLLBACK for stage in plan.stages) == 2


@pytest.mark.parametrize("strategy", ["rolling", "host-first", "host-last", "group:2", "group:3", "stop-the-world"])
def test_a_rollback_after_every_replacement_returns_exactly_what_was_upgraded(strategy: str) -> None:
    asked = _everywhere(spec(strategy=strategy, rollback=True))
    count = asked.strategy.replacements(asked.nodes)
    plan = make_plan(asked)
    rollbacks = [stage for stage in plan.stages if stage.kind is StageKind.ROLLBACK]
    assert [str(stage) for stage in rollbacks] == [f"rollback after {turn} of {count}" for turn in range(1, count + 1)]
    upgraded: set[int] = set()
    for step in plan.steps:
        if isinstance(step.action, ReplaceNodes) and step.stage.kind is StageKind.ROLLBACK:
            assert set(step.action.nodes) == upgraded
            assert set(step.versions) == {OLD.name}
        elif isinstance(step.action, ReplaceNodes) and step.stage.kind is StageKind.UPGRADE:
            upgraded |= set(step.action.nodes)


def test_rollbacks_that_do_not_fit_say_what_would() -> None:
    with pytest.raises(ConfigError, match="Use --steps 150"):
        make_plan(spec(nodes=16, rollback=tuple(range(1, 17))))
    most = make_plan(spec(nodes=16, rollback=tuple(range(1, 17)), training_steps=200, faults=EVERY_FAULT))
    assert len(most.steps) <= MOST_STEPS


@pytest.mark.parametrize(("old", "new"), [("2.14.1", "2.15.0"), ("2.3.1", "2.4.1")])
def test_a_checkpoint_that_the_old_release_can_not_read_is_said_at_planning(old: str, new: str) -> None:
    known = {"old": DeclaredRelease(name=old, torch=old), "new": DeclaredRelease(name=new, torch=new)}
    text = f"predicted: {old} can't read what {new} writes as dcp"
    assert text in tree(make_plan(spec(**known, rollback=True)))
    assert text not in tree(make_plan(spec(**known, rollback=True, formats=(CheckpointFormat.PLAIN,))))
    assert text not in tree(make_plan(spec(**known)))


def test_a_policy_of_refusing_expects_a_refusal_in_every_window() -> None:
    plan = make_plan(spec(policy="refuse"))
    starts = [step for step in plan.steps if isinstance(step.action, StartJob)]
    assert {step.action.expect for step in starts if step.mixed} == {Expect.REFUSE}
    assert {step.action.expect for step in starts if not step.mixed} == {Expect.TRAIN}


def test_auto_follows_the_direction_of_the_store() -> None:
    """A host on 2.5 serves a client of 2.2; a host on 2.2 does not serve one of 2.5."""
    first = make_plan(CASES["one-way-host-first"])
    last = make_plan(replace(CASES["one-way-host-first"], strategy=Strategy(kind=StrategyKind.HOST_LAST)))
    assert {step.action.expect for step in first.steps if isinstance(step.action, StartJob)} == {Expect.TRAIN}
    assert Expect.REFUSE in {step.action.expect for step in last.steps if isinstance(step.action, StartJob)}


def test_a_fault_that_the_runtime_lacks_is_left_out_and_said() -> None:
    plan = make_plan(spec(faults=("kill", "partition")), {"partition": "no network of its own"})
    assert faults(plan) == ["kill"]
    assert "left out: fault partition: no network of its own" in tree(plan)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"faults": ("meteor",)}, "faults must be of kill"),
        ({"nodes": 1}, "nodes must be from 2 to 16"),
        ({"training_steps": 10}, "Use --steps"),
        ({"checkpoint_every": 0}, "steps must be from"),
        ({"rollback": (0, 2, 5)}, "rollback must name replacements from 1 to 4, got 0, 5."),
    ],
)
def test_what_can_not_be_planned_is_said_with_its_fix(wrong, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(spec(**wrong))
    assert text in str(caught.value)


@given(some.text(string.printable, max_size=200))
def test_another_text_is_no_plan(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, "plan.json")
    assert str(caught.value).startswith("plan.json: is not a plan")


def test_a_plan_of_an_older_schema_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load('{"schema": "1.0", "steps": []}', "plan.json")
    reason = "is a plan of schema 1.0, this torchskew reads 2.0. Write a new one with --save-plan."
    assert str(caught.value) == f"plan.json: {reason}"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda plan: plan["steps"][0]["action"].update(kind="dance"), "steps[0].action.kind must be one of start, "),
        (lambda plan: plan["steps"][1]["action"].update(until="3"), "steps[1].action.until must be int, got '3'"),
        (lambda plan: plan["steps"][1]["action"].pop("until"), "steps[1].action.until is missing"),
        (lambda plan: plan["spec"].pop("seed"), "spec.seed is missing"),
        (lambda plan: plan.update(extra=1), "plan.json.extra is unknown"),
    ],
)
def test_a_plan_that_was_edited_wrongly_names_the_path_of_the_field(change, text: str) -> None:
    fields = json.loads(dump(make_plan(spec())))
    change(fields)
    with pytest.raises(ConfigError) as caught:
        load(json.dumps(fields), "plan.json")
    assert text in str(caught.value)
    assert "is not a plan of torchskew rehearse" in str(caught.value)


def test_the_tree_marks_a_step() -> None:
    plan = make_plan(spec())
    marked = [row for row in tree(plan, {7: "--> "}).splitlines() if row.startswith("--> ")]
    assert len(marked) == 1
    assert "  7  " in marked[0]
