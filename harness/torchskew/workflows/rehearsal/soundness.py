"""Invariants of the rehearsal itself: it ran what it says, its faults were real, and it left nothing; pure."""

from __future__ import annotations

import re
from itertools import pairwise

from torchskew.guard.table import parse
from torchskew.judging.judge import public
from torchskew.workflows.rehearsal.case import Case, Rule, listed
from torchskew.workflows.rehearsal.model import Do, Expect, Invariant, State
from torchskew.workflows.rehearsal.plan import PROGRESS, make_rehearsal
from torchskew.workflows.rehearsal.text import dump, load

R1 = Rule("R1", "every rank runs the release that the plan says")
R12 = Rule("R12", f"the job lives and makes progress in each stage: at least {PROGRESS} committed steps")
R13 = Rule("R13", "everything planned happened: each fault was seen to come and to go")
R14 = Rule("R14", "the nodes are well before and after each fault; faults don't overlap; nothing stays behind")
R15 = Rule("R15", "no rank's log holds what a sound run never writes")
R16 = Rule("R16", "the same seed and declaration give the same plan, byte for byte")
# Only in a rank that ended well: elsewhere it is the error that other invariants speak of.
UNCAUGHT = "an uncaught exception"
FORBIDDEN = {
    "a pickle that can't be read": re.compile(r"UnpicklingError|Can't get attribute|unpickling (error|failed)"),
    "a version that can't be understood": re.compile(r"Invalid version"),
    "an abort": re.compile(r"terminate called|Segmentation fault|double free|corrupted size"),
    "an internal check": re.compile(r"INTERNAL ASSERT FAILED|enforce fail", re.IGNORECASE),
    UNCAUGHT: re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE),
}
# Where a pattern is no surprise; the reason stands with it.
ALLOWED = {
    ("an internal check", "killed by a fault"): "gloo's enforce tells that a peer's connection closed",
}


def versions(case: Case) -> Invariant:
    """R1."""
    spec, wrong, count = case.seen.plan.spec, [], 0
    release = {one.name: one.torch for one in (spec.old, spec.new)}
    for generation in case.seen.generations:
        for fact in generation.facts:
            if fact.torch is None:
                continue
            count += 1
            wanted = release[fact.declared] or case.seen.reports.get(fact.declared)
            if wanted and parse(wanted) != parse(fact.torch):
                where = f"generation {generation.number}, rank {fact.rank}"
                wrong.append(f"{where}: torch {fact.torch}, planned is {fact.declared} ({wanted})")
    said = {public(torch) for torch in case.seen.reports.values()}
    if len(case.seen.reports) > 1 and len(said) == 1:
        wrong.append(f"both versions report torch {said.pop()}: nothing is upgraded here")
    if wrong:
        return R1.unknown("the harness ran another release than planned: " + listed(wrong))
    if not count:
        return R1.unknown("no rank said what it runs")
    named = ", ".join(f"{name} is torch {torch}" for name, torch in case.seen.reports.items())
    return R1.passes(f"{count} ranks asked; {named}")


def progress(case: Case) -> Invariant:
    """R12."""
    died = [
        (step.number, f"step {step.number}: {result.why}")
        for step, result in case.steps(Do.START, Do.TRAIN, Do.DRAIN, Do.FINISH)
        if result is not None and result.state is State.FAILED and step.expect is not Expect.REFUSE
    ]
    if died:
        return R12.fails(listed(text for _, text in died), (number for number, _ in died))
    stage_of = {step.number: step.stage for step in case.seen.plan.steps}
    done: dict[str, int] = {}
    for step in case.seen.plan.steps:
        if step.do in (Do.TRAIN, Do.FINISH):
            done.setdefault(step.stage, 0)
    for row in case.lineage.rows.values():
        stage = stage_of[row.generation.step]
        done[stage] = done.get(stage, 0) + 1
    poor = [f"{stage}: {count}" for stage, count in done.items() if count < PROGRESS]
    if poor or not done:
        return R12.unknown(f"too few committed steps to speak of: {listed(poor) or 'none'}")
    least = min(done, key=lambda stage: done[stage])
    return R12.passes(f"{len(done)} stages, the least in '{least}': {done[least]} committed steps")


def happened(case: Case) -> Invariant:
    """R13."""
    plan, unhealed = case.seen.plan, []
    missing = [step.number for step in plan.steps if step.number not in case.results]
    skipped = [one.number for one in case.seen.results if one.state is State.SKIPPED]
    unseen = []
    faults = 0
    for step, result in case.steps(Do.FAULT):
        if result is None or result.state is State.SKIPPED:
            continue
        faults += 1
        if machine := result.evidence.get("machine"):
            unseen.append(f"step {step.number}: the machine failed: {machine}")
            continue
        if result.evidence.get("observed") is None:
            unseen.append(f"step {step.number}: nothing shows {step.fault}")
        if result.evidence.get("healed") is None:
            unhealed.append((step.number, f"step {step.number}: nothing shows that {step.fault} healed"))
    if unhealed:
        return R13.fails(listed(text for _, text in unhealed), (number for number, _ in unhealed))
    if missing or skipped or unseen:
        parts = [f"steps not carried out: {', '.join(map(str, missing))}"] if missing else []
        parts += [f"steps without anything to do: {', '.join(map(str, skipped))}"] if skipped else []
        return R13.unknown(listed([*parts, *unseen]))
    left = f"; left out here: {', '.join(plan.unsupported)}" if plan.unsupported else ""
    return R13.passes(f"{len(plan.steps)} steps carried out, {faults} faults seen to come and to go{left}")


def healthy(case: Case) -> Invariant:
    """R14."""
    wrong: list[tuple[int, str]] = []
    times, unasked = [], []
    for step, result in case.steps(Do.FAULT):
        if result is None or result.state is State.SKIPPED:
            continue
        times.append((result.begun, result.begun + result.seconds, step.number))
        for when in ("before", "after"):
            told = result.evidence.get(when)
            if told is None and "machine" in result.evidence:
                unasked.append(
                    f"step {step.number}: nobody could ask {when} {step.fault}: {result.evidence['machine']}"
                )
                continue
            if not isinstance(told, dict) or told.get("healthy") is not True:
                wrong.append((step.number, f"step {step.number}: not healthy {when} {step.fault}: {told}"))
    wrong += [(later[2], "two faults overlap") for earlier, later in pairwise(sorted(times)) if later[0] < earlier[1]]
    last = case.seen.plan.steps[-1].number
    wrong += [(last, f"left behind: {line}") for line in case.seen.left]
    if wrong:
        return R14.fails(listed(text for _, text in wrong), (number for number, _ in wrong))
    if unasked:
        return R14.unknown(listed(unasked))
    if not times:
        return R14.passes("no fault was planned, and nothing stayed behind")
    return R14.passes(f"all_reduce over all nodes right before and after {len(times)} faults; nothing stayed behind")


def logs(case: Case) -> Invariant:
    """R15."""
    wrong, read = [], 0
    for generation in case.seen.generations:
        for fact in generation.facts:
            read += 1
            for what, pattern in FORBIDDEN.items():
                found = pattern.search(fact.log)
                if found and (what, generation.why) not in ALLOWED and (fact.finished or what != UNCAUGHT):
                    line = fact.log[found.start() :].splitlines()[0][:100]
                    where = f"generation {generation.number}, rank {fact.rank}"
                    wrong.append((generation.step, f"{where}: {what}: {line!r}"))
    if wrong:
        return R15.fails(listed(text for _, text in wrong), (number for number, _ in wrong))
    if not read:
        return R15.unknown("no log was read")
    return R15.passes(f"{read} logs, {len(FORBIDDEN)} patterns, {len(ALLOWED)} exception with its reason")


def reproducible(case: Case) -> Invariant:
    """R16."""
    plan = case.seen.plan
    if load(dump(plan), "the plan") != plan:
        return R16.fails("the plan does not come back from its own file", ())
    if dump(make_rehearsal(plan.spec, plan.unsupported)) == dump(plan):
        return R16.passes(f"made again from seed {plan.spec.seed}: the same bytes, digest {plan.digest}")
    return R16.passes("replayed from a file, which holds every step; what ranks do in time is not replayed")
