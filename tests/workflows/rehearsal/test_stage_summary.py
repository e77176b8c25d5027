"""The table of stages: what ran mixed, where it stopped, and what it cost, counted from what ranks logged."""

from __future__ import annotations

from dataclasses import replace

from torchskew.model.rehearsal import CheckpointFormat, DeclaredRelease
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import StartAttempt, StartResult, State
from torchskew.workflows.rehearsal.planned import StageKind, StartJob, Train
from torchskew.workflows.rehearsal.stage_summary import NOT_REACHED, summarise

from tests.workflows.rehearsal.observations import healthy
from tests.workflows.rehearsal.test_judge import edited, first


def test_every_stage_has_a_line_and_their_sums_are_the_rehearsals() -> None:
    observation = healthy(rollback=(1, 2, 3, 4), faults=("kill",))
    summaries, finding = summarise(observation), judge(observation)
    assert [each.stage for each in summaries] == list(observation.plan.stages)
    assert sum(each.steps for each in summaries) == observation.plan.spec.training_steps
    assert sum(each.redone for each in summaries) == finding.redone
    assert abs(sum(each.idle for each in summaries) - finding.idle) < 0.01 * len(summaries)
    assert not any(each.bad for each in summaries)
    assert {each.result.split(" from ")[0] for each in summaries} == {"trains"}


def test_each_rollback_says_what_it_started_from_and_on_which_nodes() -> None:
    summaries = {str(each.stage): each for each in summarise(healthy(rollback=(2,)))}
    assert summaries["upgrade 2 of 4"].group.split(", ")[0].startswith("2 on ")
    assert summaries["rollback after 2 of 4"].group == "4 on 2.6.0"
    assert summaries["rollback after 2 of 4"].result.startswith("trains from step-")


def test_a_refused_window_and_a_failed_step_are_told_apart() -> None:
    refusing = healthy(
        old=DeclaredRelease(name="1.13.1", torch="1.13.1"), new=DeclaredRelease(name="2.6.0", torch="2.6.0")
    )
    refused = next(each for each in summarise(refusing) if len(set(each.versions)) > 1)
    assert (refused.result, refused.bad) == ("refused", False)
    observation = healthy()
    number = first(observation, Train, mixed=True)
    broken = summarise(edited(observation, number, state=State.FAILED))
    assert [each.result for each in broken if each.bad] == [
        f"trains from {observation.generations[0].commits[-1].name}; step {number} failed"
    ]


def test_a_start_that_needed_a_kept_checkpoint_counts_its_attempts() -> None:
    observation = healthy(rollback=True)
    rollback = (step for step in observation.plan.steps if step.stage.kind is StageKind.ROLLBACK)
    number = next(step.number for step in rollback if isinstance(step.action, StartJob))
    attempts = tuple(
        StartAttempt(checkpoint="step-00002-g1", formats=(CheckpointFormat.DCP,), result=result)
        for result in (StartResult.FAILED, StartResult.TRAINS)
    )
    summaries = summarise(edited(observation, number, evidence={"attempts": attempts}))
    summary = next(each for each in summaries if each.bad)
    assert summary.result == "trains from step-00002-g1, at attempt 2"


def test_what_an_interrupted_rehearsal_did_not_reach_is_said_so() -> None:
    observation = healthy()
    summaries = summarise(
        replace(observation, results=observation.results[:2], generations=observation.generations[:1])
    )
    assert {each.result for each in summaries[1:]} == {NOT_REACHED}
    assert all(each.bad for each in summaries[1:])
