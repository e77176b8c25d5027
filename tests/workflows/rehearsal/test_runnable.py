"""A saved plan that somebody edited: what can't be carried out is named before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.workflows.rehearsal.model import Do
from torchskew.workflows.rehearsal.plan import make_rehearsal
from torchskew.workflows.rehearsal.runnable import flaw

from tests.workflows.rehearsal.made import spec

PLAN = make_rehearsal(spec(rollback=True, faults=("kill", "pause"), steps=80))
FIRST = {kind: next(step.number for step in PLAN.steps if step.do is kind) for kind in Do}


def test_a_plan_as_it_was_made_can_be_carried_out() -> None:
    assert flaw(PLAN.steps, PLAN.spec) is None


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), "it has no steps"),
        (PLAN.steps[1:], "step 2 (train): the job does not run then"),
        ((PLAN.steps[0], PLAN.steps[0]), "step 1 (start): the job still runs then"),
        (tuple(reversed(PLAN.steps)), "the nodes run 2.6.0, 2.6.0, 2.6.0, 2.6.0 then"),
    ],
)
def test_steps_in_another_order_are_named(steps, text: str) -> None:
    assert text in str(flaw(steps, PLAN.spec))


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        (Do.CHANGE, {"nodes": (7,)}, "nodes must be from 0 to 3"),
        (Do.READ, {"nodes": ()}, "it names no node"),
        (Do.TRAIN, {"until": None}, "until is missing"),
        (Do.FINISH, {"until": 1}, "step 1 of the training lies behind it"),
        (Do.PROBE, {"order": (0, 1)}, "order must hold every node"),
        (Do.FAULT, {"fault": "meteor"}, "fault must be one of kill"),
        (Do.START, {"versions": ("2.6.0", "9.9.9", "2.6.0", "2.6.0")}, "versions must name 2.13.0 or 2.6.0"),
        (Do.START, {"versions": ("2.6.0",)}, "for each of 4 nodes"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_its_step(kind: Do, change: dict, text: str) -> None:
    steps = list(PLAN.steps)
    steps[FIRST[kind] - 1] = replace(steps[FIRST[kind] - 1], **change)
    found = str(flaw(steps, PLAN.spec))
    assert text in found
    assert found.startswith(f"step {FIRST[kind]} ({kind}): ")
