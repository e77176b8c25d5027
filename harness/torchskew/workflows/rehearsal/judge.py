"""Judge: what a rehearsal saw becomes sixteen verdicts and one answer for the operator; pure."""

from __future__ import annotations

from collections.abc import Callable

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal import data, soundness, windows
from torchskew.workflows.rehearsal.case import Case
from torchskew.workflows.rehearsal.lineage import idle
from torchskew.workflows.rehearsal.model import Do, Expect, Finding, Invariant, Observed, State

SAFE, STOP, UNSAFE, UNKNOWN = "safe", "needs stop-the-world", "not safe", "unknown"
# A wait between two steps that is longer than this is time without progress, in seconds.
PAUSE = 0.5

INVARIANTS: tuple[Callable[[Case], Invariant], ...] = (
    soundness.versions,
    data.steps,
    data.samples,
    data.loss,
    data.agreement,
    windows.forward,
    windows.backward,
    windows.refusals,
    windows.collectives,
    windows.hangs,
    windows.finalised,
    soundness.progress,
    soundness.happened,
    soundness.healthy,
    soundness.logs,
    soundness.reproducible,
)


def judge(seen: Observed) -> Finding:
    """Every invariant, and what they come to. An invariant that can't read the facts is UNKNOWN, never a pass."""
    case = Case(seen)
    invariants = tuple(_judged(rule, case) for rule in INVARIANTS)
    answer, because = _answer(case, invariants)
    bad = sorted(number for one in invariants for number in one.bad)
    bad += [one.number for one in seen.results if one.state is not State.DONE][:1]
    return Finding(
        answer=answer,
        because=because,
        redone=sum(redo.count for redo in case.lineage.redone),
        idle=idle(seen.generations, PAUSE),
        invariants=invariants,
        verdict=_verdict(invariants),
        first_bad=min(bad, default=None) if _verdict(invariants) is not Verdict.PASS else None,
    )


def _judged(rule: Callable[[Case], Invariant], case: Case) -> Invariant:
    try:
        return rule(case)
    except Exception as error:  # noqa: BLE001 - what comes out of a rank is not trusted; a broken judge is no pass
        why = f"the facts could not be read: {type(error).__name__}: {error}"
        name = f"R{INVARIANTS.index(rule) + 1}"
        return Invariant(name=name, promise="", verdict=Verdict.UNKNOWN, evidence=why)


def _verdict(invariants: tuple[Invariant, ...]) -> Verdict:
    kinds = {one.verdict for one in invariants}
    return Verdict.FAIL if Verdict.FAIL in kinds else Verdict.UNKNOWN if Verdict.UNKNOWN in kinds else Verdict.PASS


def _answer(case: Case, invariants: tuple[Invariant, ...]) -> tuple[str, str]:
    """What an operator is told, and why."""
    failed = [one for one in invariants if one.verdict is Verdict.FAIL]
    unknown = [one for one in invariants if one.verdict is Verdict.UNKNOWN]
    why = "; ".join(f"{one.name}: {one.evidence}" for one in failed or unknown)
    refused = [
        step
        for step, result in case.steps(Do.START)
        if step.mixed and result is not None and (step.expect is Expect.REFUSE or _refused(result.evidence))
    ]
    if failed:
        apart = [one for one in failed if not _only_mixed(one, case)]
        return (UNSAFE, why) if apart else (STOP, f"only a mixed group fails: {why}")
    if unknown:
        return UNKNOWN, why
    if refused:
        groups = "1 mixed group refuses" if len(refused) == 1 else f"{len(refused)} mixed groups refuse"
        return STOP, f"{groups} clearly on every rank, and the job goes on once all are on one side"
    untried = "" if case.mixed_may_train() else ", with no mixed group in the plan"
    spec = case.seen.plan.spec
    if "dcp" not in spec.formats and not spec.script:
        untried += "; torch.distributed.checkpoint was not tried"
    return SAFE, f"every invariant holds{untried}"


def _only_mixed(one: Invariant, case: Case) -> bool:
    """Whether stopping the world would have spared this failure; an old node that comes back mixes any group."""
    return one.name != "R11" and bool(one.bad) and all(case.step(number).mixed for number in one.bad)


def _refused(evidence: object) -> bool:
    starts = evidence.get("starts") if isinstance(evidence, dict) else None
    return isinstance(starts, list) and any(isinstance(one, dict) and one.get("outcome") == "refused" for one in starts)
