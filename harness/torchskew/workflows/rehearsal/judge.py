"""Judge: what a rehearsal observed becomes sixteen verdicts and one answer for the operator; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal.answer import conclude
from torchskew.workflows.rehearsal.findings import Finding, Invariant
from torchskew.workflows.rehearsal.history import idle_seconds
from torchskew.workflows.rehearsal.invariants import soundness, training, upgrade
from torchskew.workflows.rehearsal.invariants.index import EvidenceIndex
from torchskew.workflows.rehearsal.invariants.rule import Rule
from torchskew.workflows.rehearsal.observed import Observation, State

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
    conclusion = conclude(index, invariants)
    return Finding(
        answer=conclusion.answer,
        because=conclusion.because,
        redone=sum(redo.count for redo in index.history.redone),
        idle=idle_seconds(observation.generations),
        invariants=invariants,
        verdict=conclusion.verdict,
        first_bad=None if conclusion.verdict is Verdict.PASS else _first_bad(index, invariants),
    )


def _first_bad(index: EvidenceIndex, invariants: Sequence[Invariant]) -> int | None:
    """The first step that broke something; where nothing did, the first that was not done."""
    results = index.observation.results
    broken = [number for invariant in invariants for number in invariant.steps]
    broken += [result.number for result in results if result.state is State.FAILED and result.machine is None]
    undone = [result.number for result in results if result.state is not State.DONE]
    return min(broken or undone, default=None)


def _checked(rule: Rule, check: Check, index: EvidenceIndex) -> Invariant:
    try:
        return check(index)
    except Exception as error:  # noqa: BLE001 - what comes out of a rank is not trusted; a broken judge is no pass
        return rule.unknown(f"the facts could not be read: {type(error).__name__}: {error}")
