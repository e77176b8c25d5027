"""The judge: a sound rehearsal passes everything; each thing that can go wrong is caught by its own invariant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.rehearsal import CheckpointFormat, DeclaredRelease, Script
from torchskew.workflows.rehearsal.findings import Answer
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import (
    ControlKind,
    EndKind,
    FormatReading,
    Generation,
    Health,
    MissingDcp,
    Observation,
    Reading,
    StartResult,
    State,
)
from torchskew.workflows.rehearsal.planned import (
    Action,
    Collective,
    Drain,
    Expect,
    InjectFault,
    ReadCheckpoint,
    Rejoin,
    StageKind,
    StartJob,
    Train,
)

from tests.workflows.rehearsal.observations import healthy

FULL = {"rollback": True, "faults": ("kill", "pause"), "training_steps": 70}
REFUSING = {"old": DeclaredRelease(name="1.13.1", torch="1.13.1"), "new": DeclaredRelease(name="2.6.0", torch="2.6.0")}


def verdicts(observation: Observation) -> dict[str, Verdict]:
    return {each.name: each.verdict for each in judge(observation).invariants}


def edited(observation: Observation, number: int, **more) -> Observation:
    """One step's result with other fields; `evidence` holds the fields of its evidence that differ."""
    results = []
    for result in observation.results:
        if result.number == number:
            evidence = replace(result.evidence, **more.pop("evidence")) if "evidence" in more else result.evidence
            result = replace(result, **more, evidence=evidence)  # noqa: PLW2901
        results.append(result)
    return replace(observation, results=tuple(results))


def generation(observation: Observation, index: int, **more) -> Observation:
    """One generation with other fields."""
    found = list(observation.generations)
    found[index] = replace(found[index], **more)
    return replace(observation, generations=tuple(found))


def first(observation: Observation, *kinds: type[Action], mixed: bool | None = None, **like) -> int:
    """Number of the first step of a kind whose action has these fields."""
    return next(
        step.number
        for step in observation.plan.steps
        if isinstance(step.action, kinds)
        and all(getattr(step.action, name) == value for name, value in like.items())
        and mixed in (None, step.mixed)
    )


def reading(observation: Observation, number: int) -> Reading:
    """What a step read of the newest checkpoint."""
    return observation.results[number - 1].evidence.newest


def rollback_reading(observation: Observation) -> int:
    """Number of the first reading on the way back."""
    steps = observation.plan.steps
    rollback = (step for step in steps if step.stage.kind is StageKind.ROLLBACK)
    return next(step.number for step in rollback if isinstance(step.action, ReadCheckpoint))


def lines(gen: Generation, change) -> tuple:
    return tuple(new for line in gen.lines for new in change(line))


def test_a_sound_rehearsal_passes_every_invariant_and_is_safe() -> None:
    finding = judge(healthy(**FULL))
    assert [each.name for each in finding.invariants] == [f"R{number}" for number in range(1, 17)]
    wrong = {each.name: each.evidence for each in finding.invariants if each.verdict is not Verdict.PASS}
    assert set(wrong) == set(), wrong
    assert finding.answer is Answer.SAFE
    assert finding.verdict is Verdict.PASS
    assert finding.first_bad is None


def test_a_plan_without_dcp_says_that_it_was_not_tried() -> None:
    assert "torch.distributed.checkpoint was not tried" in judge(healthy(formats=(CheckpointFormat.PLAIN,))).because
    assert (
        "was not tried"
        not in judge(healthy(formats=(CheckpointFormat.PLAIN,), script=Script(name="train.py", text="print()"))).because
    )


def test_without_rollback_its_invariant_is_not_tested_and_nothing_else_changes() -> None:
    found = verdicts(healthy())
    assert found.pop("R7") is Verdict.UNSUPPORTED
    assert set(found.values()) == {Verdict.PASS}


def test_groups_that_refuse_clearly_need_stop_the_world() -> None:
    finding = judge(healthy(**REFUSING))
    assert finding.verdict is Verdict.PASS, [each for each in finding.invariants if each.verdict is Verdict.FAIL]
    assert finding.answer is Answer.STOP


def test_a_lost_step_fails_r2() -> None:
    observation = healthy()
    gen = observation.generations[1]
    gone = gen.lines[0].step
    observation = generation(observation, 1, lines=lines(gen, lambda each: [] if each.step == gone else [each]))
    assert verdicts(observation)["R2"] is Verdict.FAIL


def test_a_repeated_step_fails_r2() -> None:
    observation = healthy()
    gen = observation.generations[1]
    observation = generation(
        observation, 1, lines=lines(gen, lambda each: [each, each] if each.step == gen.lines[0].step else [each])
    )
    assert verdicts(observation)["R2"] is Verdict.FAIL


def test_more_redone_than_a_checkpoint_interval_fails_r2() -> None:
    observation = healthy(faults=("kill",))
    at = next(index for index, each in enumerate(observation.generations) if each.end.kind is EndKind.KILLED)
    assert verdicts(observation)["R2"] is Verdict.PASS
    early = replace(observation.plan, spec=replace(observation.plan.spec, checkpoint_every=1))
    redone = generation(observation, at + 1, resumed=None, lines=observation.controls[0].generation.lines)
    assert verdicts(replace(redone, plan=early))["R2"] is Verdict.FAIL


def test_a_skipped_sample_fails_r3_and_names_it() -> None:
    observation = healthy()
    gen = observation.generations[2]
    hit = gen.lines[0]
    other = replace(hit, samples=(*hit.samples[:-1], 9999))
    observation = generation(observation, 2, lines=lines(gen, lambda each: [other] if each is hit else [each]))
    broken = next(each for each in judge(observation).invariants if each.name == "R3")
    assert broken.verdict is Verdict.FAIL
    assert str(hit.samples[-1]) in broken.evidence


def test_another_loss_fails_r4_and_names_the_first_diverging_step() -> None:
    observation = healthy()
    gen = observation.generations[1]
    hit = gen.lines[0]
    observation = generation(
        observation, 1, lines=lines(gen, lambda each: [replace(each, loss=each.loss + 1e-9)] if each is hit else [each])
    )
    broken = next(each for each in judge(observation).invariants if each.name == "R4")
    assert broken.verdict is Verdict.FAIL
    assert f"first diverging step {hit.step} " in broken.evidence


def test_a_loss_that_is_no_number_fails_r4() -> None:
    observation = healthy()
    gen = observation.generations[1]
    observation = generation(observation, 1, lines=lines(gen, lambda each: [replace(each, loss=float("nan"))]))
    assert verdicts(observation)["R4"] is Verdict.FAIL


def test_what_the_controls_themselves_differ_by_is_allowed_after_the_upgrade_only() -> None:
    observation = healthy()
    drifting = []
    for control in observation.controls:
        far = 1e-6 if control.name is ControlKind.NEW_RESTARTED else 0.0
        moved = lines(control.generation, lambda each, far=far: [replace(each, loss=each.loss + far)])
        drifting.append(replace(control, generation=replace(control.generation, lines=moved)))
    observation = replace(observation, controls=tuple(drifting))

    def moved_in(index: int) -> Verdict:
        gen = observation.generations[index]
        more = lines(gen, lambda each: [replace(each, loss=each.loss + 2e-6)])
        return verdicts(generation(observation, index, lines=more))["R4"]

    assert moved_in(0) is Verdict.FAIL
    assert moved_in(1) is Verdict.PASS


def test_a_restart_that_changes_the_loss_fails_r4_even_where_the_rehearsal_equals_its_control() -> None:
    observation = healthy()

    def off(gen: Generation) -> Generation:
        return replace(
            gen, lines=lines(gen, lambda each: [replace(each, loss=each.loss * 1.01)] if each.step > 9 else [each])
        )

    controls = [
        c if c.name is ControlKind.OLD else replace(c, generation=off(c.generation)) for c in observation.controls
    ]
    moved = replace(
        observation, controls=tuple(controls), generations=tuple(off(gen) for gen in observation.generations)
    )
    broken = next(each for each in judge(moved).invariants if each.name == "R4")
    assert broken.verdict is Verdict.FAIL
    assert "first diverging step 10: a restart alone" in broken.evidence


def test_without_controls_samples_and_loss_are_unknown_never_passed() -> None:
    found = judge(replace(healthy(), controls=()))
    assert {each.name for each in found.invariants if each.verdict is Verdict.UNKNOWN} == {"R3", "R4"}
    assert found.answer is Answer.UNKNOWN
    assert found.verdict is Verdict.UNKNOWN


def test_parameters_that_differ_on_a_rank_fail_r5() -> None:
    observation = healthy()
    gen = observation.generations[1]
    observation = generation(
        observation, 1, lines=lines(gen, lambda each: [replace(each, hash="x")] if each.rank == 2 else [each])
    )
    assert verdicts(observation)["R5"] is Verdict.FAIL


def test_a_log_without_hashes_leaves_r5_unknown() -> None:
    observation = healthy()
    gen = observation.generations[1]
    observation = generation(observation, 1, lines=lines(gen, lambda each: [replace(each, hash=None)]))
    assert verdicts(observation)["R5"] is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "change",
    [
        {"unchanged": False},
        {"formats": {"dcp": FormatReading(error="ValueError: no")}},
        {"formats": {"dcp": FormatReading(hash="x")}},
    ],
)
def test_a_checkpoint_that_the_new_release_does_not_read_as_written_fails_r6(change) -> None:
    observation = healthy()
    number = first(observation, ReadCheckpoint)
    changed = replace(reading(observation, number), **change)
    assert verdicts(edited(observation, number, evidence={"newest": changed}))["R6"] is Verdict.FAIL


def with_error(observation: Observation, number: int, text: str) -> Reading:
    """The reading of a step, failed with this error."""
    return replace(reading(observation, number), formats={"dcp": FormatReading(error=text)})


def test_an_opaque_error_on_rollback_fails_r7_and_one_that_names_both_releases_does_not() -> None:
    observation = healthy(rollback=True)
    number = rollback_reading(observation)

    def failing(text: str) -> Observation:
        return edited(observation, number, evidence={"newest": with_error(observation, number, text)})

    opaque = failing("ValueError: too many values to unpack (expected 5)")
    assert verdicts(opaque)["R7"] is Verdict.FAIL
    assert judge(opaque).answer is Answer.UNSAFE
    assert verdicts(failing("written by torch 2.13.0, this is 2.6.0"))["R7"] is Verdict.PASS


def test_a_reader_that_fails_as_a_whole_fails_r6_unless_it_refuses_a_rollback_by_name() -> None:
    observation = healthy(rollback=True)

    def failing(number: int, text: str) -> dict[str, Verdict]:
        failed = replace(reading(observation, number), formats={}, error=text)
        return verdicts(edited(observation, number, evidence={"newest": failed}))

    assert failing(first(observation, ReadCheckpoint), "KeyError: 'weight'")["R6"] is Verdict.FAIL
    assert failing(rollback_reading(observation), "KeyError: 'weight'")["R7"] is Verdict.FAIL
    assert failing(rollback_reading(observation), "written by torch 2.13.0, this is 2.6.0")["R7"] is Verdict.PASS


def test_a_kept_checkpoint_must_load_on_rollback_whatever_its_error_names() -> None:
    observation = healthy(rollback=True)
    number = rollback_reading(observation)
    kept = with_error(observation, number, "2.13.0 and 2.6.0")
    assert verdicts(edited(observation, number, evidence={"kept": kept}))["R7"] is Verdict.FAIL


def test_a_mixed_group_that_can_not_load_a_checkpoint_fails_r6_and_needs_stop_the_world() -> None:
    observation = healthy()
    number = first(observation, StartJob, mixed=True)
    good = observation.results[number - 1].evidence.attempts
    at = next(index for index, each in enumerate(observation.generations) if each.step == number)
    timeouts = (Outcome.TIMEOUT,) * 4
    hung = replace(observation.generations[at], loaded=(), lines=(), commits=(), outcomes=timeouts)
    late = {0: 10.3, 1: 10.1, 2: 10.2, 3: 10.4}
    hung = replace(
        hung,
        facts=tuple(
            replace(each, finished=False, error=_error(each.rank), error_after=late[each.rank]) for each in hung.facts
        ),
    )
    generations = [*observation.generations[:at], hung, *observation.generations[at:]]
    failed = replace(good[0], result=StartResult.FAILED, outcomes=timeouts)
    observation = edited(
        replace(observation, generations=tuple(generations)), number, evidence={"attempts": (failed, *good)}
    )
    assert verdicts(observation)["R6"] is Verdict.FAIL
    assert judge(observation).answer is Answer.STOP
    assert "Timed out on rank 1" in judge(observation).because


def _error(rank: int) -> ErrorFacts:
    return ErrorFacts(type="RuntimeError", text=f"Timed out on rank {rank}")


def test_dcp_that_an_environment_could_not_try_is_unknown_never_passed() -> None:
    observation = healthy(rollback=True)
    found = judge(generation(observation, 1, missing_dcp=(MissingDcp(rank=3, why="no NumPy", no_numpy=True),)))
    assert {each.name for each in found.invariants if each.verdict is Verdict.UNKNOWN} == {"R6", "R7"}
    assert found.answer is Answer.UNKNOWN
    assert 'the environment of 2.6.0 has no NumPy. Add requires = ["numpy"]' in found.because


def test_a_release_without_dcp_is_no_lack_of_the_environment() -> None:
    lacking = MissingDcp(rank=0, why="this release has no FileSystemWriter", no_numpy=False)
    assert judge(generation(healthy(), 0, missing_dcp=(lacking,))).verdict is Verdict.PASS


def test_silent_mixing_fails_r8() -> None:
    observation = healthy(policy="refuse")
    at = next(index for index, each in enumerate(observation.generations) if each.end.kind is EndKind.REFUSED)
    mixed = generation(observation, at, outcomes=(Outcome.OK,) * 4)
    assert verdicts(mixed)["R8"] is Verdict.FAIL


@pytest.mark.parametrize("wrote", ["lines", "commits"])
def test_a_refused_group_that_trained_or_wrote_fails_r8(wrote: str) -> None:
    observation = healthy(policy="refuse")
    at = next(index for index, each in enumerate(observation.generations) if each.end.kind is EndKind.REFUSED)
    stolen = getattr(observation.generations[0], wrote)
    assert stolen
    assert verdicts(generation(observation, at, **{wrote: stolen}))["R8"] is Verdict.FAIL


def test_a_late_refusal_fails_r8() -> None:
    observation = healthy(policy="refuse")
    number = first(observation, Collective, expect=Expect.REFUSE)
    assert verdicts(edited(observation, number, evidence={"error_after": (0.1, 3.0, 0.1, 0.1)}))["R8"] is Verdict.FAIL


def test_a_wrong_collective_fails_r9() -> None:
    observation = healthy()
    number = first(observation, Collective, expect=Expect.TRAIN)
    observation = edited(
        observation, number, state=State.FAILED, why="all_reduce: wrong", evidence={"wrong": ("rank 1: x",)}
    )
    assert verdicts(observation)["R9"] is Verdict.FAIL


def test_a_rank_that_hangs_fails_r10() -> None:
    observation = healthy()
    ranks = (Outcome.OK, Outcome.HANG, Outcome.OK, Outcome.OK)
    assert verdicts(generation(observation, 1, outcomes=ranks))["R10"] is Verdict.FAIL


def test_a_step_beyond_its_deadline_fails_r10() -> None:
    observation = healthy()
    assert verdicts(edited(observation, 3, seconds=999.0))["R10"] is Verdict.FAIL


def test_an_old_node_that_joins_after_finalise_fails_r11() -> None:
    observation = healthy()
    number = first(observation, Rejoin)
    assert verdicts(edited(observation, number, evidence={"outcomes": (Outcome.OK,) * 4}))["R11"] is Verdict.FAIL


@pytest.mark.parametrize("strategy", ["rolling", "stop-the-world"])
def test_an_old_node_that_joins_after_finalise_is_not_fixed_by_stopping_the_world(strategy: str) -> None:
    observation = healthy(strategy=strategy)
    number = first(observation, Rejoin)
    assert judge(edited(observation, number, evidence={"outcomes": (Outcome.OK,) * 4})).answer is Answer.UNSAFE


def test_a_stage_without_progress_is_unknown_never_passed() -> None:
    observation = healthy()
    found = verdicts(generation(observation, 1, lines=observation.generations[1].lines[:4]))
    assert found["R12"] is Verdict.UNKNOWN


def test_a_job_that_dies_by_itself_in_a_window_fails_r12_and_needs_stop_the_world() -> None:
    observation = healthy()
    number = first(observation, Train, mixed=True)
    died = edited(observation, number, state=State.FAILED, why="rank 0 OPAQUE: too many values to unpack (expected 5)")
    assert verdicts(died)["R12"] is Verdict.FAIL
    assert judge(died).answer is Answer.STOP
    drain = first(observation, Drain, mixed=True)
    assert verdicts(edited(observation, drain, state=State.FAILED, why="while draining: rank 0"))["R12"] is Verdict.FAIL


def test_a_step_that_did_not_happen_leaves_r13_unknown() -> None:
    observation = healthy()
    assert verdicts(replace(observation, results=observation.results[:-1]))["R13"] is Verdict.UNKNOWN
    assert verdicts(edited(observation, 3, state=State.SKIPPED))["R13"] is Verdict.UNKNOWN


def test_a_fault_that_nobody_saw_is_unknown_and_one_that_did_not_heal_fails() -> None:
    observation = healthy(faults=("pause",))
    number = first(observation, InjectFault)
    assert verdicts(edited(observation, number, evidence={"observed": None}))["R13"] is Verdict.UNKNOWN
    assert verdicts(edited(observation, number, evidence={"healed": None}))["R13"] is Verdict.FAIL


def test_sick_nodes_overlapping_faults_and_leftovers_fail_r14() -> None:
    observation = healthy(faults=("pause", "kill"))
    number = first(observation, InjectFault)
    assert verdicts(edited(observation, number, evidence={"after": Health(healthy=False)}))["R14"] is Verdict.FAIL
    assert verdicts(edited(observation, number, seconds=500.0))["R14"] is Verdict.FAIL
    assert verdicts(replace(observation, left_behind=("container x stays",)))["R14"] is Verdict.FAIL


def test_a_fault_that_the_machine_could_not_make_is_unknown_never_failed() -> None:
    observation = healthy(faults=("pause",))
    number = first(observation, InjectFault)
    unknown = {"observed": None, "healed": None, "after": None}
    found = verdicts(edited(observation, number, state=State.FAILED, machine="nsenter failed", evidence=unknown))
    assert (found["R13"], found["R14"]) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert Verdict.FAIL not in found.values()


def test_a_forbidden_line_in_a_log_fails_r15() -> None:
    observation = healthy()
    facts = tuple(
        replace(each, log="ok\nterminate called after throwing\n") for each in observation.generations[1].facts
    )
    assert verdicts(generation(observation, 1, facts=facts))["R15"] is Verdict.FAIL


def test_a_plan_that_differs_from_its_seed_is_said_to_be_replayed() -> None:
    observation = healthy()
    steps = tuple(replace(step, deadline=step.deadline + 1) for step in observation.plan.steps)
    replayed = next(
        each
        for each in judge(replace(observation, plan=replace(observation.plan, steps=steps))).invariants
        if each.name == "R16"
    )
    assert replayed.verdict is Verdict.PASS
    assert "replayed" in replayed.evidence


def test_another_release_than_planned_is_the_harness_fault_and_unknown() -> None:
    observation = healthy()
    facts = tuple(replace(each, torch="2.7.1") for each in observation.generations[0].facts)
    assert verdicts(generation(observation, 0, facts=facts))["R1"] is Verdict.UNKNOWN


def test_a_rehearsal_that_was_cut_short_has_lost_nothing_and_shown_nothing() -> None:
    observation = healthy()
    cut = replace(observation, results=observation.results[:9], generations=observation.generations[:1], controls=())
    found = verdicts(cut)
    assert Verdict.FAIL not in found.values()
    assert found["R2"] is Verdict.UNKNOWN
    gone = lines(cut.generations[0], lambda each: [] if each.step == 2 else [each])
    assert verdicts(generation(cut, 0, lines=gone))["R2"] is Verdict.FAIL


def test_facts_that_can_not_be_read_are_unknown_never_passed() -> None:
    found = judge(generation(healthy(), 1, facts=(None,)))
    unread = {each.name for each in found.invariants if each.verdict is Verdict.UNKNOWN}
    assert unread == {"R1", "R15"}
    assert found.answer is Answer.UNKNOWN


def test_nothing_seen_passes_nothing_but_the_plan() -> None:
    empty = replace(healthy(rollback=True, faults=("kill",)), results=(), generations=(), controls=(), reports={})
    found = verdicts(empty)
    passed = {name for name, verdict in found.items() if verdict is Verdict.PASS}
    assert passed <= {"R14", "R16"}
    assert judge(empty).answer is Answer.UNKNOWN
