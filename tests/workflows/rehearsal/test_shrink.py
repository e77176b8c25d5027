"""Shrinking: whatever makes a plan fail stays in, nearly everything else goes, and the bound holds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.planned import GroupPrediction, InjectFault, ReadCheckpoint, StageKind
from torchskew.workflows.rehearsal.shrink import shrink, units, without
from torchskew.workflows.rehearsal.validity import first_problem

from tests.workflows.rehearsal.observations import spec

PLAN = make_plan(spec(rollback=True, faults=("kill", "pause", "partition"), training_steps=80))


def faults(plan) -> list[str]:
    return [step.action.fault for step in plan.steps if isinstance(step.action, InjectFault)]


def test_a_fault_that_fails_a_plan_stays_and_the_rest_goes() -> None:
    shrunk = shrink(PLAN, lambda plan: "pause" in faults(plan), runs=60)
    assert not shrunk.bounded
    assert faults(shrunk.plan) == ["pause"]
    assert len(shrunk.plan.steps) < len(PLAN.steps) / 3
    assert first_problem(shrunk.plan.steps, PLAN.spec) is None


def test_what_is_left_says_nothing_about_stages_that_are_gone() -> None:
    shrunk = shrink(PLAN, lambda plan: "pause" in faults(plan), runs=60).plan
    assert len(shrunk.predictions) < len(PLAN.predictions)
    predicted = {each.stage for each in shrunk.predictions if isinstance(each, GroupPrediction)}
    assert predicted <= set(shrunk.stages)


def test_two_parts_that_only_fail_together_both_stay() -> None:
    def fails(plan) -> bool:
        return {"kill", "partition"} <= set(faults(plan))

    shrunk = shrink(PLAN, fails, runs=80)
    assert set(faults(shrunk.plan)) == {"kill", "partition"}


def test_a_rollback_that_fails_a_plan_stays_with_what_it_needs() -> None:
    def fails(plan) -> bool:
        return any(
            isinstance(step.action, ReadCheckpoint)
            and step.stage.kind is StageKind.ROLLBACK
            and step.stage.replaced == 4
            for step in plan.steps
        )

    shrunk = shrink(PLAN, fails, runs=80)
    assert fails(shrunk.plan)
    assert first_problem(shrunk.plan.steps, PLAN.spec) is None
    assert len(shrunk.plan.steps) < len(PLAN.steps)


def test_the_bound_on_runs_holds_and_is_said() -> None:
    calls = []
    shrunk = shrink(PLAN, lambda plan: bool(calls.append(plan)), runs=3)
    assert shrunk.bounded
    assert len(calls) == shrunk.runs == 3
    assert shrunk.plan == PLAN


@settings(max_examples=200, deadline=None)
@given(some.data())
def test_what_is_left_out_never_leaves_a_plan_that_can_not_run(data) -> None:
    chosen = data.draw(some.lists(some.sampled_from(units(PLAN)), unique=True))
    made = without(PLAN, chosen)
    if made is not None:
        assert first_problem(made.steps, PLAN.spec) is None
        assert [step.number for step in made.steps] == list(range(1, len(made.steps) + 1))
