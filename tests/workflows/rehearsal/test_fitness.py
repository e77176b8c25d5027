"""A job that does not run on the old release alone: unknown, with its error, and no verdict on releases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.rehearsal import Script
from torchskew.workflows.rehearsal import fitness
from torchskew.workflows.rehearsal.findings import Answer
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import (
    ControlKind,
    End,
    EndKind,
    FormatReading,
    Observation,
    Reading,
    State,
)
from torchskew.workflows.rehearsal.planned import Drain, ReadCheckpoint

from tests.workflows.rehearsal.observations import healthy
from tests.workflows.rehearsal.test_judge import edited, first

SCRIPT = Script(name="train.py", text="print()")


def control(observation: Observation, reading: Reading | None = None, **more) -> Observation:
    """The control on the old release with other fields, and nothing after it: the conductor stops there."""
    old = next(each for each in observation.controls if each.name is ControlKind.OLD)
    changed = replace(old, reading=reading, generation=replace(old.generation, **more))
    return replace(observation, controls=(changed,), results=(), generations=())


def crashed(observation: Observation, kind: str, text: str) -> Observation:
    facts = tuple(
        replace(fact, finished=False, error=ErrorFacts(type=kind, text=text), error_after=0.1)
        for fact in observation.generations[0].facts
    )
    end = End(kind=EndKind.UNFINISHED)
    return control(observation, facts=facts, outcomes=(Outcome.OPAQUE,) * 4, lines=(), commits=(), end=end)


def test_a_syntax_error_is_no_verdict_on_releases_and_is_named() -> None:
    finding = judge(crashed(healthy(script=SCRIPT), "SyntaxError", "invalid syntax (train.py, line 3)"))
    assert (finding.answer, finding.verdict) == (Answer.UNKNOWN, Verdict.UNKNOWN)
    assert finding.because == (
        "your job does not run on 2.6.0: SyntaxError: invalid syntax (train.py, line 3) "
        "(OPAQUE on ranks 0, 1, 2, 3 on 2.6.0)"
    )


def test_the_built_in_job_is_not_called_the_users() -> None:
    because = judge(crashed(healthy(), "ValueError", "no")).because
    assert because.startswith("the built-in job does not run on 2.6.0: ValueError: no")


def steps_until(observation: Observation, last: int) -> Observation:
    lines = observation.controls[0].generation.lines
    return control(observation, lines=tuple(line for line in lines if line.step <= last))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda seen: control(seen, lines=(), commits=()), "it logged no training step (TORCHSKEW_LOG); docs/"),
        (lambda seen: steps_until(seen, 10), "it ended after training step 10, asked for was 60 (TORCHSKEW_STEPS)"),
        (lambda seen: control(seen, commits=()), "it committed no checkpoint (TORCHSKEW_CHECKPOINTS, meta.json)"),
    ],
)
def test_a_job_that_ignores_the_contract_is_told_what_it_did_not_do(made, why: str) -> None:
    finding = judge(made(healthy(script=SCRIPT)))
    assert finding.answer is Answer.UNKNOWN
    assert finding.because.startswith(f"your job does not run on 2.6.0: {why}")


@pytest.mark.parametrize(
    "reading",
    [
        Reading(checkpoint="step-60", by="2.6.0", error="TypeError: takes 1 argument"),
        Reading(
            checkpoint="step-60", by="2.6.0", formats={"plain": FormatReading(error="TypeError: takes 1 argument")}
        ),
    ],
)
def test_a_reader_that_fails_on_the_old_releases_own_checkpoint_is_the_jobs_fault(reading: Reading) -> None:
    finding = judge(control(healthy(script=SCRIPT), reading))
    assert finding.answer is Answer.UNKNOWN
    assert "it can't read its own checkpoint step-60: TypeError: takes 1 argument" in finding.because


def test_a_slow_job_is_no_broken_one() -> None:
    observation = healthy(script=SCRIPT)
    killed = tuple(replace(fact, finished=False, killed=True) for fact in observation.generations[0].facts)
    lines = tuple(line for line in observation.controls[0].generation.lines if line.step <= 3)
    end = End(kind=EndKind.UNFINISHED)
    slow = control(observation, facts=killed, outcomes=(Outcome.HANG,) * 4, lines=lines, end=end)
    assert fitness.problem(slow) is None
    assert "logged no training step within 1 s: it hung" in str(fitness.problem(control(
        observation, facts=killed, outcomes=(Outcome.HANG,) * 4, lines=(), end=end
    )))  # fmt: skip


def test_what_the_machine_did_is_not_the_jobs_fault() -> None:
    observation = healthy()
    gone = tuple(replace(fact, finished=False, machine="gone") for fact in observation.generations[0].facts)
    assert fitness.problem(control(observation, facts=gone, lines=(), end=End(kind=EndKind.UNFINISHED))) is None


def test_a_job_that_fails_before_any_node_is_upgraded_says_nothing_about_releases() -> None:
    observation = healthy(script=SCRIPT)
    stays = edited(observation, first(observation, Drain), state=State.FAILED, why="HANG: rank 0 did not leave")
    assert judge(stays).answer is Answer.UNKNOWN
    assert judge(stays).because == "your job does not run on 2.6.0: step 3 (drain): HANG: rank 0 did not leave"
    read = edited(observation, first(observation, ReadCheckpoint), state=State.FAILED, why="no")
    assert fitness.problem(read) is None


def test_a_restart_that_changes_the_loss_on_the_old_release_says_nothing_about_the_new_one() -> None:
    observation = healthy()
    moved = []
    for each in observation.controls:
        lines = tuple(replace(line, loss=line.loss * 1.01) if line.step > 9 else line for line in each.generation.lines)
        generation = replace(each.generation, lines=lines)
        moved.append(each if each.name is ControlKind.OLD else replace(each, generation=generation))
    finding = judge(replace(observation, controls=tuple(moved)))
    assert finding.answer is Answer.UNKNOWN
    assert finding.because.startswith("the built-in job does not resume on 2.6.0 as it was: first diverging step 10")
