"""Shrinking: whatever makes a plan fail stays in, nearly everything else goes, and the bound holds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some
from torchskew.workflows.rehearsal.model import Do
from torchskew.workflows.rehearsal.plan import make_rehearsal
from torchskew.workflows.rehearsal.runnable import flaw
from torchskew.workflows.rehearsal.shrink import shrink, units, without

from tests.workflows.rehearsal.made import spec

PLAN = make_rehearsal(spec(rollback=True, faults=("kill", "pause", "partition"), steps=80))


def test_a_fault_that_fails_a_plan_stays_and_the_rest_goes() -> None:
    found = shrink(PLAN, lambda plan: any(step.fault == "pause" for step in plan.steps), runs=60)
    assert not found.bounded
    assert [step.fault for step in found.plan.steps if step.fault] == ["pause"]
    assert len(found.plan.steps) < len(PLAN.steps) / 3
    assert flaw(found.plan.steps, PLAN.spec) is None


def test_what_is_left_says_nothing_about_stages_that_are_gone() -> None:
    found = shrink(PLAN, lambda plan: any(step.fault == "pause" for step in plan.steps), runs=60).plan
    assert len(found.notes) < len(PLAN.notes)
    assert {note.split(" (")[0] for note in found.notes} <= {step.stage for step in found.steps}


def test_two_parts_that_only_fail_together_both_stay() -> None:
    def fails(plan) -> bool:
        faults = {step.fault for step in plan.steps}
        return {"kill", "partition"} <= faults

    found = shrink(PLAN, fails, runs=80)
    assert {step.fault for step in found.plan.steps if step.fault} == {"kill", "partition"}


def test_a_rollback_that_fails_a_plan_stays_with_what_it_needs() -> None:
    def fails(plan) -> bool:
        return any(step.do is Do.READ and step.stage.startswith("rollback after 4") for step in plan.steps)

    found = shrink(PLAN, fails, runs=80)
    assert fails(found.plan)
    assert flaw(found.plan.steps, PLAN.spec) is None
    assert len(found.plan.steps) < len(PLAN.steps)


def test_the_bound_on_runs_holds_and_is_said() -> None:
    calls = []
    found = shrink(PLAN, lambda plan: bool(calls.append(plan)), runs=3)
    assert found.bounded
    assert len(calls) == found.runs == 3
    assert found.plan == PLAN


@settings(max_examples=200, deadline=None)
@given(some.data())
def test_what_is_left_out_never_leaves_a_plan_that_can_not_run(data) -> None:
    chosen = data.draw(some.lists(some.sampled_from(units(PLAN)), unique=True))
    made = without(PLAN, chosen)
    if made is not None:
        assert flaw(made.steps, PLAN.spec) is None
        assert [step.number for step in made.steps] == list(range(1, len(made.steps) + 1))
