"""Invariants of the upgrade's windows: checkpoints across releases, refusals, collectives, hangs; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torchskew.judging.judge import public
from torchskew.model.outcomes import Json, Outcome
from torchskew.workflows.rehearsal.case import Case, Rule, listed
from torchskew.workflows.rehearsal.logs import core
from torchskew.workflows.rehearsal.model import Do, Expect, Generation, Invariant, State, Step, StepResult

R6 = Rule("R6", "the new release takes up what the old one wrote, unchanged, and trains on")
R7 = Rule("R7", "on rollback the old release reads what the new one wrote or names both in its refusal")
R8 = Rule("R8", "a group that may not form refuses clearly on every rank, before any collective or checkpoint")
R9 = Rule("R9", "collectives of a mixed group are right on every rank, whichever release hosts it")
R10 = Rule("R10", "nothing hangs: every step of the plan ends before its deadline")
R11 = Rule("R11", "after finalise an old node is refused on every rank")
# As harness/torchskew/inside/training_job.py says it.
NO_NUMPY = "no NumPy"
# Seconds from the rendezvous to the refusal.
REFUSAL = 1.0


def forward(case: Case) -> Invariant:
    """R6."""
    return _reads(case, R6, back=False)


def backward(case: Case) -> Invariant:
    """R7."""
    if not case.seen.plan.spec.rollback:
        return R7.void("not rehearsed: --rollback was not asked for")
    return _reads(case, R7, back=True)


def _reads(case: Case, rule: Rule, *, back: bool) -> Invariant:
    good: list[str] = []
    wrong: list[tuple[int, str]] = []
    for step, result in case.steps(Do.READ):
        if case.rolls_back(step) is back and result is not None:
            found = _read(case, step, result, good, named=back)
            wrong += [(step.number, text) for text in found]
    for step, result in case.steps(Do.START):
        upgraded = case.seen.plan.spec.new.name in step.versions
        if case.rolls_back(step) is back and (back or upgraded):
            wrong += [(step.number, text) for text in _taken_up(case, step, result, good)]
    if wrong:
        return rule.fails(listed(text for _, text in wrong), (number for number, _ in wrong))
    if untried := _untried(case):
        return rule.unknown(untried)
    if not good:
        return rule.unknown("no checkpoint was read")
    return rule.passes(f"{len(good)} readings, every hash as written: {listed(dict.fromkeys(good), 2)}")


def _read(case: Case, step: Step, result: StepResult, good: list[str], *, named: bool) -> list[str]:
    """What is wrong with what a node read alone. named: an error that names both releases is a refusal."""
    wrong = []
    for what in ("newest", "kept"):
        told = result.evidence.get(what)
        formats = told.get("formats") if isinstance(told, dict) else None
        if not isinstance(told, dict) or not isinstance(formats, dict):
            continue
        where = f"{told.get('by')} reading {told.get('checkpoint')}"
        if told.get("unchanged") is False:
            wrong.append(f"{where}: the reader changed its files")
        for kind, got in formats.items():
            error = got.get("error") if isinstance(got, dict) else "no answer"
            if error is not None and not (named and what == "newest" and _names(str(error), case.seen.reports)):
                wrong.append(f"{where} as {kind}: {core(str(error))}")
            elif isinstance(got, dict) and "hash" in got and got["hash"] != told.get("written"):
                wrong.append(f"{where} as {kind}: what it read is not what was written")
            elif error is None and isinstance(got, dict) and "hash" in got:
                good.append(f"{told.get('by')} read {told.get('checkpoint')} as {kind}")
    del step
    return wrong


def _names(text: str, reports: Mapping[str, str]) -> bool:
    return all(public(torch) in text for torch in reports.values())


def _taken_up(case: Case, step: Step, result: StepResult | None, good: list[str]) -> list[str]:
    """What is wrong with what a whole group took up when it started."""
    wrong = []
    tried = case.attempts(result)
    for attempt, generation in zip(tried, case.generations_of(step.number), strict=False):
        resumed, outcome = generation.resumed, str(attempt.get("outcome"))
        if resumed is None or outcome == "refused":
            continue
        group = ", ".join(generation.versions)
        if outcome != "trains":
            # Whether the loading failed, or something before it that R8 to R10 speak of.
            if not generation.loaded and (error := _first_error(generation)):
                kinds = "+".join(str(one) for one in _list(attempt.get("formats")))
                wrong.append(f"({group}) could not take up {resumed.name} ({kinds}): {core(error)}")
            continue
        bad = [one.rank for one in generation.loaded if one.hash not in (None, resumed.hash)]
        if bad:
            wrong.append(f"({group}) took up {resumed.name} with another hash on ranks {bad}")
        elif generation.loaded:
            good.append(f"({group}) took up {resumed.name}")
    return wrong


def _untried(case: Case) -> str | None:
    """That torch.distributed.checkpoint was asked for and could not be tried, for no fault of a release."""
    found = {
        generation.versions[rank]
        for generation in case.seen.generations
        for rank, why in generation.lacks.items()
        if why == NO_NUMPY
    }
    if not found:
        return None
    names = ", ".join(sorted(found))
    mend = 'Add requires = ["numpy"] to the version, or ask for --checkpoint plain.'
    return f"dcp was asked for, and the environment of {names} has no NumPy for it. {mend}"


def _first_error(generation: Generation) -> str | None:
    """The error of the rank that failed first; the others' often only tell that it was gone."""
    told = [(fact.error_after or math.inf, fact.error.text) for fact in generation.facts if fact.error]
    return min(told, key=lambda one: one[0])[1] if told else None


def _list(value: Json) -> list[Any]:
    return value if isinstance(value, list) else []


def refusals(case: Case) -> Invariant:
    """R8."""
    wrong: list[tuple[int, str]] = []
    slowest, count = 0.0, 0
    for step, result in case.steps(Do.START, Do.PROBE):
        if step.expect is not Expect.REFUSE or result is None:
            continue
        count += 1
        found = _start(case, step) if step.do is Do.START else _probe(result)
        outcomes, after, extra = found
        if set(outcomes) != {"CLEAR"}:
            wrong.append((step.number, f"step {step.number}: {', '.join(outcomes) or 'no outcome'}"))
        late = max(after, default=0.0)
        slowest = max(slowest, late)
        if late > REFUSAL and set(outcomes) == {"CLEAR"}:
            wrong.append((step.number, f"step {step.number}: refused after {late:.1f} s, {REFUSAL:.0f} s is allowed"))
        wrong += [(step.number, f"step {step.number}: {text}") for text in extra]
    if wrong:
        return R8.fails(listed(text for _, text in wrong), (number for number, _ in wrong))
    if not count:
        return R8.void("no group of this plan is to be refused")
    groups = "1 group" if count == 1 else f"{count} groups"
    return R8.passes(f"{groups} refused on every rank, the slowest after {slowest:.2f} s, nothing written")


def _start(case: Case, step: Step) -> tuple[list[str], list[float], list[str]]:
    outcomes, after, extra = [], [], []
    for generation in case.generations_of(step.number):
        outcomes += [str(one) for one in generation.outcomes]
        after += [fact.error_after for fact in generation.facts if fact.error_after is not None]
        if generation.lines:
            extra.append(f"{len(generation.lines)} training steps were logged")
        if generation.commits:
            extra.append(f"checkpoint {generation.commits[0].name} was written")
    return outcomes, after, extra


def _probe(result: StepResult) -> tuple[list[str], list[float], list[str]]:
    after = [float(one) for one in _list(result.evidence.get("after")) if isinstance(one, int | float)]
    return [str(one) for one in _list(result.evidence.get("outcomes"))], after, []


def collectives(case: Case) -> Invariant:
    """R9."""
    wrong: list[tuple[int, str]] = []
    cases, hosts = 0, []
    for step, result in case.steps(Do.PROBE):
        if step.expect is not Expect.TRAIN or result is None:
            continue
        outcomes = [str(one) for one in _list(result.evidence.get("outcomes"))]
        if result.state is not State.DONE or set(outcomes) != {"OK"}:
            wrong.append((step.number, f"step {step.number}: {result.why}"))
        count = result.evidence.get("cases")
        cases += count if isinstance(count, int) else 0
        hosts.append(step.versions[step.order[0]])
    if wrong:
        return R9.fails(listed(text for _, text in wrong), (number for number, _ in wrong))
    if not hosts:
        return R9.void("no mixed group of this plan is to train")
    if not cases:
        return R9.unknown("no case of a collective was counted")
    return R9.passes(f"{cases} cases of all_reduce right on every rank, hosted by {', '.join(sorted(set(hosts)))}")


def hangs(case: Case) -> Invariant:
    """R10."""
    wrong = [
        (generation.step, f"generation {generation.number}, rank {rank} ({generation.versions[rank]}): HANG")
        for generation in case.seen.generations
        for rank, outcome in enumerate(generation.outcomes)
        if outcome is Outcome.HANG
    ]
    for step in case.seen.plan.steps:
        result = case.results.get(step.number)
        outcomes = _list(result.evidence.get("outcomes")) if result else []
        if result and (result.seconds > step.deadline or "HANG" in outcomes):
            wrong.append((step.number, f"step {step.number}: {result.why or 'a rank hung'}"))
    if wrong:
        return R10.fails(listed(text for _, text in wrong), (number for number, _ in wrong))
    if not case.seen.results:
        return R10.unknown("no step was carried out")
    longest = max(case.seen.results, key=lambda one: one.seconds)
    return R10.passes(f"the longest, step {longest.number}, took {longest.seconds:.1f} s")


def finalised(case: Case) -> Invariant:
    """R11."""
    done = [result for _, result in case.steps(Do.FINALISE) if result and result.state is State.DONE]
    late = [(step, result) for step, result in case.steps(Do.PROBE) if step.stage.startswith("after")]
    if not done or not late or late[0][1] is None:
        return R11.unknown("the plan did not come to an old node after finalise")
    step, result = late[0]
    outcomes = [str(one) for one in _list(result.evidence.get("outcomes"))] if result else []
    if set(outcomes) != {"CLEAR"}:
        return R11.fails(f"an old node joined after finalise: {', '.join(outcomes)}", (step.number,))
    return R11.passes(f"node {step.nodes[0]} came back with {step.versions[step.nodes[0]]}: refused on every rank")
