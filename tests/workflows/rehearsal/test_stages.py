"""The table of stages: what ran mixed, where it stopped, and what it cost, counted from what ranks logged."""

from __future__ import annotations

from dataclasses import replace

from torchskew.workflows.rehearsal.judge import PAUSE, judge
from torchskew.workflows.rehearsal.model import Do, Release, State
from torchskew.workflows.rehearsal.stages import NOT_REACHED, stages

from tests.workflows.rehearsal.made import sound
from tests.workflows.rehearsal.test_judge import edited


def test_every_stage_has_a_line_and_their_sums_are_the_rehearsals() -> None:
    seen = sound(rollback=True, rollback_after=(1, 2, 3, 4), faults=("kill",))
    found, finding = stages(seen, PAUSE), judge(seen)
    assert [one.name for one in found] == list(dict.fromkeys(step.stage for step in seen.plan.steps))
    assert sum(one.steps for one in found) == seen.plan.spec.steps
    assert sum(one.redone for one in found) == finding.redone
    assert abs(sum(one.idle for one in found) - finding.idle) < 0.01 * len(found)
    assert not any(one.bad for one in found)
    assert {one.came_to.split(" from ")[0] for one in found} == {"trains"}


def test_each_rollback_says_what_it_started_from_and_on_which_nodes() -> None:
    found = {one.name: one for one in stages(sound(rollback=True, rollback_after=(2,)), PAUSE)}
    assert found["upgrade 2 of 4"].group.split(", ")[0].startswith("2 on ")
    assert found["rollback after 2 of 4"].group == "4 on 2.6.0"
    assert found["rollback after 2 of 4"].came_to.startswith("trains from step-")


def test_a_refused_window_and_a_failed_step_are_told_apart() -> None:
    refusing = sound(old=Release(name="1.13.1", torch="1.13.1"), new=Release(name="2.6.0", torch="2.6.0"))
    refused = next(one for one in stages(refusing, PAUSE) if len(set(one.versions)) > 1)
    assert (refused.came_to, refused.bad) == ("refused", False)
    seen = sound()
    number = next(step.number for step in seen.plan.steps if step.do is Do.TRAIN and step.mixed)
    broken = stages(edited(seen, number, state=State.FAILED), PAUSE)
    assert [one.came_to for one in broken if one.bad] == [
        f"trains from {seen.generations[0].commits[-1].name}; step {number} failed"
    ]


def test_a_start_that_needed_a_kept_checkpoint_counts_its_attempts() -> None:
    seen = sound(rollback=True)
    number = next(s.number for s in seen.plan.steps if s.do is Do.START and s.stage.startswith("rollback"))
    kept = {"checkpoint": "step-00002-g1", "formats": ["dcp"]}
    tried = [{**kept, "outcome": "OPAQUE"}, {**kept, "outcome": "trains"}]
    one = next(one for one in stages(edited(seen, number, evidence={"starts": tried}), PAUSE) if one.bad)
    assert one.came_to == "trains from step-00002-g1, at attempt 2"


def test_what_an_interrupted_rehearsal_did_not_reach_is_said_so() -> None:
    seen = sound()
    found = stages(replace(seen, results=seen.results[:2], generations=seen.generations[:1]), PAUSE)
    assert {one.came_to for one in found[1:]} == {NOT_REACHED}
    assert all(one.bad for one in found[1:])
