"""The judge: a sound rehearsal passes everything; each thing that can go wrong is caught by its own invariant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.workflows.rehearsal.judge import SAFE, STOP, UNKNOWN, UNSAFE, judge
from torchskew.workflows.rehearsal.model import Do, Expect, Generation, Observed, Release, State

from tests.workflows.rehearsal.made import sound

FULL = {"rollback": True, "faults": ("kill", "pause"), "steps": 70}
REFUSING = {"old": Release(name="1.13.1", torch="1.13.1"), "new": Release(name="2.6.0", torch="2.6.0")}


def verdicts(seen: Observed) -> dict[str, Verdict]:
    return {one.name: one.verdict for one in judge(seen).invariants}


def edited(seen: Observed, number: int, **more) -> Observed:
    """One step's result with other fields; evidence is added to."""
    results = []
    for result in seen.results:
        if result.number == number:
            evidence = {**result.evidence, **more.get("evidence", {})}
            result = replace(result, **{**more, "evidence": evidence})  # noqa: PLW2901
        results.append(result)
    return replace(seen, results=tuple(results))


def generation(seen: Observed, index: int, **more) -> Observed:
    """One generation with other fields."""
    found = list(seen.generations)
    found[index] = replace(found[index], **more)
    return replace(seen, generations=tuple(found))


def first(seen: Observed, *kinds: Do, **like) -> int:
    """Number of the first step of a kind with these fields."""
    fits = (one for one in seen.plan.steps if one.do in kinds)
    return next(one.number for one in fits if all(getattr(one, name) == value for name, value in like.items()))


def lines(gen: Generation, change) -> tuple:
    return tuple(new for line in gen.lines for new in change(line))


def test_a_sound_rehearsal_passes_every_invariant_and_is_safe() -> None:
    finding = judge(sound(**FULL))
    assert [one.name for one in finding.invariants] == [f"R{number}" for number in range(1, 17)]
    wrong = {one.name: one.evidence for one in finding.invariants if one.verdict is not Verdict.PASS}
    assert set(wrong) == set(), wrong
    assert finding.answer == SAFE
    assert finding.verdict is Verdict.PASS
    assert finding.first_bad is None


def test_a_plan_without_dcp_says_that_it_was_not_tried() -> None:
    assert "torch.distributed.checkpoint was not tried" in judge(sound(formats=("plain",))).because
    assert "was not tried" not in judge(sound(formats=("plain",), script="print()")).because


def test_without_rollback_its_invariant_is_not_tested_and_nothing_else_changes() -> None:
    found = verdicts(sound())
    assert found.pop("R7") is Verdict.UNSUPPORTED
    assert set(found.values()) == {Verdict.PASS}


def test_groups_that_refuse_clearly_need_stop_the_world() -> None:
    finding = judge(sound(**REFUSING))
    assert finding.verdict is Verdict.PASS, [one for one in finding.invariants if one.verdict is Verdict.FAIL]
    assert finding.answer == STOP


def test_a_lost_step_fails_r2() -> None:
    seen = sound()
    gen = seen.generations[1]
    gone = gen.lines[0].step
    seen = generation(seen, 1, lines=lines(gen, lambda one: [] if one.step == gone else [one]))
    assert verdicts(seen)["R2"] is Verdict.FAIL


def test_a_repeated_step_fails_r2() -> None:
    seen = sound()
    gen = seen.generations[1]
    seen = generation(seen, 1, lines=lines(gen, lambda one: [one, one] if one.step == gen.lines[0].step else [one]))
    assert verdicts(seen)["R2"] is Verdict.FAIL


def test_more_redone_than_a_checkpoint_interval_fails_r2() -> None:
    seen = sound(faults=("kill",))
    at = next(index for index, one in enumerate(seen.generations) if one.why == "killed by a fault")
    assert verdicts(seen)["R2"] is Verdict.PASS
    early = replace(seen.plan, spec=replace(seen.plan.spec, every=1))
    redone = generation(seen, at + 1, resumed=None, lines=seen.controls[0].generation.lines)
    assert verdicts(replace(redone, plan=early))["R2"] is Verdict.FAIL


def test_a_skipped_sample_fails_r3_and_names_it() -> None:
    seen = sound()
    gen = seen.generations[2]
    hit = gen.lines[0]
    other = replace(hit, samples=(*hit.samples[:-1], 9999))
    seen = generation(seen, 2, lines=lines(gen, lambda one: [other] if one is hit else [one]))
    broken = next(one for one in judge(seen).invariants if one.name == "R3")
    assert broken.verdict is Verdict.FAIL
    assert str(hit.samples[-1]) in broken.evidence


def test_another_loss_fails_r4_and_names_the_first_diverging_step() -> None:
    seen = sound()
    gen = seen.generations[1]
    hit = gen.lines[0]
    seen = generation(
        seen, 1, lines=lines(gen, lambda one: [replace(one, loss=one.loss + 1e-9)] if one is hit else [one])
    )
    broken = next(one for one in judge(seen).invariants if one.name == "R4")
    assert broken.verdict is Verdict.FAIL
    assert f"first diverging step {hit.step} " in broken.evidence


def test_a_loss_that_is_no_number_fails_r4() -> None:
    seen = sound()
    gen = seen.generations[1]
    seen = generation(seen, 1, lines=lines(gen, lambda one: [replace(one, loss=float("nan"))]))
    assert verdicts(seen)["R4"] is Verdict.FAIL


def test_what_the_controls_themselves_differ_by_is_allowed_after_the_upgrade_only() -> None:
    seen = sound()
    drifting = []
    for control in seen.controls:
        far = 1e-6 if control.name == "new restarted" else 0.0
        moved = lines(control.generation, lambda one, far=far: [replace(one, loss=one.loss + far)])
        drifting.append(replace(control, generation=replace(control.generation, lines=moved)))
    seen = replace(seen, controls=tuple(drifting))

    def moved_in(index: int) -> Verdict:
        gen = seen.generations[index]
        more = lines(gen, lambda one: [replace(one, loss=one.loss + 2e-6)])
        return verdicts(generation(seen, index, lines=more))["R4"]

    assert moved_in(0) is Verdict.FAIL
    assert moved_in(1) is Verdict.PASS


def test_a_restart_that_changes_the_loss_fails_r4_even_where_the_rehearsal_equals_its_control() -> None:
    seen = sound()

    def off(gen: Generation) -> Generation:
        return replace(
            gen, lines=lines(gen, lambda one: [replace(one, loss=one.loss * 1.01)] if one.step > 9 else [one])
        )

    controls = [c if c.name == "old" else replace(c, generation=off(c.generation)) for c in seen.controls]
    moved = replace(seen, controls=tuple(controls), generations=tuple(off(gen) for gen in seen.generations))
    broken = next(one for one in judge(moved).invariants if one.name == "R4")
    assert broken.verdict is Verdict.FAIL
    assert "first diverging step 10: a restart alone" in broken.evidence


def test_without_controls_samples_and_loss_are_unknown_never_passed() -> None:
    found = judge(replace(sound(), controls=()))
    assert {one.name for one in found.invariants if one.verdict is Verdict.UNKNOWN} == {"R3", "R4"}
    assert found.answer == UNKNOWN
    assert found.verdict is Verdict.UNKNOWN


def test_parameters_that_differ_on_a_rank_fail_r5() -> None:
    seen = sound()
    gen = seen.generations[1]
    seen = generation(seen, 1, lines=lines(gen, lambda one: [replace(one, hash="x")] if one.rank == 2 else [one]))
    assert verdicts(seen)["R5"] is Verdict.FAIL


def test_a_log_without_hashes_leaves_r5_unknown() -> None:
    seen = sound()
    gen = seen.generations[1]
    seen = generation(seen, 1, lines=lines(gen, lambda one: [replace(one, hash=None)]))
    assert verdicts(seen)["R5"] is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "change",
    [{"unchanged": False}, {"formats": {"dcp": {"error": "ValueError: no"}}}, {"formats": {"dcp": {"hash": "x"}}}],
)
def test_a_checkpoint_that_the_new_release_does_not_read_as_written_fails_r6(change) -> None:
    seen = sound()
    number = first(seen, Do.READ)
    told = seen.results[number - 1].evidence["newest"]
    assert verdicts(edited(seen, number, evidence={"newest": {**told, **change}}))["R6"] is Verdict.FAIL


def test_an_opaque_error_on_rollback_fails_r7_and_one_that_names_both_releases_does_not() -> None:
    seen = sound(rollback=True)
    number = next(s.number for s in seen.plan.steps if s.do is Do.READ and s.stage.startswith("rollback"))
    told = seen.results[number - 1].evidence["newest"]

    def with_error(text: str) -> Observed:
        return edited(seen, number, evidence={"newest": {**told, "formats": {"dcp": {"error": text}}}})

    opaque = with_error("ValueError: too many values to unpack (expected 5)")
    assert verdicts(opaque)["R7"] is Verdict.FAIL
    assert judge(opaque).answer == UNSAFE
    assert verdicts(with_error("written by torch 2.13.0, this is 2.6.0"))["R7"] is Verdict.PASS


def test_a_kept_checkpoint_must_load_on_rollback_whatever_its_error_names() -> None:
    seen = sound(rollback=True)
    number = next(s.number for s in seen.plan.steps if s.do is Do.READ and s.stage.startswith("rollback"))
    told = {**seen.results[number - 1].evidence["newest"], "formats": {"dcp": {"error": "2.13.0 and 2.6.0"}}}
    assert verdicts(edited(seen, number, evidence={"kept": told}))["R7"] is Verdict.FAIL


def test_a_mixed_group_that_can_not_take_up_a_checkpoint_fails_r6_and_needs_stop_the_world() -> None:
    seen = sound()
    number = next(s.number for s in seen.plan.steps if s.do is Do.START and s.mixed)
    good = seen.results[number - 1].evidence["starts"]
    at = next(index for index, one in enumerate(seen.generations) if one.step == number)
    hung = replace(seen.generations[at], loaded=(), lines=(), commits=(), why="TIMEOUT")
    late = {0: 10.3, 1: 10.1, 2: 10.2, 3: 10.4}
    hung = replace(
        hung,
        facts=tuple(
            replace(one, finished=False, error=_error(one.rank), error_after=late[one.rank]) for one in hung.facts
        ),
    )
    found = [*seen.generations[:at], hung, *seen.generations[at:]]
    seen = edited(
        replace(seen, generations=tuple(found)), number, evidence={"starts": [{**good[0], "outcome": "TIMEOUT"}, *good]}
    )
    assert verdicts(seen)["R6"] is Verdict.FAIL
    assert judge(seen).answer == STOP
    assert "Timed out on rank 1" in judge(seen).because


def _error(rank: int) -> ErrorFacts:
    return ErrorFacts(type="RuntimeError", text=f"Timed out on rank {rank}")


def test_dcp_that_an_environment_could_not_try_is_unknown_never_passed() -> None:
    seen = sound(rollback=True)
    found = judge(generation(seen, 1, lacks={3: "no NumPy"}))
    assert {one.name for one in found.invariants if one.verdict is Verdict.UNKNOWN} == {"R6", "R7"}
    assert found.answer == UNKNOWN
    assert 'the environment of 2.6.0 has no NumPy for it. Add requires = ["numpy"]' in found.because


def test_a_release_without_dcp_is_no_lack_of_the_environment() -> None:
    assert judge(generation(sound(), 0, lacks={0: "this release has no FileSystemWriter"})).verdict is Verdict.PASS


def test_silent_mixing_fails_r8() -> None:
    seen = sound(policy="refuse")
    at = next(index for index, one in enumerate(seen.generations) if one.why == "refused")
    mixed = generation(seen, at, outcomes=(Outcome.OK,) * 4)
    assert verdicts(mixed)["R8"] is Verdict.FAIL


@pytest.mark.parametrize("wrote", ["lines", "commits"])
def test_a_refused_group_that_trained_or_wrote_fails_r8(wrote: str) -> None:
    seen = sound(policy="refuse")
    at = next(index for index, one in enumerate(seen.generations) if one.why == "refused")
    stolen = getattr(seen.generations[0], wrote)
    assert stolen
    assert verdicts(generation(seen, at, **{wrote: stolen}))["R8"] is Verdict.FAIL


def test_a_late_refusal_fails_r8() -> None:
    seen = sound(policy="refuse")
    number = first(seen, Do.PROBE, expect=Expect.REFUSE)
    assert verdicts(edited(seen, number, evidence={"after": [0.1, 3.0, 0.1, 0.1]}))["R8"] is Verdict.FAIL


def test_a_wrong_collective_fails_r9() -> None:
    seen = sound()
    number = first(seen, Do.PROBE, expect=Expect.TRAIN)
    seen = edited(seen, number, state=State.FAILED, why="all_reduce: wrong", evidence={"wrong": ["rank 1: x"]})
    assert verdicts(seen)["R9"] is Verdict.FAIL


def test_a_rank_that_hangs_fails_r10() -> None:
    seen = sound()
    ranks = (Outcome.OK, Outcome.HANG, Outcome.OK, Outcome.OK)
    assert verdicts(generation(seen, 1, outcomes=ranks))["R10"] is Verdict.FAIL


def test_a_step_beyond_its_deadline_fails_r10() -> None:
    seen = sound()
    assert verdicts(edited(seen, 3, seconds=999.0))["R10"] is Verdict.FAIL


def test_an_old_node_that_joins_after_finalise_fails_r11() -> None:
    seen = sound()
    number = next(s.number for s in seen.plan.steps if s.do is Do.PROBE and s.stage.startswith("after"))
    assert verdicts(edited(seen, number, evidence={"outcomes": ["OK"] * 4}))["R11"] is Verdict.FAIL


@pytest.mark.parametrize("strategy", ["rolling", "stop-the-world"])
def test_an_old_node_that_joins_after_finalise_is_not_mended_by_stopping_the_world(strategy: str) -> None:
    seen = sound(strategy=strategy)
    number = next(s.number for s in seen.plan.steps if s.do is Do.PROBE and s.stage.startswith("after"))
    assert judge(edited(seen, number, evidence={"outcomes": ["OK"] * 4})).answer == UNSAFE


def test_a_stage_without_progress_is_unknown_never_passed() -> None:
    seen = sound()
    found = verdicts(generation(seen, 1, lines=seen.generations[1].lines[:4]))
    assert found["R12"] is Verdict.UNKNOWN


def test_a_job_that_dies_by_itself_in_a_window_fails_r12_and_needs_stop_the_world() -> None:
    seen = sound()
    number = next(s.number for s in seen.plan.steps if s.do is Do.TRAIN and s.mixed)
    died = edited(seen, number, state=State.FAILED, why="rank 0 OPAQUE: too many values to unpack (expected 5)")
    assert verdicts(died)["R12"] is Verdict.FAIL
    assert judge(died).answer == STOP
    drain = next(s.number for s in seen.plan.steps if s.do is Do.DRAIN and s.mixed)
    assert verdicts(edited(seen, drain, state=State.FAILED, why="while draining: rank 0"))["R12"] is Verdict.FAIL


def test_a_step_that_did_not_happen_leaves_r13_unknown() -> None:
    seen = sound()
    assert verdicts(replace(seen, results=seen.results[:-1]))["R13"] is Verdict.UNKNOWN
    assert verdicts(edited(seen, 3, state=State.SKIPPED))["R13"] is Verdict.UNKNOWN


def test_a_fault_that_nobody_saw_is_unknown_and_one_that_did_not_heal_fails() -> None:
    seen = sound(faults=("pause",))
    number = first(seen, Do.FAULT)
    assert verdicts(edited(seen, number, evidence={"observed": None}))["R13"] is Verdict.UNKNOWN
    assert verdicts(edited(seen, number, evidence={"healed": None}))["R13"] is Verdict.FAIL


def test_sick_nodes_overlapping_faults_and_leftovers_fail_r14() -> None:
    seen = sound(faults=("pause", "kill"))
    number = first(seen, Do.FAULT)
    assert verdicts(edited(seen, number, evidence={"after": {"healthy": False}}))["R14"] is Verdict.FAIL
    assert verdicts(edited(seen, number, seconds=500.0))["R14"] is Verdict.FAIL
    assert verdicts(replace(seen, left=("container x stays",)))["R14"] is Verdict.FAIL


def test_a_fault_that_the_machine_could_not_make_is_unknown_never_failed() -> None:
    seen = sound(faults=("pause",))
    number = first(seen, Do.FAULT)
    results = [
        replace(one, state=State.FAILED, evidence={"before": one.evidence["before"], "machine": "nsenter failed"})
        if one.number == number
        else one
        for one in seen.results
    ]
    found = verdicts(replace(seen, results=tuple(results)))
    assert (found["R13"], found["R14"]) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert Verdict.FAIL not in found.values()


def test_a_forbidden_line_in_a_log_fails_r15() -> None:
    seen = sound()
    facts = tuple(replace(one, log="ok\nterminate called after throwing\n") for one in seen.generations[1].facts)
    assert verdicts(generation(seen, 1, facts=facts))["R15"] is Verdict.FAIL


def test_a_plan_that_differs_from_its_seed_is_said_to_be_replayed() -> None:
    seen = sound()
    steps = tuple(replace(step, deadline=step.deadline + 1) for step in seen.plan.steps)
    replayed = next(
        one for one in judge(replace(seen, plan=replace(seen.plan, steps=steps))).invariants if one.name == "R16"
    )
    assert replayed.verdict is Verdict.PASS
    assert "replayed" in replayed.evidence


def test_another_release_than_planned_is_the_harness_fault_and_unknown() -> None:
    seen = sound()
    facts = tuple(replace(one, torch="2.7.1") for one in seen.generations[0].facts)
    assert verdicts(generation(seen, 0, facts=facts))["R1"] is Verdict.UNKNOWN


def test_a_rehearsal_that_was_cut_short_has_lost_nothing_and_shown_nothing() -> None:
    seen = sound()
    cut = replace(seen, results=seen.results[:9], generations=seen.generations[:1], controls=())
    found = verdicts(cut)
    assert Verdict.FAIL not in found.values()
    assert found["R2"] is Verdict.UNKNOWN
    gone = lines(cut.generations[0], lambda one: [] if one.step == 2 else [one])
    assert verdicts(generation(cut, 0, lines=gone))["R2"] is Verdict.FAIL


def test_facts_that_can_not_be_read_are_unknown_never_passed() -> None:
    found = judge(generation(sound(), 1, facts=(None,)))
    unread = {one.name for one in found.invariants if one.verdict is Verdict.UNKNOWN}
    assert unread == {"R1", "R15"}
    assert found.answer == UNKNOWN


def test_nothing_seen_passes_nothing_but_the_plan() -> None:
    empty = replace(sound(rollback=True, faults=("kill",)), results=(), generations=(), controls=(), reports={})
    found = verdicts(empty)
    passed = {name for name, verdict in found.items() if verdict is Verdict.PASS}
    assert passed <= {"R14", "R16"}
    assert judge(empty).answer == UNKNOWN
