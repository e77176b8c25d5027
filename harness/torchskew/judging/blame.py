"""Blame: what a red control or the base's own failure takes off a candidate, and the gate's decision; pure."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torchskew.declaration.candidate import BASE, CANDIDATE
from torchskew.judging import diff
from torchskew.judging.decide import SHUT, WORDS, decide
from torchskew.judging.diff import Change, Difference
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult, Checked, Decision, Part, Status
from torchskew.model.runs import Asked, Shard
from torchskew.planning.gate import bases, controls, feature_controls, is_control


def fair(decision: Decision, subject: str) -> Decision:
    """The decision with only what the candidate may be blamed for; subject: its name for the last line.

    A red control makes the cells that lean on it UNKNOWN; a failure that the base shows as well is no regression;
    what the base does on its own never gates; what the candidate lacks and every release beside it has is gone.
    """
    held = {item.result.cell.id: item for item in decision.checked}
    red = _red_controls(held)
    cells = tuple(item.result.cell for item in decision.checked)
    leans, twins, measures = controls(cells), bases(cells), feature_controls(cells)
    checked = []
    for cell in cells:
        item = held[cell.id]
        culprit = next((control for control in leans.get(cell.id, ()) if control in red), None)
        if cell.id in red:
            checked.append(_red(item))
        elif culprit is not None and item.result.verdict is not Verdict.UNKNOWN:
            checked.append(_not_judged(item, held[culprit]))
        elif cell.id in twins:
            base = held[twins[cell.id]]
            checked.append(_able(_against_base(item, base), [base]))
        else:
            others = [held[control] for control in measures.get(cell.id, ())]
            checked.append(_of_base(item) if BASE in cell.skew else _able(item, others))
    return _decision(replace(decision, checked=tuple(checked)), subject)


def against_baseline(
    plan: Plan, results: Sequence[CellResult], expectations: Sequence[Expectation], asked: Asked, today: dt.date
) -> Decision:
    """A gate's run against its baseline, each cell by itself.

    The baseline speaks of more cells than this plan: its unmatched patterns were found when the run began.
    """
    matching = [entry for entry in expectations if any(fnmatchcase(cell.id, entry.cells) for cell in plan.cells)]
    decision = decide(plan, results, matching, today=today)
    return replace(decision, problems=(*decision.problems, *asked.problems))


def judged(decision: Decision, asked: Asked, shard: Shard | None) -> Decision:
    """The decision on the candidate; of a part of the plan, none."""
    if shard is not None:
        return undecided(decision, shard)
    return _decision(decision, asked.subject, of_library=True) if asked.of_library else fair(decision, asked.subject)


def undecided(decision: Decision, shard: Shard) -> Decision:
    """A part of a plan: it blames nobody, because the control that explains a failure may be in another part.

    Its exit code is 0 when every cell of the part came to a verdict, whichever, and 1 otherwise.
    """
    open_ends = [item for item in decision.checked if item.status in (Status.UNKNOWN, Status.MISSING)]
    left = frozenset(item.result.cell.id for item in open_ends)
    checked = tuple(item if item.result.cell.id in left else _unblamed(item) for item in decision.checked)
    state = f"is incomplete: {_incomplete(open_ends)}" if left else "ran"
    return replace(
        decision,
        checked=checked,
        exit_code=int(bool(left)),
        sentence=f"part {shard.index} of {shard.count} {state}; `torchskew merge` decides",
        part=Part(index=shard.index, count=shard.count),
    )


def of_part(decision: Decision, shard: Shard | None) -> Decision:
    """The decision on a part of a plan of which each cell is judged in the part itself: it says that it is a part.

    A part that is too small to have a cell has nothing against it.
    """
    if shard is None:
        return decision
    empty = not (decision.checked or decision.problems)
    words = "it has no cell" if empty else decision.sentence
    return replace(
        decision,
        exit_code=0 if empty else decision.exit_code,
        sentence=f"part {shard.index} of {shard.count}: {words}; `torchskew merge` decides",
        part=Part(index=shard.index, count=shard.count),
    )


def _unblamed(item: Checked) -> Checked:
    return replace(item, status=Status.NOT_JUDGED) if item.status in SHUT else item


def _incomplete(items: Sequence[Checked]) -> str:
    counts = Counter(item.status for item in items)
    words = [f"{counts[status]} {WORDS[status][counts[status] != 1]}" for status in WORDS if counts[status]]
    return "; ".join([", ".join(words), *(f"{name} has no environment: {why}" for name, why in _lost(items).items())])


def not_worse(decision: Decision, delta: Difference, accepted: str, asked: Asked, again: Rerun) -> Decision:
    """The decision with what changed since the accepted run; a feature that is gone is a regression.

    again: what runs the cells of this run again.
    """
    gone = {item.cell_id for item in delta.changes if item.change is Change.NEWLY_UNSUPPORTED}
    checked = tuple(_gone(item, accepted) if item.result.cell.id in gone else item for item in decision.checked)
    lines = [diff.sentence(delta, f"the accepted run {accepted}", asked.subject)]
    lines += [diff.render(delta.changes, again)] if delta.changes else []
    shown = tuple(item.cell_id for item in delta.changes[: diff.MOST])
    compared = replace(decision, checked=checked, difference="\n".join(lines), changed=shown)
    return _decision(compared, asked.subject, of_library=asked.of_library)


def _gone(item: Checked, accepted: str) -> Checked:
    """A baseline entry may say that a feature is gone on purpose."""
    if item.expectation is not None or item.status is not Status.EXPECTED:
        return item
    reason = f"newly unsupported, it passed in {accepted}: {item.result.reason}"
    return replace(item, status=Status.REGRESSION, result=replace(item.result, reason=reason))


def _red_controls(held: Mapping[CellId, Checked]) -> frozenset[str]:
    """Controls that failed and were not expected to, and those that such a one blocked."""
    red: set[str] = set()
    for cell_id, item in held.items():  # in the plan's order: what blocks comes before what it blocks
        if is_control(item.result.cell) and (item.status in SHUT or item.result.blocked_by in red):
            red.add(cell_id)
    return frozenset(red)


def _red(item: Checked) -> Checked:
    result = item.result
    reason = f"control is red: {result.reason}. Cells that depend on it say nothing about the candidate"
    return replace(item, status=Status.UNKNOWN, result=replace(result, verdict=Verdict.UNKNOWN, reason=reason))


def _not_judged(item: Checked, control: Checked) -> Checked:
    """Facts stay, the verdict goes: with the release failing alone, the candidate can't be blamed."""
    result, cell = item.result, control.result.cell
    reason = f"the control {cell.id} is red, so this {result.verdict} says nothing about the candidate"
    return replace(item, status=Status.UNKNOWN, result=replace(result, verdict=Verdict.UNKNOWN, reason=reason))


def _against_base(item: Checked, base: Checked) -> Checked:
    """No worse than the base: the same failure is the base's."""
    result, other = item.result, base.result
    same = result.verdict is other.verdict is Verdict.FAIL and result.outcomes == other.outcomes
    if item.status is Status.REGRESSION and same:
        reason = "the base fails in the same way"
        entry = Expectation(cells=result.cell.id, verdict=Verdict.FAIL, reason=reason, outcomes=other.outcomes)
        return replace(item, status=Status.KNOWN_FAILURE, expectation=entry)
    return item


def _able(item: Checked, others: Sequence[Checked]) -> Checked:
    """A promise, or a case of it, that all these others keep and the candidate can't: gone, unless that is known."""
    lacks = _lacks(item.result, [other.result for other in others])
    if not lacks or item.status not in (Status.EXPECTED, Status.REGRESSION):
        return item
    known = item.expectation is not None and item.expectation.verdict is Verdict.UNSUPPORTED
    skews = [other.result.cell.skew for other in others]
    names = ", ".join(dict.fromkeys("the base" if BASE in skew else skew[0] for skew in skews))
    result = replace(item.result, verdict=Verdict.UNSUPPORTED, reason=f"newly unsupported, {names} can: {lacks}")
    return replace(item, status=Status.EXPECTED if known else Status.REGRESSION, result=result)


def _lacks(result: CellResult, others: Sequence[CellResult]) -> str:
    """What the candidate can't do of what passes with every one of these others; empty: nothing."""
    if not others or any(other.verdict is not Verdict.PASS for other in others):
        return ""
    if result.verdict is Verdict.UNSUPPORTED:
        return result.reason
    # A release may lack more at once: its AVG/* covers the candidate's AVG/int32/*.
    had = [pattern for other in others for pattern in other.skipped]
    new = [case for case in result.skipped if not any(fnmatchcase(case, pattern) for pattern in had)]
    if result.verdict is not Verdict.PASS or not new:
        return ""
    rest = f"; and {len(new) - 3} more" if len(new) > 3 else ""
    return "; ".join(f"{case}, {result.skipped[case]}" for case in new[:3]) + rest


def _of_base(item: Checked) -> Checked:
    """What the base does is the measure; only where it could not be taken is the gate shut."""
    return item if item.status in (Status.UNKNOWN, Status.MISSING) else replace(item, status=Status.NOT_JUDGED)


def _decision(decision: Decision, subject: str, *, of_library: bool = False) -> Decision:
    shut = [item for item in decision.checked if item.status in SHUT]
    problems = len(decision.problems)
    counts = Counter(item.status for item in shut)
    words = [f"{counts[status]} {WORDS[status][counts[status] != 1]}" for status in WORDS if counts[status]]
    words += [f"{problems} {'problem' if problems == 1 else 'problems'} with the baseline"] if problems else []
    if not decision.checked:
        return decision
    if not words:
        done = f"all {len(decision.checked)} cells are as expected{_besides(decision)}"
        return replace(decision, exit_code=0, sentence=f"gate open: {subject}: {done}")
    lost = _lost(shut)
    if CANDIDATE in lost:
        sentence = f"gate shut: {subject} has no environment: {lost[CANDIDATE]}"
        return replace(decision, exit_code=1, sentence=sentence)
    what = _where(shut, of_library=of_library)
    sentence = f"gate shut: {subject}: {', '.join(words)}{f' ({what})' if what else ''}"
    sentence += "".join(f"; {name} has no environment: {why}" for name, why in lost.items())
    return replace(decision, exit_code=1, sentence=sentence)


def _besides(decision: Decision) -> str:
    """What did not pass although the gate is open, so that its last line promises no more than was seen."""
    known = sum(item.status is Status.KNOWN_FAILURE for item in decision.checked)
    flaky = sum(item.status is Status.KNOWN_FLAKY for item in decision.checked)
    verdicts = Counter(item.result.verdict for item in decision.checked)
    parts = [
        f"{known} known {'failure' if known == 1 else 'failures'}" if known else "",
        f"{flaky} known {'flake' if flaky == 1 else 'flakes'}" if flaky else "",
        *(
            f"{verdicts[verdict]} {verdict.lower()}"
            for verdict in (Verdict.BLOCKED, Verdict.UNSUPPORTED)
            if verdicts[verdict]
        ),
    ]
    listed = ", ".join(part for part in parts if part)
    return f", with {listed}" if listed else ""


def _lost(shut: Sequence[Checked]) -> Mapping[str, str]:
    """The versions that have no environment, each with the first line of why."""
    failures = (item.result.unprovisioned for item in shut)
    return {failure.version: failure.reason.splitlines()[0] for failure in failures if failure}


def _where(shut: list[Checked], *, of_library: bool) -> str:
    """The first few scenarios and partners: the last line alone says where to look."""
    blamed = [item for item in shut if item.status not in (Status.UNKNOWN, Status.MISSING)] or shut
    places = list(dict.fromkeys(_place(item.result.cell, of_library=of_library) for item in blamed))
    return ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")


def _place(cell: Cell, *, of_library: bool) -> str:
    partners = [name for name in dict.fromkeys(cell.skew) if name != CANDIDATE]
    name = cell.name
    if of_library:
        return f"{name} on {', '.join(cell.skew)}"
    if CANDIDATE not in cell.skew:
        return f"{name} of {partners[0]} itself"
    alone = "alone" if cell.world_size == 1 else "with itself"
    return f"{name} with {', '.join(partners)}" if partners else f"{name} {alone}"
