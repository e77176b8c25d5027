"""The job from outside, with a scripted group: how long a step of the plan may wait."""

from __future__ import annotations

from torchskew.model.rehearsal import CheckpointFormat
from torchskew.workflows.rehearsal import training
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.planned import Train
from torchskew.workflows.rehearsal.training import Live, Training

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
