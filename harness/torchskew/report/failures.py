"""Failures that are one thing, together: by the known break that they show, else by scenario and error."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import groupby

from torchskew.guard.table import parse
from torchskew.model.ids import USUAL
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import Checked, Status
from torchskew.model.versions import span
from torchskew.releases.breaks import Break, BreakFinder, Side
from torchskew.report.catalogue import catalogue

_RANGES = 4  # pairs of ranges that are spelled out
_SCENARIOS = 4  # patterns in one command
_VARYING = re.compile(r"0x[0-9a-f]+|\d+|'[^']*'")


@dataclass(frozen=True)
class FailureGroup:
    """Cells that fail in one way. entry: the break of the catalogue that they show, where exactly one is known."""

    status: Status
    entry: Break | None
    items: tuple[Checked, ...]

    @cached_property
    def scenarios(self) -> tuple[str, ...]:
        """The scenarios that show it, in the order of the plan."""
        return tuple(dict.fromkeys(item.result.cell.name for item in self.items))

    @property
    def title(self) -> str:
        """What it is, for a heading."""
        return f"{self.entry.id}: {self.entry.title}" if self.entry else ", ".join(self.scenarios)

    @property
    def pairs(self) -> str:
        """The skews as ranges of releases: `2.2.2-2.4.1,2.5.1-2.15.0`; of many, the first and how many more."""
        ranges = _ranges(dict.fromkeys(tuple(item.result.cell.skew) for item in self.items))
        rest = len(ranges) - _RANGES
        return " ".join(ranges[:_RANGES]) + (f" and {rest} more" if rest > 0 else "")

    def rerun(self, again: Rerun) -> Rerun:
        """One command that runs its cells again: the cell alone, or every cell of its scenarios."""
        if len(self.items) == 1:
            return again.of_cell(self.items[0].result.cell.id)
        if len(self.scenarios) > _SCENARIOS:
            return again.fresh()
        for name in self.scenarios:
            again = again.only(f"{name}/*")
        return again.fresh()


def groups(items: Iterable[Checked]) -> tuple[FailureGroup, ...]:
    """The groups in the order of their first cells."""
    by_key: dict[tuple[Status, str], list[Checked]] = {}
    entries: dict[tuple[Status, str], Break | None] = {}
    for item in items:
        entry = known_break(item)
        key = (item.status, entry.id if entry else _error_of(item))
        by_key.setdefault(key, []).append(item)
        entries[key] = entry
    return tuple(FailureGroup(status=key[0], entry=entries[key], items=tuple(same)) for key, same in by_key.items())


def among(failures: Iterable[FailureGroup], items: Sequence[Checked]) -> tuple[FailureGroup, ...]:
    """The groups of these cells alone, in the order of their first cells."""
    places = {item.result.cell.id: place for place, item in enumerate(items)}
    kept = [
        replace(group, items=tuple(item for item in group.items if item.result.cell.id in places)) for group in failures
    ]
    left = (group for group in kept if group.items)
    return tuple(sorted(left, key=lambda group: places[group.items[0].result.cell.id]))


def known_break(item: Checked) -> Break | None:
    """The break that a stock cell shows, where it fails and exactly one entry of the catalogue covers it.

    What ranks on different nodes show may be their network's.
    """
    cell, result = item.result.cell, item.result
    if result.verdict is not Verdict.FAIL or cell.conditions != USUAL or not result.ranks:
        return None
    ranks = [Side(facts.torch or facts.declared, facts.python or "", facts.numpy or "") for facts in result.ranks]
    ranks += [Side(name) for name in result.cell.skew[len(ranks) :]]  # ranks of a handover that never started
    return _finder().only(result.cell.name, ranks)


@cache
def _finder() -> BreakFinder:
    return BreakFinder(catalogue())


def _error_of(item: Checked) -> str:
    """What cells of one group share where no known break explains them."""
    result = item.result
    if result.verdict is not Verdict.FAIL:
        return result.cell.id  # what could not run, or passed, is one by one
    errors = (
        f"{outcome} {facts.error.type if facts.error else ''} {_VARYING.sub('#', _headline(facts.error))}"
        for facts, outcome in zip(result.ranks, result.outcomes, strict=False)
        if outcome is not Outcome.OK
    )
    return "\n".join([result.cell.name, *errors])


def _headline(error: object) -> str:
    return str(getattr(error, "headline", ""))


def _ranges(skews: Collection[tuple[str, ...]]) -> list[str]:
    """Skews whose hosts and joiners are neighbours become one range; worlds of three and more stay as they are."""
    pairs = [skew for skew in skews if len(skew) == 2]
    order = sorted({name for skew in pairs for name in skew}, key=lambda name: (parse(name) or (9999,), name))
    at = {name: place for place, name in enumerate(order)}
    joiners: dict[str, list[str]] = {}
    for host, joiner in sorted(pairs, key=lambda pair: (at[pair[0]], at[pair[1]])):
        joiners.setdefault(host, []).append(joiner)
    ranges: list[str] = []
    for _, alike in groupby(joiners.items(), key=lambda each: each[1]):
        hosts = dict(alike)
        rows = _rows(next(iter(hosts.values())), at)
        ranges += [f"{span(same)},{span(row)}" for same in _rows([*hosts], at) for row in rows]
    return [*ranges, *(",".join(skew) for skew in skews if len(skew) != 2)]


def _rows(names: Sequence[str], at: Mapping[str, int]) -> list[list[str]]:
    """Names in rows of neighbours."""
    rows: list[list[str]] = []
    for name in names:
        if rows and at[name] == at[rows[-1][-1]] + 1:
            rows[-1].append(name)
        else:
            rows.append([name])
    return rows
