"""Invariants of the rehearsal itself: it ran what it says, its faults were real, and it left nothing; pure."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from torchskew.guard.table import parse
from torchskew.judging.judge import public
from torchskew.workflows.rehearsal.causes import root
from torchskew.workflows.rehearsal.findings import Breach, Invariant
from torchskew.workflows.rehearsal.invariants.index import EvidenceIndex
from torchskew.workflows.rehearsal.invariants.rule import Rule, first_few
from torchskew.workflows.rehearsal.observed import (
    BridgeUse,
    EndKind,
    FaultEvidence,
    Generation,
    State,
    StepResult,
)
from torchskew.workflows.rehearsal.plan import PROGRESS, make_plan
from torchskew.workflows.rehearsal.plan_file import dump, load
from torchskew.workflows.rehearsal.planned import (
    Drain,
    Expect,
    Finish,
    InjectFault,
    RehearsalPlan,
    StartJob,
    Step,
    Train,
    at_a_bridge,
)

R1 = Rule("R1", "every rank runs the release that the plan names")
R12 = Rule("R12", f"the job survives and makes progress in each stage: at least {PROGRESS} committed training steps")
R13 = Rule("R13", "everything planned happened: each fault was observed to start and to end")
R14 = Rule("R14", "the nodes are healthy before and after each fault; faults don't overlap; nothing is left behind")
R15 = Rule("R15", "no rank's log holds what a healthy run never writes")
R16 = Rule("R16", "the same seed and declaration give the same plan, byte for byte")
# Seconds that a plan's offset is rounded by, and more.
CLOCK_ERROR = 0.2
# Only in a rank that ended well: elsewhere it is the error that other invariants report.
UNCAUGHT = "an uncaught exception"
INTERNAL = "an internal check"
FORBIDDEN = {
    "a pickle that can't be read": re.compile(r"UnpicklingError|Can't get attribute|unpickling (error|failed)"),
    "a version that can't be parsed": re.compile(r"Invalid version"),
    "an abort": re.compile(r"terminate called|Segmentation fault|double free|corrupted size"),
    INTERNAL: re.compile(r"INTERNAL ASSERT FAILED|enforce fail", re.IGNORECASE),
    UNCAUGHT: re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE),
}
# Where a pattern is no surprise, with the reason.
ALLOWED = {(INTERNAL, EndKind.KILLED): "gloo's enforce reports that a peer's connection closed"}


def versions(index: EvidenceIndex) -> Invariant:
    """R1."""
    reports = index.observation.reports
    ranks = [
        (generation, fact)
        for generation in index.observation.generations
        for fact in generation.facts
        if fact.torch is not None
    ]
    wrong = []
    for generation, fact in ranks:
        planned = _planned_torch(index, fact.declared)
        if planned and parse(planned) != parse(str(fact.torch)):
            where = f"generation {generation.number}, rank {fact.rank}"
            wrong.append(f"{where}: torch {fact.torch}, planned is {fact.declared} ({planned})")
    same = {public(torch) for torch in reports.values()}
    if len(reports) > 1 and len(same) == 1:
        wrong.append(f"both versions report torch {same.pop()}: nothing is upgraded here")
    if wrong:
        return R1.unknown("the harness ran another release than planned: " + first_few(wrong))
    if not ranks:
        return R1.unknown("no rank reported its release")
    named = ", ".join(f"{name} is torch {torch}" for name, torch in reports.items())
    return R1.passes(f"{len(ranks)} ranks checked; {named}")


def _planned_torch(index: EvidenceIndex, declared: str) -> str | None:
    spec = index.observation.plan.spec
    torch = {release.name: release.torch for release in (spec.old, spec.new)}
    return torch[declared] or index.observation.reports.get(declared)


def progress(index: EvidenceIndex) -> Invariant:
    """R12."""
    failed = [
        (step, result)
        for step, result in index.steps(StartJob, Train, Drain, Finish)
        if result is not None and result.state is State.FAILED and not _must_refuse(step)
    ]
    died = [
        Breach(step.number, f"step {step.number}: {result.why}", _cause(index, step.number))
        for step, result in failed
        if result.machine is None
    ]
    if died:
        return R12.fails(died)
    if failed:
        return R12.unknown(first_few([f"step {step.number}: {result.why}" for step, result in failed]))
    stage_of = {step.number: step.stage for step in index.observation.plan.steps}
    done = Counter({step.stage: 0 for step, _ in index.steps(Train, Finish)})
    done.update(stage_of[surviving.generation.step] for surviving in index.history.steps.values())
    poor = [f"{stage}: {count}" for stage, count in done.items() if count < PROGRESS]
    if poor or not done:
        return R12.unknown(f"too few committed steps to judge: {first_few(poor) or 'none'}")
    least = min(done, key=lambda stage: done[stage])
    return R12.passes(f"{len(done)} stages, the least in '{least}': {done[least]} committed steps")


def _cause(index: EvidenceIndex, number: int) -> str:
    """The error that ended the last generation before or in a step; R12 speaks of the job, R6 and R7 of its files."""
    ran = [generation for generation in index.observation.generations if generation.step <= number]
    return (root(ran[-1]) if ran else None) or ""


def _must_refuse(step: Step) -> bool:
    return isinstance(step.action, StartJob) and step.action.expect is Expect.REFUSE


def happened(index: EvidenceIndex) -> Invariant:
    """R13."""
    plan = index.observation.plan
    faults = _faults(index)
    unhealed = [
        Breach(step.number, f"step {step.number}: nothing shows that {fault.fault} healed")
        for step, fault, result in faults
        if result.machine is None and _fault_evidence(result).healed is None
    ]
    if unhealed:
        return R13.fails(unhealed)
    missing = [str(step.number) for step in plan.steps if step.number not in index.results]
    skipped = [str(result.number) for result in index.observation.results if result.state is State.SKIPPED]
    parts = [f"steps not carried out: {', '.join(missing)}"] if missing else []
    parts += [f"steps with nothing to do: {', '.join(skipped)}"] if skipped else []
    parts += [*_clocks(index), *_bridges(index)]
    parts += [text for step, fault, result in faults if (text := _unobserved(step, fault, result))]
    if parts:
        return R13.unknown(first_few(parts))
    clocks = f"; {len(index.observation.clocks)} shifted clocks read" if plan.clock_offsets else ""
    left_out = f"; left out here: {', '.join(plan.unsupported)}" if plan.unsupported else ""
    done = f"{len(plan.steps)} steps carried out, {len(faults)} faults observed to start and end"
    return R13.passes(f"{done}{clocks}{_met(index)}{left_out}")


def _at_bridges(index: EvidenceIndex) -> list[Generation]:
    """The starts of the job that the plan has meet at a bridge."""
    spec = index.observation.plan.spec
    at = {step.number for step in index.observation.plan.steps if at_a_bridge(step, spec)}
    return [generation for generation in index.observation.generations if generation.step in at]


def _bridges(index: EvidenceIndex) -> list[str]:
    """What does not show that each start met at a bridge, which lived as long as the job."""
    parts = []
    for generation in _at_bridges(index):
        use = generation.bridge or BridgeUse()
        clients, world = sum(use.clients.values()), len(generation.versions)
        if use.lost is not None:
            parts.append(f"generation {generation.number}: {use.lost}")
        elif generation.lines and clients < world:
            fix = 'does the script use init_method="env://"?'
            parts.append(f"generation {generation.number}: {clients} of {world} ranks came to its bridge; {fix}")
    return parts


def _met(index: EvidenceIndex) -> str:
    """Who came to the bridges."""
    met = [generation.bridge for generation in _at_bridges(index) if generation.bridge is not None]
    clients: Counter[str] = sum((Counter(use.clients) for use in met), Counter())
    eras = ", ".join(f"{count} of {era}" for era, count in sorted(clients.items()))
    return f"; {len(met)} starts met at {len(met)} bridges, with connections from {eras}" if met else ""


def _clocks(index: EvidenceIndex) -> list[str]:
    """What does not show that each node's clock was off by what the plan says."""
    planned, read = index.observation.plan.clock_offsets, index.observation.clocks
    unseen = [node for node in range(len(planned)) if node not in {each.node for each in read}]
    parts = [f"nobody looked at the clock of node {', '.join(map(str, unseen))}"] if unseen else []
    return parts + [
        f"the clock of node {each.node} ({each.version}) is off by {each.low:.1f} to {each.high:.1f} s, "
        f"planned is {planned[each.node]:+.1f} s"
        for each in read
        if planned and not each.low - CLOCK_ERROR <= planned[each.node] <= each.high + CLOCK_ERROR
    ]


def _faults(index: EvidenceIndex) -> list[tuple[Step, InjectFault, StepResult]]:
    """Every fault that was tried."""
    return [
        (step, fault, result)
        for step, fault, result in index.actions(InjectFault)
        if result is not None and result.state is not State.SKIPPED
    ]


def _fault_evidence(result: StepResult) -> FaultEvidence:
    """What a fault showed; nothing where it did not get that far."""
    return result.evidence if isinstance(result.evidence, FaultEvidence) else FaultEvidence()


def _unobserved(step: Step, fault: InjectFault, result: StepResult) -> str | None:
    if result.machine is not None:
        return f"step {step.number}: the machine failed: {result.machine}"
    if _fault_evidence(result).observed is None:
        return f"step {step.number}: nothing shows {fault.fault}"
    return None


def healthy(index: EvidenceIndex) -> Invariant:
    """R14."""
    breaches: list[Breach] = []
    unasked: list[str] = []
    faults = _faults(index)
    for step, fault, result in faults:
        evidence = _fault_evidence(result)
        for when, health in (("before", evidence.before), ("after", evidence.after)):
            if health is None and result.machine is not None:
                text = f"step {step.number}: health {when} {fault.fault} is unknown: {result.machine}"
                unasked.append(text)
            elif health is None or not health.healthy:
                shown = health or "no answer"
                breaches.append(Breach(step.number, f"step {step.number}: not healthy {when} {fault.fault}: {shown}"))
    breaches += _overlaps([result for _, _, result in faults])
    last = index.observation.plan.steps[-1].number
    breaches += [Breach(last, f"left behind: {line}") for line in index.observation.left_behind]
    if breaches:
        return R14.fails(breaches)
    if unasked:
        return R14.unknown(first_few(unasked))
    if not faults:
        return R14.passes("no fault was planned, and nothing is left behind")
    return R14.passes(f"all_reduce over all nodes right before and after {len(faults)} faults; nothing is left behind")


def _overlaps(results: list[StepResult]) -> list[Breach]:
    times = sorted((result.begun, result.begun + result.seconds, result.number) for result in results)
    return [Breach(later[2], "two faults overlap") for earlier, later in pairwise(times) if later[0] < earlier[1]]


def logs(index: EvidenceIndex) -> Invariant:
    """R15."""
    breaches, read = [], 0
    for generation in index.observation.generations:
        read += len(generation.facts)
        breaches += _forbidden(generation)
    if breaches:
        return R15.fails(breaches)
    if not read:
        return R15.unknown("no log was read")
    return R15.passes(f"{read} logs, {len(FORBIDDEN)} patterns, {len(ALLOWED)} exception with its reason")


def _forbidden(generation: Generation) -> list[Breach]:
    breaches = []
    for fact in generation.facts:
        for what, pattern in FORBIDDEN.items():
            match = pattern.search(fact.log)
            if match and (what, generation.end.kind) not in ALLOWED and (fact.finished or what != UNCAUGHT):
                line = fact.log[match.start() :].splitlines()[0][:100]
                where = f"generation {generation.number}, rank {fact.rank}"
                breaches.append(Breach(generation.step, f"{where}: {what}: {line!r}"))
    return breaches


def reproducible(index: EvidenceIndex) -> Invariant:
    """R16."""
    plan = index.observation.plan
    if load(dump(plan), "the plan") != plan:
        return R16.fails([Breach(None, "the plan does not come back from its own file")])
    if _from_seed(plan) == dump(plan):
        return R16.passes(f"planned again from seed {plan.spec.seed}: the same bytes, digest {plan.digest}")
    return R16.passes("replayed from a file, which holds every step; what ranks do in time is not replayed")


def _from_seed(plan: RehearsalPlan) -> str:
    return dump(make_plan(plan.spec, plan.unsupported))
