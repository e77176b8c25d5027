"""Judge: the facts of every rank become an outcome each, and the outcomes of a cell one verdict; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from packaging.version import InvalidVersion
from packaging.version import Version as Release

from torchskew.judging.stacks import waiting_in
from torchskew.model.cells import Cell, Variant
from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.outcomes import Outcome, Phase, Policy, Verdict
from torchskew.model.results import RIGHT, CellResult
from torchskew.model.versions import Version
from torchskew.planning.scenario import Opinion, Scenario, World

# The code under test may round its timeout down a little; later than this share of it counts as "at its timeout".
AT_TIMEOUT = 0.9
GOOD = frozenset({Outcome.OK})
REFUSED = frozenset({Outcome.CLEAR})


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedInputs:
    """What all ranks of a cell share, as its oracle needs it. skip: case pattern -> why a version lacks it."""

    seed: int
    skip: Mapping[str, str] = field(default_factory=dict)


def judge(
    cell: Cell, scenario: Scenario, versions: Sequence[Version], attempts: tuple[Attempt, ...], shared: SharedInputs
) -> CellResult:
    """The verdict of a cell from its last attempt. versions: one per rank."""
    ranks = attempts[-1].ranks
    opinion = _opinion(cell, scenario, ranks, shared)
    wrong = opinion.wrong
    outcomes = tuple(outcome(facts, cell, ranks, wrong.get(facts.rank)) for facts in ranks)
    verdict, reason = _verdict(cell, ranks, outcomes)
    if imposter := _imposter(ranks, versions):
        verdict, reason = Verdict.UNKNOWN, imposter
    elif Outcome.WRONG in outcomes:
        reason = "; ".join(f"rank {rank} WRONG: {why}" for rank, why in sorted(wrong.items()))
    elif verdict is Verdict.PASS and opinion.undecided:
        verdict, reason = Verdict.UNKNOWN, opinion.undecided
    elif verdict is Verdict.PASS and opinion.note:
        reason = f"{reason}; {opinion.note}"
    return CellResult(
        cell=cell,
        verdict=verdict,
        outcomes=outcomes,
        reason=reason,
        attempts=attempts,
        seconds=attempts[-1].seconds,
        phases=_phases(ranks),
        skipped=shared.skip,
    )


def outcome(facts: RankFacts, cell: Cell, group: Sequence[RankFacts], wrong: str | None) -> Outcome:
    """The class of one rank, from facts alone; the order of the questions is the definition."""
    silent = facts.error is None and facts.unsupported is None and not facts.finished
    prevented = facts.machine is not None or facts.prevented is not None
    questions = (
        (prevented or facts.phase is Phase.PROVISION, Outcome.NOT_RUN),
        (facts.killed, Outcome.HANG),
        (facts.signal is not None or silent, Outcome.CRASH),
        (facts.unsupported is not None, Outcome.UNSUPPORTED),
        (facts.error is not None, _error_class(facts, cell, group)),
        (wrong is not None, Outcome.WRONG),
    )
    return next((answer for holds, answer in questions if holds), Outcome.OK)


def _error_class(facts: RankFacts, cell: Cell, group: Sequence[RankFacts]) -> Outcome:
    if (facts.error_after or 0.0) >= AT_TIMEOUT * cell.timeout:
        return Outcome.TIMEOUT
    text = facts.error.text if facts.error else ""
    named = {public(other.torch) for other in group if other.torch}
    return Outcome.CLEAR if named and all(says(text, name) for name in named) else Outcome.OPAQUE


def says(text: str, release: str) -> bool:
    """Whether a text names a release; a path like .../torch-2.6.0/lib or a longer number like 12.6.0.1 does not."""
    return re.search(rf"(?<![\w./-]){re.escape(release)}(?![\w/-]|\.\d)", text) is not None


def public(torch: str) -> str:
    """`2.6.0+cpu` and `2.6.0+debian` are 2.6.0 to a reader of an error."""
    return torch.split("+", 1)[0]


def _opinion(cell: Cell, scenario: Scenario, ranks: Sequence[RankFacts], shared: SharedInputs) -> Opinion:
    """What the scenario's oracle says; one that breaks objects to every finished rank."""
    reports = [dict(facts.payload) if facts.finished else None for facts in ranks]
    if not any(report is not None for report in reports):
        return Opinion()
    params = (cell.variant or Variant(name="")).params
    world = World(size=cell.world_size, skew=cell.skew, params=params, skip=shared.skip, seed=shared.seed)
    try:
        found = scenario.judge(reports, world)
        return found if isinstance(found, Opinion) else Opinion(wrong=dict(found))
    except Exception as error:  # noqa: BLE001 - what comes out of a rank is not trusted, the oracle may choke on it
        why = f"the oracle could not read the report ({type(error).__name__}: {error})"
        return Opinion(wrong={facts.rank: why for facts in ranks if facts.finished})


def _verdict(cell: Cell, ranks: Sequence[RankFacts], outcomes: Sequence[Outcome]) -> tuple[Verdict, str]:
    kinds = set(outcomes)
    prevented = next((why for facts in ranks for why in (facts.machine, facts.prevented) if why), None)
    if prevented is not None or kinds == {Outcome.NOT_RUN}:
        return Verdict.UNKNOWN, f"not run: {prevented or 'no rank was started'}"
    if kinds in (GOOD, REFUSED):
        return _by_policy(cell.policy, refused=kinds == REFUSED)
    # In a handover nobody comes after a rank whose version lacks what the cell is about.
    if Outcome.UNSUPPORTED in kinds and kinds <= {Outcome.OK, Outcome.UNSUPPORTED, Outcome.NOT_RUN}:
        return Verdict.UNSUPPORTED, next((facts.unsupported for facts in ranks if facts.unsupported), "unsupported")
    return Verdict.FAIL, "; ".join(_say(facts, out) for facts, out in zip(ranks, outcomes, strict=True))


def _by_policy(policy: Policy, *, refused: bool) -> tuple[Verdict, str]:
    """All ranks did the same; whether that was promised."""
    if refused:
        kept = policy is not Policy.INTEROPERATE
        where = "" if kept else " where working together was promised"
        return (Verdict.PASS if kept else Verdict.FAIL), f"refused clearly on every rank{where}"
    if policy is Policy.REFUSE:
        return Verdict.FAIL, "mixed silently: every rank went on where a refusal was promised"
    return Verdict.PASS, RIGHT


def _say(facts: RankFacts, out: Outcome) -> str:
    where = f"rank {facts.rank} {out}"
    if facts.error is not None and out is not Outcome.OK:
        first = facts.error.headline[:160]
        return f"{where} after {facts.error_after or 0.0:.1f} s: {facts.error.type}: {first}"
    if out is Outcome.HANG:
        place = waiting_in(facts.stacks)
        return f"{where}: no exit within {facts.seconds:.0f} s, in {facts.phase}{f' at {place}' if place else ''}"
    if out is Outcome.CRASH:
        return f"{where}: {facts.signal or f'exit {facts.exit} without a report'} in {facts.phase}"
    return where


def _imposter(ranks: Sequence[RankFacts], versions: Sequence[Version]) -> str | None:
    """A rank that reports another version than declared is the harness's error, never a result."""
    for facts, version in zip_longest(ranks, versions):
        if facts is None or version is None:
            return "the attempt has another number of ranks than the skew"
        if version.reports and facts.torch and not same_release(version.reports, facts.torch):
            return f"rank {facts.rank} reported torch {facts.torch}, {version.name} is declared as {version.reports}"
    return None


def same_release(declared: str, reported: str) -> bool:
    """Equal public versions; a declared local part (`+cpu`) must be equal too."""
    try:
        want, got = Release(declared), Release(reported)
    except InvalidVersion:
        return declared == reported
    return want == got if want.local else want.public == got.public


def _phases(ranks: Sequence[RankFacts]) -> dict[str, float]:
    names = dict.fromkeys(name for facts in ranks for name in facts.phases)
    return {name: max(facts.phases.get(name, 0.0) for facts in ranks) for name in names}
