"""Compare what ranks reported with what an oracle says: missing cases, extra cases and wrong values are all errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torchskew.planning.scenario import Report, World

SHOWN = 120  # characters of a value in a reason
MOST = 3  # differences listed in full


def compare(reports: Sequence[Report], world: World, expected: Callable[[int], Mapping[str, Any]]) -> dict[int, str]:
    """Why each finished rank is wrong; `expected` gives a rank's cases and their values.

    Cases that a version of the group lacks (world.skip) have to be absent. Where they all are, nothing was
    tested, and that is wrong as well: such a scenario must say that it is unsupported.
    """
    wrong = {
        rank: differences(report.get("cases"), expected(rank), world.skip)
        for rank, report in enumerate(reports)
        if report is not None
    }
    return {rank: summary(problems) for rank, problems in wrong.items() if problems}


def near(reports: Sequence[Report], world: World, names: Iterable[str], bound: float) -> dict[int, str]:
    """Why the numbers of a rank are not those of rank 0, case by case; `bound`: relative, absolute below 1.

    names: cases that rank 0 must have, unless a version lacks them (world.skip).
    """
    first = reports[0]
    if first is None:
        return {}
    written: Mapping[str, Any] = first.get("cases") or {}  # type: ignore[assignment]
    absent = [name for name in names if not skipped(name, world.skip) and not written.get(name)]
    if absent or not written:
        return {0: f"rank 0 reported nothing for {', '.join(absent) or 'any case'}"}
    wrong = {}
    for rank, report in enumerate(reports[1:], 1):
        if report is None:
            continue
        got: Mapping[str, Any] = report.get("cases") or {}  # type: ignore[assignment]
        problems = [f"{case} was not asked for" for case in got if case not in written]
        problems += [text for case in written if (text := _off(case, got.get(case), written[case], bound))]
        if problems:
            wrong[rank] = summary(problems)
    return wrong


def _off(case: str, got: Any, wanted: Sequence[float], bound: float) -> str:
    """What is wrong with one list of numbers; empty: nothing."""
    if got is None:
        return f"{case} is missing"
    if len(got) != len(wanted):
        return f"{case} has {len(got)} numbers, expected {len(wanted)}"
    off = max((abs(a - b) / max(1.0, abs(b)) for a, b in zip(got, wanted, strict=True)), default=0.0)
    return "" if off <= bound else f"{case} is off by {off:.2g}, {bound:.2g} allowed"


def differences(got: object, wanted: Mapping[str, Any], skip: Mapping[str, str]) -> list[str]:
    """Each difference of one rank's cases in words."""
    if not isinstance(got, dict):
        return ["it reported no cases"]
    right = {case: plain(value) for case, value in wanted.items() if not skipped(case, skip)}
    problems = [] if right else ["every case was left out"]
    problems += [f"{case} is missing" for case in right if case not in got]
    problems += [f"{case} was not asked for" for case in got if case not in right]
    problems += [
        f"{case} is {shown(got[case])}, expected {shown(value)}"
        for case, value in right.items()
        if case in got and got[case] != value
    ]
    return problems


def skipped(case: str, skip: Mapping[str, str]) -> bool:
    """Whether a version of the group lacks the case."""
    return any(fnmatchcase(case, pattern) for pattern in skip)


def plain(value: object) -> object:
    """The value as it comes back from a rank: tuples are lists, keys are text."""
    return json.loads(json.dumps(value))


def shown(value: object) -> str:
    """A value short enough for one line of a report."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def summary(problems: Sequence[str]) -> str:
    """The first few differences and how many more there are."""
    more = f"; and {len(problems) - MOST} more" if len(problems) > MOST else ""
    return "; ".join(problems[:MOST]) + more


def missing_symbol(text: str) -> str:
    """The symbol, library or version that a loader's error says is missing, "" where it names none."""
    found = re.search(r"undefined symbol: (\S+)|(\S+\.so\S*): cannot open|version `(\S+)' not found", text)
    return next((each for each in found.groups() if each), "") if found else ""
