"""Diff: what changed between two runs, cell by cell, and whether it is worse; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from torchskew.model.facts import RankFacts
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult


class Change(StrEnum):
    """How a cell differs. The first three are worse, the rest needs a look."""

    REGRESSION = "regression"
    NEWLY_UNSUPPORTED = "newly unsupported"
    LOST = "no longer known"
    OTHER_CLASS = "fails differently"
    NEW_PASS = "new pass"
    NOW_KNOWN = "known now"
    OTHER = "other verdict"
    ADDED = "new cell"
    REMOVED = "removed cell"


WORSE = frozenset({Change.REGRESSION, Change.NEWLY_UNSUPPORTED, Change.LOST})
_PLURAL = {
    Change.REGRESSION: "regressions",
    Change.NEW_PASS: "new passes",
    Change.ADDED: "new cells",
    Change.REMOVED: "removed cells",
    Change.OTHER: "other verdicts",
}
MOST = 20  # changed cells that are shown in full
_SILENT = frozenset({Verdict.UNKNOWN, Verdict.BLOCKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One cell that differs; before or after is None where only one of the runs has it."""

    cell_id: CellId
    change: Change
    before: CellResult | None
    after: CellResult | None

    @property
    def worse(self) -> bool:
        """Whether the later run is worse here."""
        return self.change in WORSE or (
            self.change is Change.ADDED and self.after is not None and self.after.verdict is Verdict.FAIL
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changed between two runs. compared: cells that both have; added, removed: cells of only one of them."""

    changes: tuple[Changed, ...]
    compared: int
    added: int = 0
    removed: int = 0

    @property
    def worse(self) -> bool:
        """Whether the later run is worse in any cell."""
        return any(item.worse for item in self.changes)


def difference(before: Iterable[CellResult], after: Iterable[CellResult]) -> Difference:
    """Every cell that differs, the worse ones first, else in the later run's order, removed ones last."""
    old = {result.cell.id: result for result in before}
    new = {result.cell.id: result for result in after}
    changes = []
    for cell_id, result in new.items():
        change = _change(old[cell_id], result) if cell_id in old else Change.ADDED
        if change is not None:
            changes.append(Changed(cell_id=cell_id, change=change, before=old.get(cell_id), after=result))
    gone = [cell_id for cell_id in old if cell_id not in new]
    changes += [Changed(cell_id=cell_id, change=Change.REMOVED, before=old[cell_id], after=None) for cell_id in gone]
    order = list(Change)
    return Difference(
        changes=tuple(sorted(changes, key=lambda item: (not item.worse, order.index(item.change)))),
        compared=len(old.keys() & new.keys()),
        added=len(new.keys() - old.keys()),
        removed=len(gone),
    )


def in_common(before: Iterable[CellResult], after: Iterable[CellResult]) -> Difference:
    """What changed in the cells that both runs have; cells of only one of them are counted, and no change."""
    every = difference(before, after)
    changes = tuple(item for item in every.changes if item.change not in (Change.ADDED, Change.REMOVED))
    return replace(every, changes=changes)


def _change(old: CellResult, new: CellResult) -> Change | None:
    """What a cell's two results have between them; None when nothing a reader cares about."""
    if new.verdict is old.verdict:
        differs = new.verdict is Verdict.FAIL and new.outcomes != old.outcomes
        return Change.OTHER_CLASS if differs else None
    questions = (
        (new.verdict in _SILENT and old.verdict not in _SILENT, Change.LOST),
        (new.verdict is Verdict.FAIL and old.verdict not in _SILENT, Change.REGRESSION),
        (new.verdict is Verdict.UNSUPPORTED and old.verdict is Verdict.PASS, Change.NEWLY_UNSUPPORTED),
        (old.verdict in _SILENT and new.verdict not in _SILENT, Change.NOW_KNOWN),
        (new.verdict is Verdict.PASS, Change.NEW_PASS),
    )
    return next((change for holds, change in questions if holds), Change.OTHER)


def sentence(delta: Difference, before: str, after: str) -> str:
    """The comparison in words: the same, no worse or worse, in what, and how many cells were compared."""
    alone = [f"{delta.added} new" if delta.added else "", f"{delta.removed} gone" if delta.removed else ""]
    count = " and ".join(part for part in alone if part)
    uncompared = f"; {count} {'cell was' if delta.added + delta.removed == 1 else 'cells were'} not compared"
    rest = uncompared if count else ""
    cells = f"{delta.compared} {'cell' if delta.compared == 1 else 'cells'}"
    if not delta.changes:
        return f"{after} is the same as {before} in the {cells} that both have{rest}"
    counts = Counter(item.change for item in delta.changes)
    kinds = ", ".join(_counted(counts[change], change) for change in Change if counts[change])
    listed = any(item.change in (Change.ADDED, Change.REMOVED) for item in delta.changes)
    word = "worse" if delta.worse else "no worse"
    return f"{after} is {word} than {before}: {kinds}; {cells} compared{'' if listed else rest}"


def _counted(count: int, change: Change) -> str:
    return f"{count} {change if count == 1 else _PLURAL.get(change, change)}"


def render(changes: Sequence[Changed], again: Rerun, most: int = MOST) -> str:
    """Only what changed: each cell's verdicts, each rank that differs, and the command that runs it again.

    again: what runs the cells of the later run again. most: cells shown in full.
    """
    blocks = ["\n".join(_lines(item, again)) for item in changes[:most]]
    if len(changes) > most:
        blocks.append(f"… and {len(changes) - most} more; results.json and report.html hold all of them")
    return "\n".join(blocks)


def _lines(item: Changed, again: Rerun) -> Iterable[str]:
    blocked = item.after is not None and item.after.verdict is Verdict.BLOCKED
    by = f" by {item.after.blocked_by}" if blocked and item.after else ""
    yield f"{item.change:<18} {item.cell_id}   {_verdict(item.before)} -> {_verdict(item.after)}{by}"
    if item.after is not None and not blocked:
        yield from (f"  {line}" for line in _ranks(item.after, item.before))
        yield f"  rerun: {again.of_cell(item.cell_id)}"


def _verdict(result: CellResult | None) -> str:
    if result is None:
        return "absent"
    shown = "/".join(result.outcomes) if result.verdict is Verdict.FAIL else ""
    return f"{result.verdict}{f' {shown}' if shown else ''}"


def _ranks(after: CellResult, before: CellResult | None) -> Iterable[str]:
    """Each rank whose outcome differs, with its error; every rank where there is nothing to compare."""
    old = before.outcomes if before is not None else ()
    shown = []
    for facts, outcome in zip(after.ranks, after.outcomes, strict=False):
        was = old[facts.rank] if facts.rank < len(old) else None
        if was is not outcome:
            change = f"{was} -> {outcome}" if was else str(outcome)
            shown.append(f"rank {facts.rank} {facts.declared} ({facts.torch or 'no torch'}) {change}")
            shown[-1] += _ending(facts, outcome)
    yield from shown
    shown_by_ranks = bool(shown) and Outcome.WRONG not in after.outcomes and after.verdict is Verdict.FAIL
    if after.verdict is not Verdict.PASS and not shown_by_ranks:
        yield after.reason


def _ending(facts: RankFacts, outcome: Outcome) -> str:
    if outcome is Outcome.OK:
        return ""
    if facts.error is not None:
        error = f"{facts.error.type}: {facts.error.headline[:160]}"
        return f" in {facts.phase} after {facts.error_after or 0.0:.1f} s: {error}"
    return f" in {facts.phase}{f', {facts.signal}' if facts.signal else ''}"
