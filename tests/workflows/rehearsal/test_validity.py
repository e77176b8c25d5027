"""A saved plan that someone edited: what can't be carried out is named before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.planned import StepKind
from torchskew.workflows.rehearsal.validity import first_problem

from tests.workflows.rehearsal.observations import spec

PLAN = make_plan(spec(rollback=True, faults=("kill", "pause"), training_steps=80))
FIRST = {kind: next(step.number for step in PLAN.steps if step.action.kind is kind) for kind in StepKind}


def test_a_plan_as_it_was_made_can_be_carried_out() -> None:
    assert first_problem(PLAN.steps, PLAN.spec) is None


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), "it has no steps"),
        (PLAN.steps[1:], "step 2 (train): the job does not run then"),
        ((PLAN.steps[0], PLAN.steps[0]), "step 1 (start): the job still runs then"),
        (tuple(reversed(PLAN.steps)), "the nodes then run 2.6.0, 2.6.0, 2.6.0, 2.6.0"),
    ],
)
def test_steps_in_another_order_are_named(steps, text: str) -> None:
    assert text in str(first_problem(steps, PLAN.spec))


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        (StepKind.REPLACE, {"nodes": (7,)}, "nodes must be from 0 to 3"),
        (StepKind.REPLACE, {"nodes": ()}, "it names no node"),
        (StepKind.FINISH, {"until": 1}, "the training is already past step 1"),
        (StepKind.COLLECTIVE, {"order": (0, 1)}, "order must hold every node"),
        (StepKind.FAULT, {"fault": "meteor"}, "fault must be one of kill"),
        (StepKind.START, {"versions": ("2.6.0", "9.9.9", "2.6.0", "2.6.0")}, "versions must name 2.13.0 or 2.6.0"),
        (StepKind.START, {"versions": ("2.6.0",)}, "for each of 4 nodes"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_its_step(kind: StepKind, change: dict, text: str) -> None:
    steps = list(PLAN.steps)
    step = steps[FIRST[kind] - 1]
    changed = replace(step, **change) if "versions" in change else replace(step, action=replace(step.action, **change))
    steps[FIRST[kind] - 1] = changed
    problem = str(first_problem(steps, PLAN.spec))
    assert text in problem
    assert problem.startswith(f"step {FIRST[kind]} ({kind}): ")
