"""Judge: what a rehearsal observed becomes sixteen verdicts and one answer for the operator; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torchskew.model.outcomes import Verdict
from torchskew.model.rehearsal import CheckpointFormat
from torchskew.workflows.rehearsal.findings import Answer, Finding, Invariant
from torchskew.workflows.rehearsal.history import idle_seconds
from torchskew.workflows.rehearsal.invariants import soundness, training, upgrade
from torchskew.workflows.rehearsal.invariants.index import EvidenceIndex, attempts
from torchskew.workflows.rehearsal.invariants.rule import Rule
from torchskew.workflows.rehearsal.observed import Observation, StartResult, State, StepResult
from torchskew.workflows.rehearsal.planned import Expect, StartJob

Check: TypeAlias = Callable[[EvidenceIndex], Invariant]
CHECKS: tuple[tuple[Rule, Check], ...] = (
    (soundness.R1, soundness.versions),
    (training.R2, training.training_steps),
    (training.R3, training.samples),
    (training.R4, training.loss),
    (training.R5, training.agreement),
    (upgrade.R6, upgrade.forward),
    (upgrade.R7, upgrade.backward),
    (upgrade.R8, upgrade.refusals),
    (upgrade.R9, upgrade.collectives),
    (upgrade.R10, upgrade.hangs),
    (upgrade.R11, upgrade.finalised),
    (soundness.R12, soundness.progress),
    (soundness.R13, soundness.happened),
    (soundness.R14, soundness.healthy),
    (soundness.R15, soundness.logs),
    (soundness.R16, soundness.reproducible),
)


def judge(observation: Observation) -> Finding:
    """Every invariant, and the answer. An invariant that can't read the facts is UNKNOWN, never a pass."""
    index = EvidenceIndex(observation)
    invariants = tuple(_checked(rule, check, index) for rule, check in CHECKS)
    answer, because = _answer(index, invariants)
    verdict = _verdict(invariants)
    bad = [number for invariant in invariants for number in invariant.steps]
    bad += [result.number for result in observation.results if result.state is not State.DONE][:1]
    return Finding(
        answer=answer,
        because=because,
        redone=sum(redo.count for redo in index.history.redone),
        idle=idle_seconds(observation.generations),
        invariants=invariants,
        verdict=verdict,
        first_bad=min(bad, default=None) if verdict is not Verdict.PASS else None,
    )


def _checked(rule: Rule, check: Check, index: EvidenceIndex) -> Invariant:
    try:
        return check(index)
    except Exception as error:  # noqa: BLE001 - what comes out of a rank is not trusted; a broken judge is no pass
        return rule.unknown(f"the facts could not be read: {type(error).__name__}: {error}")


def _verdict(invariants: Sequence[Invariant]) -> Verdict:
    verdicts = {invariant.verdict for invariant in invariants}
    return next((each for each in (Verdict.FAIL, Verdict.UNKNOWN) if each in verdicts), Verdict.PASS)


def _answer(index: EvidenceIndex, invariants: Sequence[Invariant]) -> tuple[Answer, str]:
    """What an operator may do, and why."""
    failed = [invariant for invariant in invariants if invariant.verdict is Verdict.FAIL]
    unknown = [invariant for invariant in invariants if invariant.verdict is Verdict.UNKNOWN]
    why = "; ".join(f"{invariant.name}: {invariant.evidence}" for invariant in failed or unknown)
    if failed:
        mixed_only = all(_only_mixed(invariant, index) for invariant in failed)
        return (Answer.STOP, f"only a mixed group fails: {why}") if mixed_only else (Answer.UNSAFE, why)
    if unknown:
        return Answer.UNKNOWN, why
    if refused := _refusing_groups(index):
        groups = "1 mixed group refuses" if refused == 1 else f"{refused} mixed groups refuse"
        return Answer.STOP, f"{groups} clearly on every rank, and the job goes on once all are on one side"
    return Answer.SAFE, f"every invariant holds{_caveats(index)}"


def _refusing_groups(index: EvidenceIndex) -> int:
    """How many mixed groups had to refuse, or did where either was right."""
    return sum(
        step.mixed and result is not None and (start.expect is Expect.REFUSE or _refused(result))
        for step, start, result in index.actions(StartJob)
    )


def _refused(result: StepResult) -> bool:
    return any(attempt.result is StartResult.REFUSED for attempt in attempts(result))


def _caveats(index: EvidenceIndex) -> str:
    """What a safe upgrade did not try."""
    spec = index.observation.plan.spec
    caveats = "" if index.mixed_may_train() else ", with no mixed group in the plan"
    if CheckpointFormat.DCP not in spec.formats and spec.script is None:
        caveats += "; torch.distributed.checkpoint was not tried"
    return caveats


def _only_mixed(invariant: Invariant, index: EvidenceIndex) -> bool:
    """Whether stopping the world would have avoided this failure; an old node that comes back mixes any group."""
    mixed = bool(invariant.steps) and all(index.step(number).mixed for number in invariant.steps)
    return invariant.name != upgrade.R11.name and mixed
