"""Compare what ranks reported with what an oracle says: missing cases, extra cases and wrong values are all errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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
