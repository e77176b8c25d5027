"""The conductor with a scripted job: what ends a step badly, and that a fault is undone however it went."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew import faults
from torchskew.errors import MachineError
from torchskew.model.outcomes import Outcome
from torchskew.workflows.rehearsal.conduct import Conductor
from torchskew.workflows.rehearsal.observed import (
    CollectiveEvidence,
    End,
    EndKind,
    FaultEvidence,
    Health,
    StartAttempt,
    StartResult,
    State,
    StepResult,
)
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.planned import Action, Collective, Expect, InjectFault, StartJob, Step

from tests.workflows.rehearsal.observations import spec

PLAN = make_plan(spec(policy="refuse", faults=("kill", "pause"), training_steps=60))


class Job:
    """A training job that does what its script says, and remembers what was asked of it."""

    def __init__(self, **script) -> None:
        self.script, self.asked, self.live, self.deadline = script, [], object(), 0.0

    def starts(self, step: Step, hold: int | None):
        del step, hold
        yield StartAttempt(checkpoint=None, formats=(), result=self.script["start"])

    def collective(self, order, versions) -> CollectiveEvidence:
        del order
        return CollectiveEvidence(outcomes=(Outcome(self.script["collective"]),) * len(versions))

    def end(self, end: End, *, kill: bool = False) -> None:
        self.asked.append((end, kill))

    def healthy(self) -> Health:
        return Health(healthy=True)

    def release(self, until: int | None) -> None:
        self.asked.append(("release", until))

    def died_of_a_fault(self) -> bool:
        self.asked.append("has it died?")
        return bool(self.script["dies"])


class Nodes:
    """A cluster that is asked nothing."""

    def prefetch(self, *wanted) -> None:
        del wanted

    def versions(self) -> tuple[str, ...]:
        return ("2.6.0",) * 4


class Fails:
    """A fault that comes half-way, and can be undone."""

    name = "pause"

    def __init__(self) -> None:
        self.healed_by = 0

    def inject(self, target) -> None:
        del target
        raise MachineError("the second rule was refused")

    def heal(self, target) -> None:
        del target
        self.healed_by += 1


class Deadly:
    """A fault that is seen to come, and after which the job does not go on."""

    name = "pause"

    def inject(self, target) -> None:
        del target

    heal = inject

    def observed(self, target, lasts: float) -> str:
        del target, lasts
        return "it came"

    def healed(self, target, seconds: float) -> None:
        del target, seconds


def carried_out(step: Step, job: Job, timeout: float = PLAN.spec.timeout) -> StepResult:
    """One step of the plan; its result."""
    plan = replace(PLAN, spec=replace(PLAN.spec, timeout=timeout))
    conductor = Conductor(plan, Nodes(), lambda _: None)
    conductor.training = job
    conductor._step(step)
    return conductor.results[-1]


def first(kind: type[Action], **like) -> Step:
    fits = (step for step in PLAN.steps if isinstance(step.action, kind))
    return next(step for step in fits if all(getattr(step.action, name) == value for name, value in like.items()))


def test_a_group_that_trains_where_it_had_to_refuse_is_a_failure_and_is_ended() -> None:
    job = Job(start=StartResult.TRAINS)
    result = carried_out(first(StartJob, expect=Expect.REFUSE), job)
    assert result.state is State.FAILED
    assert result.why == "mixed silently: the job trains where every rank had to refuse"
    assert job.asked == [(End(kind=EndKind.STOPPED), True)]


def test_a_refusal_that_was_planned_is_done() -> None:
    assert carried_out(first(StartJob, expect=Expect.REFUSE), Job(start=StartResult.REFUSED)).state is State.DONE


def test_a_refusal_where_the_job_had_to_train_is_a_failure() -> None:
    assert carried_out(first(StartJob, expect=Expect.TRAIN), Job(start=StartResult.REFUSED)).state is State.FAILED


@pytest.mark.parametrize("outcome", ["OK", "HANG", "OPAQUE"])
def test_a_collective_that_was_to_be_refused_and_was_not_is_a_failure(outcome: str) -> None:
    result = carried_out(first(Collective, expect=Expect.REFUSE), Job(collective=outcome))
    assert result.state is State.FAILED
    assert result.why.startswith("every rank had to refuse")


def test_a_fault_that_came_half_way_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = Fails()
    step = first(InjectFault, fault="pause")
    monkeypatch.setattr(faults, "fault", lambda _: fails)
    result = carried_out(step, Job())
    assert (result.state, result.machine) == (State.FAILED, "the second rule was refused")
    assert result.evidence == FaultEvidence(before=Health(healthy=True))
    assert fails.healed_by == 1


@pytest.mark.parametrize(("timeout", "dies", "machine"), [(0.0, True, True), (0.0, False, False), (1e6, True, False)])
def test_a_job_that_dies_of_a_fault_longer_than_its_own_timeout_dies_by_our_fault_and_starts_again(
    monkeypatch: pytest.MonkeyPatch, timeout: float, dies: bool, machine: bool
) -> None:
    monkeypatch.setattr(faults, "fault", lambda _: Deadly())
    job = Job(dies=dies)
    result = carried_out(first(InjectFault, fault="pause"), job, timeout)
    assert result.state is State.FAILED
    assert ("no release's fault" in (result.machine or "")) is machine
    assert ("nothing shows that pause healed" in result.why) is not machine
    assert ("has it died?" in job.asked) is (timeout == 0.0)
