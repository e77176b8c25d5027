"""The conductor with a scripted job: what ends a step badly, and that a fault is undone however it went."""

from __future__ import annotations

import pytest
from torchskew import faults
from torchskew.errors import MachineError
from torchskew.model.outcomes import Outcome
from torchskew.workflows.rehearsal.conduct import Conductor
from torchskew.workflows.rehearsal.model import Do, Expect, State, Step
from torchskew.workflows.rehearsal.plan import make_rehearsal

from tests.workflows.rehearsal.made import spec

PLAN = make_rehearsal(spec(policy="refuse", faults=("kill", "pause"), steps=60))


class Job:
    """A training job that does what its script says, and remembers what was asked of it."""

    def __init__(self, **script) -> None:
        self.script, self.asked, self.live, self.deadline = script, [], object(), 0.0

    def start(self, step: Step, evidence: dict) -> str:
        del step, evidence
        return str(self.script["start"])

    def probe(self, step: Step):
        ranks = len(step.versions)
        return (Outcome(self.script["probe"]),) * ranks, {"wrong": []}

    def end(self, why: str, *, kill: bool = False) -> None:
        self.asked.append((why, kill))

    def healthy(self):
        return {"healthy": True}

    def release(self, until: int | None) -> None:
        self.asked.append(("release", until))


class Nodes:
    """A cluster of which nobody asks anything."""

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


def carried_out(step: Step, job: Job):
    """One step of the plan; its result."""
    conductor = Conductor(PLAN, Nodes(), lambda _: None)
    conductor.training = job
    conductor._step(step)
    return conductor.results[-1]


def first(kind: Do, **like) -> Step:
    fits = (one for one in PLAN.steps if one.do is kind)
    return next(one for one in fits if all(getattr(one, name) == value for name, value in like.items()))


def test_a_group_that_trains_where_it_was_to_refuse_is_a_failure_and_is_ended() -> None:
    job = Job(start="trains")
    result = carried_out(first(Do.START, expect=Expect.REFUSE), job)
    assert result.state is State.FAILED
    assert result.why == "mixed silently: the job trains where every rank was to refuse"
    assert job.asked == [("stopped: it was to refuse", True)]


def test_a_refusal_that_was_planned_is_done() -> None:
    assert carried_out(first(Do.START, expect=Expect.REFUSE), Job(start="refused")).state is State.DONE


def test_a_refusal_where_the_job_was_to_train_is_a_failure() -> None:
    assert carried_out(first(Do.START, expect=Expect.TRAIN), Job(start="refused")).state is State.FAILED


@pytest.mark.parametrize("outcome", ["OK", "HANG", "OPAQUE"])
def test_a_collective_that_was_to_be_refused_and_was_not_is_a_failure(outcome: str) -> None:
    result = carried_out(first(Do.PROBE, expect=Expect.REFUSE), Job(probe=outcome))
    assert result.state is State.FAILED
    assert result.why.startswith("was to be refused on every rank")


def test_a_fault_that_came_half_way_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = Fails()
    step = first(Do.FAULT, fault="pause")
    monkeypatch.setattr(faults, "fault", lambda _: fails)
    result = carried_out(step, Job())
    assert (result.state, result.evidence["machine"]) == (State.FAILED, "the second rule was refused")
    assert fails.healed_by == 1
