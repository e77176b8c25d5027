"""The answer of a rehearsal in words: what an operator may do, why, and what that does not cover; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torchskew.model.outcomes import Verdict
from torchskew.model.rehearsal import StateKind
from torchskew.workflows.rehearsal import bridging, fitness
from torchskew.workflows.rehearsal.findings import Answer, Breach, Invariant
from torchskew.workflows.rehearsal.invariants import training, upgrade
from torchskew.workflows.rehearsal.invariants.index import EvidenceIndex, attempts
from torchskew.workflows.rehearsal.observed import Observation, StartResult, StepResult
from torchskew.workflows.rehearsal.planned import BridgeProposal, Expect, StartJob

# More than this is for the list of invariants above the answer.
MOST_CAUSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The answer, why, and the verdict that the exit code follows."""

    answer: Answer
    because: str
    verdict: Verdict


def conclude(index: EvidenceIndex, invariants: Sequence[Invariant]) -> Conclusion:
    """What an operator may do, and why. A job that fails by itself says nothing about releases."""
    if why := _own_fault(index):
        return Conclusion(answer=Answer.UNKNOWN, because=why, verdict=Verdict.UNKNOWN)
    if failed := [invariant for invariant in invariants if invariant.verdict is Verdict.FAIL]:
        mixed_only = all(_only_mixed(invariant, index) for invariant in failed)
        answer = Answer.STOP if mixed_only else Answer.UNSAFE
        because = ("only a mixed group fails: " if mixed_only else "") + because_of(failed)
        return Conclusion(answer=answer, because=because, verdict=Verdict.FAIL)
    if unknown := [invariant for invariant in invariants if invariant.verdict is Verdict.UNKNOWN]:
        why = "; ".join(f"{invariant.name}: {invariant.evidence}" for invariant in unknown)
        return Conclusion(answer=Answer.UNKNOWN, because=why, verdict=Verdict.UNKNOWN)
    if refused := _refusing_groups(index):
        groups = "1 mixed group refuses" if refused == 1 else f"{refused} mixed groups refuse"
        why = f"{groups} clearly on every rank, and the job goes on once all are on one side"
        why += f"{_proposed(index)}{_state(index)}"
        return Conclusion(answer=Answer.STOP, because=why, verdict=Verdict.PASS)
    why = f"every invariant holds{_caveats(index, invariants)}{_state(index)}"
    return Conclusion(answer=Answer.SAFE, because=why, verdict=Verdict.PASS)


def _own_fault(index: EvidenceIndex) -> str | None:
    """That the job fails on the old release alone, whatever the new one does."""
    spec = index.observation.plan.spec
    job = "your job" if spec.script else "the built-in job"
    if why := fitness.problem(index.observation):
        return f"{job} does not run on {spec.old.name}: {why}"
    if breach := training.restart_alone(index):
        return f"{job} does not resume on {spec.old.name} as it was: {breach.text}"
    return None


@dataclass(slots=True, kw_only=True)
class _Group:
    """Breaches with one cause: the first, and the invariants and number of all."""

    first: Breach
    names: list[str] = field(default_factory=list)
    count: int = 0


def because_of(failed: Sequence[Invariant]) -> str:
    """Each distinct cause once and whole, the first in the plan first; what follows from it is counted behind it."""
    breaches = [(breach, each.name) for each in failed for breach in each.breaches]
    breaches.sort(key=lambda each: (math.inf if each[0].step is None else each[0].step, not each[0].cause))
    groups: list[_Group] = []
    for breach, name in breaches:
        group = next((group for group in groups if _same(group.first, breach, name)), None)
        if group is None:
            group = _Group(first=breach)
            groups.append(group)
        group.count += 1
        if name not in group.names:
            group.names.append(name)
    parts = [_group_text(group) for group in groups[:MOST_CAUSES]]
    rest = len(groups) - MOST_CAUSES
    return "; ".join(parts) + (f"; and {rest} more cause{'s' if rest > 1 else ''}, listed above" if rest > 0 else "")


def _same(first: Breach, breach: Breach, name: str) -> bool:
    """Whether a breach is the first one over again: its error, or steps that nobody trained because of it."""
    if first.cause:
        return first.cause in (breach.cause or breach.text) or name == training.R2.name
    return first.text == breach.text


def _group_text(group: _Group) -> str:
    more = (
        f" ({group.count - 1} more failure{'s' if group.count > 2 else ''} with this cause)" if group.count > 1 else ""
    )
    return f"{', '.join(group.names)}: {group.first.text}{more}"


def _only_mixed(invariant: Invariant, index: EvidenceIndex) -> bool:
    """Whether stopping the world would have avoided this failure; an old node that comes back mixes any group."""
    mixed = bool(invariant.steps) and all(index.step(number).mixed for number in invariant.steps)
    return invariant.name != upgrade.R11.name and mixed


def _refusing_groups(index: EvidenceIndex) -> int:
    """How many mixed groups had to refuse, or did where either was right."""
    return sum(
        step.mixed and result is not None and (start.expect is Expect.REFUSE or _came_to(result, StartResult.REFUSED))
        for step, start, result in index.actions(StartJob)
    )


def _came_to(result: StepResult | None, what: StartResult) -> bool:
    return any(attempt.result is what for attempt in attempts(result))


def _caveats(index: EvidenceIndex, invariants: Sequence[Invariant]) -> str:
    """What a safe upgrade did not try."""
    spec = index.observation.plan.spec
    trained = sum(step.mixed and _came_to(result, StartResult.TRAINS) for step, result in index.steps(StartJob))
    caveats = "" if trained else "; no mixed group trained"
    if spec.strategy.bridged:
        caveats = f", with a bridge as the job's store until finalise{caveats}; {bridging.uncovered(spec)}"
    if not any(each.distributed for each in spec.formats) and spec.script is None:
        caveats += "; torch.distributed.checkpoint was not tried"
    otherwise = index.drawn_otherwise()
    if seed := training.other_numbers(spec.new.name, [*otherwise.samplers, *otherwise.layers]):
        caveats += f"; {seed}"
    back = next((each for each in invariants if each.name == upgrade.R7.name), None)
    if spec.rollback is not None and back is not None and back.verdict is Verdict.UNSUPPORTED:
        caveats += f"; the way back was not tested: {back.evidence}"
    return caveats


def _proposed(index: EvidenceIndex) -> str:
    """The strategy that avoids the stop, where the plan proposes it."""
    proposals = [each for each in index.observation.plan.predictions if isinstance(each, BridgeProposal)]
    return "".join(f"; {bridging.proposal_text(each)}" for each in proposals)


def held_state(observation: Observation) -> tuple[str, ...]:
    """The kinds of state that the job says its checkpoints hold; empty where it says nothing."""
    commits = [commit for generation in observation.generations for commit in generation.commits]
    return tuple(dict.fromkeys(kind for commit in commits for kind in commit.holds))


def _state(index: EvidenceIndex) -> str:
    """What the job's checkpoints held, and what they did not."""
    held = held_state(index.observation)
    script = index.observation.plan.spec.script
    if not held:
        return f"; {script.name if script else 'the job'} does not say what its checkpoints hold"
    lacking = [str(kind) for kind in StateKind if kind not in held]
    return f"; its checkpoints held {', '.join(held)}" + (f", not {', '.join(lacking)}" if lacking else "")
