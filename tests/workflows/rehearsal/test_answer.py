"""The answer: one cause once and whole, evidence that names who wrote and who read, and what the job did not hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.rehearsal import DeclaredRelease, Script
from torchskew.workflows.rehearsal.findings import Answer, Invariant
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import (
    EndKind,
    FormatReading,
    Generation,
    Loaded,
    Observation,
    ReadEvidence,
    StartResult,
    State,
)
from torchskew.workflows.rehearsal.planned import ReadCheckpoint, Rejoin, StageKind, StartJob
from torchskew.workflows.rehearsal.terminal import answer

from tests.workflows.rehearsal.observations import healthy
from tests.workflows.rehearsal.test_causes import DCP, KEY
from tests.workflows.rehearsal.test_judge import edited, first, reading

SCRIPT = Script(name="train.py", text="print()")


def named(observation: Observation, name: str) -> Invariant:
    return next(each for each in judge(observation).invariants if each.name == name)


# -- who wrote and who read


def written_by(observation: Observation, version: str) -> Observation:
    """Every checkpoint was written by this version, whoever ran then."""

    def ours(generation: Generation) -> Generation:
        commits = tuple(replace(commit, by=version) for commit in generation.commits)
        resumed = replace(generation.resumed, by=version) if generation.resumed else None
        return replace(generation, commits=commits, resumed=resumed)

    results = []
    for result in observation.results:
        evidence = result.evidence
        if isinstance(evidence, ReadEvidence) and evidence.newest:
            evidence = replace(evidence, newest=replace(evidence.newest, writer=version))
        results.append(replace(result, evidence=evidence))
    generations = tuple(ours(generation) for generation in observation.generations)
    return replace(observation, results=tuple(results), generations=generations)


def test_evidence_of_r6_and_r7_names_who_wrote_and_who_read() -> None:
    observation = healthy(rollback=True)
    assert ": 2.13.0 read step-" in named(observation, "R6").evidence
    assert "which 2.6.0 wrote" in named(observation, "R6").evidence
    assert "which 2.13.0 wrote" in named(observation, "R7").evidence
    assert ", 2.13.0 read" not in named(observation, "R7").evidence


def test_a_rollback_that_only_read_what_the_old_release_wrote_itself_is_not_tested_and_the_answer_says_so() -> None:
    observation = written_by(healthy(rollback=True), "2.6.0")
    back = named(observation, "R7")
    assert back.verdict is Verdict.UNSUPPORTED
    assert back.evidence.startswith("2.6.0 read no checkpoint that 2.13.0 wrote; what was read: 2.6.0 read step-")
    finding = judge(observation)
    assert finding.answer is Answer.SAFE
    assert "; the way back was not tested: 2.6.0 read no checkpoint that 2.13.0 wrote" in finding.because


def test_an_upgrade_in_which_the_new_release_read_only_its_own_checkpoints_is_unknown() -> None:
    observation = written_by(healthy(), "2.13.0")
    assert named(observation, "R6").verdict is Verdict.UNKNOWN
    assert judge(observation).answer is Answer.UNKNOWN


def test_a_group_counts_as_a_reader_only_for_the_ranks_that_logged_that_they_loaded() -> None:
    observation = healthy()
    readings = [step.number for step in observation.plan.steps if isinstance(step.action, ReadCheckpoint)]
    for number in readings:
        observation = edited(observation, number, evidence={"newest": None})
    assert named(observation, "R6").verdict is Verdict.PASS

    def old_ranks_only(generation: Generation) -> Generation:
        ranks = enumerate(generation.versions)
        loaded = [Loaded(rank=rank, checkpoint="c", hash=None) for rank, name in ranks if name == "2.6.0"]
        return replace(generation, loaded=tuple(loaded) if generation.loaded else ())

    silent = replace(observation, generations=tuple(map(old_ranks_only, observation.generations)))
    assert named(silent, "R6").verdict is Verdict.UNKNOWN


def test_readings_that_no_hash_was_compared_in_do_not_claim_one() -> None:
    observation = healthy()
    for step in observation.plan.steps:
        if isinstance(step.action, ReadCheckpoint):
            observation = edited(observation, step.number, evidence={"newest": None})

    def bare(generation: Generation) -> Generation:
        return replace(generation, loaded=tuple(replace(each, hash=None) for each in generation.loaded))

    observation = replace(observation, generations=tuple(map(bare, observation.generations)))
    shown = named(observation, "R6")
    assert (shown.verdict, "0 of them compared by hash" in shown.evidence) == (Verdict.PASS, True)


# -- one cause once


def died_of(observation: Observation) -> Observation:
    """The new release can't read the checkpoint: neither alone nor as a group, and the job never starts again."""
    upgrade = next(step for step in observation.plan.steps if step.stage.kind is StageKind.UPGRADE)
    read, start = (
        first(observation, ReadCheckpoint),
        next(
            step.number
            for step in observation.plan.steps
            if isinstance(step.action, StartJob) and step.number > upgrade.number
        ),
    )
    failed = replace(reading(observation, read), formats={"dcp": FormatReading(error=f"CheckpointException: {DCP}")})
    observation = edited(observation, read, state=State.FAILED, why=f"RuntimeError: {KEY}", evidence={"newest": failed})
    at = next(index for index, each in enumerate(observation.generations) if each.step == start)
    died = observation.generations[at]
    error = ErrorFacts(type="torch.distributed.checkpoint.api.CheckpointException", text=DCP)
    facts = tuple(replace(fact, finished=False, error=error, error_after=0.5) for fact in died.facts)
    end = replace(died.end, kind=EndKind.FAILED)
    died = replace(died, facts=facts, outcomes=(Outcome.OPAQUE,) * len(facts), lines=(), commits=(), loaded=(), end=end)
    attempt = replace(observation.results[start - 1].evidence.attempts[0], result=StartResult.FAILED)
    why = f"the job does not start from step-5-g1, at attempt 2: RuntimeError: {KEY} (OPAQUE on ranks 0, 1, 2, 3)"
    observation = edited(observation, start, state=State.FAILED, why=why, evidence={"attempts": (attempt,)})
    later = tuple(
        replace(result, state=State.SKIPPED, why="the job does not run") if result.number > start else result
        for result in observation.results
    )
    return replace(observation, results=later, generations=(*observation.generations[:at], died))


def test_the_last_line_has_the_one_cause_whole_and_counts_what_follows_from_it() -> None:
    observation = died_of(healthy(strategy="stop-the-world"))
    finding = judge(observation)
    line = answer(observation, finding)
    assert finding.answer is Answer.UNSAFE
    assert line.count(KEY) == 1
    head = "2.6.0 to 2.13.0 in stop-the-world mode: not safe, because R6, R12, R2: 2.13.0 reading step-"
    assert line.startswith(head), line
    assert " as dcp: RuntimeError: Missing key" in line
    assert line.endswith("(3 more failures with this cause)"), line
    assert len(line) < 300


def test_the_arrow_is_at_the_step_that_failed_first() -> None:
    observation = died_of(healthy(strategy="stop-the-world"))
    assert judge(observation).first_bad == first(observation, ReadCheckpoint)


def test_the_evidence_of_an_invariant_has_each_cause_once() -> None:
    shown = named(died_of(healthy(strategy="stop-the-world")), "R6").evidence
    assert shown.count(KEY) == 1
    assert shown.endswith("(and 1 more with this cause)")


def test_an_old_node_that_is_not_refused_has_a_cause_of_its_own_beside_another() -> None:
    observation = died_of(healthy(strategy="stop-the-world"))
    observation = edited(
        observation, first(observation, Rejoin), state=State.DONE, evidence={"outcomes": (Outcome.OK,)}
    )
    assert "(3 more failures with this cause); R8: step 10: OK" in judge(observation).because


@pytest.mark.parametrize(
    ("formats", "says"),
    [
        (
            {"dcp": {"partial": True}},
            " Tried here, and read as written: dcp with DefaultLoadPlanner(allow_partial_load=True).",
        ),
        ({"dcp": {}, "plain": {"hash": True}}, " Tried here, and read as written: plain."),
        ({"dcp": {"partial": False}, "plain": {"hash": False}}, ""),
        ({"dcp": {}}, ""),
    ],
)
def test_a_remedy_is_named_only_where_it_was_tried_and_read_what_was_written(formats, says) -> None:
    observation = healthy()
    number = first(observation, ReadCheckpoint)
    written = reading(observation, number).written

    def read(name: str, how: dict[str, bool]) -> FormatReading:
        hashes = {field: written if right else "another" for field, right in how.items()}
        return FormatReading(error=DCP if name == "dcp" else None, **hashes)

    failed = replace(reading(observation, number), formats={name: read(name, how) for name, how in formats.items()})
    evidence = named(edited(observation, number, evidence={"newest": failed}), "R6").evidence
    assert evidence.split(";")[0].endswith(f"RuntimeError: {KEY}{says}"), evidence


# -- what a safe answer does not cover


def test_a_mixed_group_of_releases_that_nobody_declared_is_counted_where_it_trained() -> None:
    observation = healthy(old=DeclaredRelease(name="2.6.0"), new=DeclaredRelease(name="2.13.0"))
    reports = {"2.6.0": "2.6.0", "2.13.0": "2.13.0"}
    observation = replace(observation, reports=reports)
    assert judge(observation).answer is Answer.SAFE
    assert "mixed group" not in judge(observation).because
    assert "no mixed group trained" in judge(healthy(strategy="stop-the-world")).because


@pytest.mark.parametrize(
    ("holds", "says"),
    [
        ((), "; train.py does not say what its checkpoints hold"),
        (
            ("model",),
            "its checkpoints held model, not optimizer, scheduler, step, loader, generators, scaler, averages",
        ),
        (("model", "queue"), "its checkpoints held model, queue, not optimizer"),
    ],
)
def test_the_answer_names_what_the_checkpoints_held_and_what_they_did_not(holds, says) -> None:
    observation = healthy(script=SCRIPT)
    generations = tuple(
        replace(each, commits=tuple(replace(commit, holds=holds) for commit in each.commits))
        for each in observation.generations
    )
    assert says in judge(replace(observation, generations=generations)).because
