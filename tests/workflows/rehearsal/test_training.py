"""The job from outside, with a scripted group: how long a step of the plan may wait."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.model.rehearsal import CheckpointFormat, Script
from torchskew.workflows.rehearsal import training
from torchskew.workflows.rehearsal.observed import (
    BridgeUse,
    Commit,
    End,
    EndKind,
    Generation,
    StartAttempt,
    StartResult,
)
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.planned import StartJob, Train
from torchskew.workflows.rehearsal.training import Failed, Live, Training

from tests.workflows.rehearsal.observations import spec


class Group:
    """Ranks that are at a step as soon as someone waits for it, and how long that was."""

    def __init__(self) -> None:
        self.waited, self.ranks, self.versions, self.step = 0.0, [], (), 0

    def wait_until(self, seconds: float, done) -> bool:
        self.waited, self.step = seconds, 10_000
        return done()

    def common_step(self) -> int:
        return self.step

    def end_within(self, seconds: float) -> None:
        self.waited = seconds

    def facts(self) -> tuple:
        return ()


def test_a_long_stretch_of_training_gets_all_the_time_that_its_plan_gives_it(monkeypatch) -> None:
    plan = make_plan(spec(training_steps=10_000, strategy="stop-the-world"))
    longest = max((step for step in plan.steps if isinstance(step.action, Train)), key=lambda step: step.deadline)
    assert longest.deadline > 300
    monkeypatch.setattr(training.time, "monotonic", lambda: 1000.0)
    job = Training(plan.spec, None)
    group = Group()
    job.live = Live(number=1, step=1, group=group, begun=0.0, resumed=None, folder="", node=0)
    monkeypatch.setattr(job, "release", lambda until: None)
    job.deadline = 1000.0 + longest.deadline
    job.advance(longest.action.until)
    assert group.waited == longest.deadline


DCP, PLAIN, PARTIAL = CheckpointFormat.DCP, CheckpointFormat.PLAIN, CheckpointFormat.PARTIAL


@pytest.mark.parametrize(
    ("formats", "script", "ways"),
    [
        ((DCP,), None, [(DCP,), (PARTIAL,)]),
        ((DCP,), Script(name="train.py", text=""), [(DCP,)]),
        ((DCP, PLAIN), None, [(DCP, PLAIN), (PLAIN,)]),
        ((PARTIAL,), None, [(PARTIAL,)]),
        ((PLAIN,), None, [(PLAIN,)]),
    ],
)
def test_where_a_checkpoint_can_not_be_loaded_the_job_goes_on_another_way(formats, script, ways) -> None:
    job = Training(spec(formats=formats, script=script), None)
    job.commits = [Commit(name="step-5-g1", step=5, at=1.0, by="2.6.0")]
    start = next(step for step in make_plan(spec()).steps if isinstance(step.action, StartJob))
    assert [way for _, way in job._candidates(start)] == ways


def test_a_restart_after_a_fault_takes_the_formats_that_its_start_found_to_work(monkeypatch) -> None:
    job = Training(spec(formats=(CheckpointFormat.DCP, CheckpointFormat.PLAIN)), None)
    group = Group()
    job.live = Live(
        number=1, step=7, group=group, begun=0.0, resumed=None, folder="", node=0, formats=(CheckpointFormat.PLAIN,)
    )  # fmt: skip
    launched = []
    monkeypatch.setattr(job, "end", lambda end: None)
    monkeypatch.setattr(job, "launch", lambda *how: launched.append(how))
    job.restart()
    assert launched == [((), None, (CheckpointFormat.PLAIN,), 7)]


def test_a_script_that_hosts_a_store_where_its_bridge_listens_is_told_how_to_meet_there(monkeypatch) -> None:
    """Releases such as 2.1.2; later ones become clients by themselves."""
    job = Training(spec(strategy="bridged"), None)
    taken = "DistNetworkError: The server socket has failed to listen … (errno: 98 - Address already in use)."
    end = End(kind=EndKind.FAILED, detail=taken)
    bare = Generation(number=1, step=1, versions=("2.1.2",) * 4, begun=0.0, ended=1.0, end=end)
    failed = StartAttempt(checkpoint=None, formats=(), result=StartResult.FAILED)
    start = next(step for step in make_plan(job.spec).steps if isinstance(step.action, StartJob))
    for use, told in ((BridgeUse(), True), (None, False)):
        job.generations = [replace(bare, bridge=use)]
        monkeypatch.setattr(job, "_try", lambda *_: failed)
        with pytest.raises(Failed) as caught:
            list(job.starts(start, None))
        assert taken in str(caught.value)
        assert ('Use init_method="env://" (docs/rehearsal.md).' in str(caught.value)) is told
