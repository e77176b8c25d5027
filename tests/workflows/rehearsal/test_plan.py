"""Plans: the rules that hold for every seed, and golden trees so that a change of the planner shows as a diff."""

from __future__ import annotations

import os
import string
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from torchskew.errors import ConfigError
from torchskew.faults import FAULTS
from torchskew.workflows.rehearsal.model import Do, Expect, Release
from torchskew.workflows.rehearsal.plan import LONGEST, MOST_STEPS, PROGRESS, SHORTEST, make_rehearsal
from torchskew.workflows.rehearsal.runnable import flaw
from torchskew.workflows.rehearsal.strategy import replacements
from torchskew.workflows.rehearsal.text import dump, load, tree

from tests.conftest import ROOT
from tests.workflows.rehearsal.made import NEW, OLD, spec

EVERY_FAULT = tuple(FAULTS)
GOLDEN = ROOT / "tests/golden/rehearsal"
CASES = {
    "rolling": spec(),
    "rollback-and-faults": spec(rollback=True, faults=EVERY_FAULT, steps=80, seed=7),
    "stop-the-world": spec(strategy="stop-the-world", nodes=2, steps=20),
    "refused-host-last": spec(
        old=Release(name="1.13.1", torch="1.13.1"), new=Release(name="2.6.0", torch="2.6.0"), strategy="host-last"
    ),
    "one-way-host-first": spec(
        old=Release(name="2.2.2", torch="2.2.2"), new=Release(name="2.5.1", torch="2.5.1"), strategy="host-first"
    ),
    "groups-of-two": spec(strategy="group:2", policy="refuse"),
    "every-rollback": spec(rollback=True, rollback_after=(1, 2, 3), nodes=3, seed=4),
    "unknown-release": spec(new=Release(name="site"), nodes=3),
}


def _going_back(made, everywhere: bool):
    after = tuple(range(1, replacements(made) + 1)) if everywhere and made.rollback else ()
    return replace(made, rollback_after=after)


specs = some.builds(
    spec,
    seed=some.integers(0, 2**32),
    nodes=some.integers(2, 8),
    strategy=some.sampled_from(["rolling", "stop-the-world", "host-first", "host-last", "group:2", "group:3"]),
    policy=some.sampled_from(["interoperate", "refuse", "auto"]),
    faults=some.lists(some.sampled_from(EVERY_FAULT), unique=True).map(tuple),
    rollback=some.booleans(),
    steps=some.integers(120, 300),
    every=some.integers(1, 9),
).flatmap(lambda made: some.booleans().map(lambda everywhere: _going_back(made, everywhere)))


@pytest.mark.parametrize("name", CASES)
def test_the_printed_plan_is_the_golden_one(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    got = tree(make_rehearsal(CASES[name], {"delay": "this kernel has no netem"}))
    if os.environ.get("TORCHSKEW_WRITE_GOLDEN"):
        path.write_text(got)
    assert got == path.read_text()


@settings(max_examples=2000, deadline=None)
@given(specs)
def test_every_plan_holds_the_rules(wanted) -> None:
    plan = make_rehearsal(wanted)
    assert len(plan.steps) <= MOST_STEPS
    assert [step.number for step in plan.steps] == list(range(1, len(plan.steps) + 1))
    assert flaw(plan.steps, plan.spec) is None
    assert {step.fault for step in plan.steps if step.fault} == set(wanted.faults)
    assert plan.steps[-1].do is Do.FINISH
    assert plan.steps[-1].until == wanted.steps
    assert plan.steps[-1].versions == (NEW.name,) * wanted.nodes
    _faults_stand_alone(plan)
    _every_stretch_makes_progress(plan)
    assert 0 < plan.estimate < 600
    assert all(step.deadline > 3 * step.estimate for step in plan.steps)


def _faults_stand_alone(plan) -> None:
    """Each fault heals within its own step, while the job runs, and training follows before the next one."""
    for at, step in enumerate(plan.steps):
        if step.do is Do.FAULT:
            assert SHORTEST <= step.lasts <= LONGEST
            assert len(step.nodes) == 1
            assert 0 <= step.nodes[0] < plan.spec.nodes
            assert plan.steps[at - 1].do is Do.TRAIN
            assert plan.steps[at - 1].until == step.until
            assert plan.steps[at + 1].do in (Do.TRAIN, Do.FINISH)


def _every_stretch_makes_progress(plan) -> None:
    done = 0
    for step in plan.steps:
        if step.do in (Do.TRAIN, Do.FINISH):
            assert step.until - done >= PROGRESS
            done = step.until


@settings(max_examples=300, deadline=None)
@given(specs)
def test_the_same_spec_gives_the_same_bytes_and_they_come_back(wanted) -> None:
    first = make_rehearsal(wanted)
    assert dump(make_rehearsal(wanted)) == dump(first)
    assert load(dump(first), "here") == first


def test_another_seed_gives_another_plan() -> None:
    trees = {tree(make_rehearsal(spec(seed=seed, rollback=True))) for seed in range(20)}
    assert len(trees) == 20


def test_every_group_is_upgraded_and_every_hook_is_there() -> None:
    plan = make_rehearsal(spec(rollback=True))
    changes = [step for step in plan.steps if step.do is Do.CHANGE]
    assert {node for step in changes for node in step.nodes} == {0, 1, 2, 3}
    for kind in Do:
        assert any(step.do is kind for step in plan.steps) or kind is Do.FAULT
    assert sum("rollback" in stage for stage in dict.fromkeys(step.stage for step in plan.steps)) == 2


def _turns(plan) -> list[str]:
    return [stage for stage in dict.fromkeys(step.stage for step in plan.steps) if stage.startswith("rollback")]


@pytest.mark.parametrize("strategy", ["rolling", "host-first", "host-last", "group:2", "group:3", "stop-the-world"])
def test_a_rollback_after_every_replacement_returns_exactly_what_was_upgraded(strategy: str) -> None:
    count = replacements(spec(strategy=strategy))
    plan = make_rehearsal(spec(strategy=strategy, rollback=True, rollback_after=tuple(range(1, count + 1))))
    assert _turns(plan) == [f"rollback after {turn} of {count}" for turn in range(1, count + 1)]
    upgraded: set[int] = set()
    for step in plan.steps:
        if step.do is Do.CHANGE and step.stage.startswith("rollback"):
            assert set(step.nodes) == upgraded
            assert set(step.versions) == {OLD.name}
        elif step.do is Do.CHANGE and not step.stage.startswith("upgrade again"):
            upgraded |= set(step.nodes)


def test_rollbacks_that_do_not_fit_say_what_would() -> None:
    with pytest.raises(ConfigError, match="Use --steps 150"):
        make_rehearsal(spec(nodes=16, rollback=True, rollback_after=tuple(range(1, 17))))
    most = make_rehearsal(
        spec(nodes=16, rollback=True, rollback_after=tuple(range(1, 17)), steps=200, faults=EVERY_FAULT)
    )
    assert len(most.steps) <= MOST_STEPS


@pytest.mark.parametrize(("old", "new"), [("2.14.1", "2.15.0"), ("2.3.1", "2.4.1")])
def test_a_checkpoint_that_the_old_release_can_not_read_is_said_at_planning(old: str, new: str) -> None:
    known = {"old": Release(name=old, torch=old), "new": Release(name=new, torch=new)}
    said = f"predicted: {old} can't read what {new} writes as dcp"
    assert said in tree(make_rehearsal(spec(**known, rollback=True)))
    assert said not in tree(make_rehearsal(spec(**known, rollback=True, formats=("plain",))))
    assert said not in tree(make_rehearsal(spec(**known)))


def test_a_policy_of_refusing_expects_a_refusal_in_every_window() -> None:
    plan = make_rehearsal(spec(policy="refuse"))
    starts = [step for step in plan.steps if step.do is Do.START]
    assert {step.expect for step in starts if step.mixed} == {Expect.REFUSE}
    assert {step.expect for step in starts if not step.mixed} == {Expect.TRAIN}


def test_auto_follows_the_direction_of_the_store() -> None:
    """A host on 2.5 serves a client of 2.2; a host on 2.2 does not serve one of 2.5."""
    first = make_rehearsal(CASES["one-way-host-first"])
    last = make_rehearsal(replace(CASES["one-way-host-first"], strategy="host-last"))
    assert {step.expect for step in first.steps if step.do is Do.START} == {Expect.TRAIN}
    assert Expect.REFUSE in {step.expect for step in last.steps if step.do is Do.START}


def test_a_fault_that_the_runtime_lacks_is_left_out_and_said() -> None:
    plan = make_rehearsal(spec(faults=("kill", "partition")), {"partition": "no network of its own"})
    assert [step.fault for step in plan.steps if step.fault] == ["kill"]
    assert "left out: fault partition: no network of its own" in tree(plan)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"strategy": "sideways"}, "strategy must be one of rolling"),
        ({"strategy": "group:0"}, "strategy must be one of"),
        ({"policy": "hope"}, "policy must be one of"),
        ({"faults": ("meteor",)}, "faults must be of kill"),
        ({"nodes": 1}, "nodes must be from 2 to 16"),
        ({"steps": 10}, "Use --steps"),
        ({"every": 0}, "steps must be from"),
        ({"rollback": True, "rollback_after": (0, 2, 5)}, "rollback must name replacements from 1 to 4, got 0, 5."),
    ],
)
def test_what_can_not_be_planned_is_said_with_its_mend(wrong, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_rehearsal(spec(**wrong))
    assert text in str(caught.value)


@given(some.text(string.printable, max_size=200))
def test_another_text_is_no_plan(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, "plan.json")
    assert str(caught.value).startswith("plan.json: is not a plan")


def test_the_tree_marks_a_step() -> None:
    plan = make_rehearsal(spec())
    marked = [row for row in tree(plan, {7: "--> "}).splitlines() if row.startswith("--> ")]
    assert len(marked) == 1
    assert "  7  " in marked[0]
