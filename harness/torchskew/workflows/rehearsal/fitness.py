"""Whether the job runs on the old release alone: where it does not, a rehearsal says nothing about releases; pure."""

from __future__ import annotations

from torchskew.workflows.rehearsal import causes
from torchskew.workflows.rehearsal.observed import (
    Control,
    ControlKind,
    EndKind,
    Generation,
    Observation,
    Reading,
    State,
)
from torchskew.workflows.rehearsal.planned import Drain, Finish, RehearsalPlan, StartJob, Train

CONTRACT = "docs/rehearsal.md states the contract"


def problem(observation: Observation) -> str | None:
    """Why the job does not run on the old release, before any node was upgraded; None where it does."""
    control = next((each for each in observation.controls if each.name is ControlKind.OLD), None)
    if control is not None and (why := of_control(control, observation.plan)):
        return why
    return _before_the_upgrade(observation)


def of_control(control: Control, plan: RehearsalPlan) -> str | None:
    """Why the control on the old release was not the job that the contract asks for; None where it was.

    A control that only took too long says nothing: a job may be slow.
    """
    generation = control.generation
    ended = tuple(fact for fact in generation.facts if not fact.killed)
    if any(fact.machine is not None or fact.prevented is not None for fact in generation.facts):
        return None
    if any(not fact.finished for fact in ended):
        return causes.sentence(generation.facts, generation.outcomes)
    return _ignores(generation, plan.spec.training_steps) or _unreadable(control.reading)


def _ignores(generation: Generation, last: int) -> str | None:
    """What of the contract a job that ended by itself did not do."""
    reached = max((line.step for line in generation.lines), default=0)
    if reached == 0:
        did = "logged no training step" if generation.end.kind is EndKind.FINISHED else _hung(generation)
        return f"it {did} (TORCHSKEW_LOG); {CONTRACT}"
    if generation.end.kind is not EndKind.FINISHED:
        return None
    if reached != last:
        return f"it ended after training step {reached}, asked for was {last} (TORCHSKEW_STEPS); {CONTRACT}"
    if not generation.commits:
        return f"it committed no checkpoint (TORCHSKEW_CHECKPOINTS, meta.json); {CONTRACT}"
    return None


def _hung(generation: Generation) -> str:
    seconds = generation.ended - generation.begun
    return f"logged no training step within {seconds:.0f} s: {causes.sentence(generation.facts, generation.outcomes)}"


def _unreadable(reading: Reading | None) -> str | None:
    """That the old release can't read what it wrote itself."""
    if reading is None:
        return None
    errors = [reading.error, *(read.error for read in reading.formats.values())]
    error = next((error for error in errors if error is not None), None)
    return None if error is None else f"it can't read its own checkpoint {reading.checkpoint}: {causes.core(error)}"


def _before_the_upgrade(observation: Observation) -> str | None:
    """How the job failed in the plan while every node still ran the old release for the first time."""
    results = {result.number: result for result in observation.results}
    for step in observation.plan.steps:
        if observation.plan.spec.new.name in step.versions:
            return None
        result = results.get(step.number)
        of_job = isinstance(step.action, StartJob | Train | Drain | Finish)
        if of_job and result is not None and result.state is State.FAILED and result.machine is None:
            return f"step {step.number} ({step.action.kind}): {result.why}"
    return None
