"""Facts that no source had told and a run has shown; predictions take them in, each names the cell that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from harness.model import Outcome

OK, OPAQUE, TIMEOUT, HANG, WRONG = Outcome.OK, Outcome.OPAQUE, Outcome.TIMEOUT, Outcome.HANG, Outcome.WRONG


class Way(Enum):
    """Which ranks are of a release before the change: rank 0 (host, or writer), and the other."""

    FIRST_OLDER = frozenset({(True, False)})
    SECOND_OLDER = frozenset({(False, True)})
    EITHER = frozenset({(True, False), (False, True)})
    ALL_OLDER = frozenset({(True, True)})
    ANY_OLDER = frozenset({(True, True), (True, False), (False, True)})
    NONE_OLDER = frozenset({(False, False)})


@dataclass(frozen=True, slots=True)
class Row:
    """One fact. scenario: pattern over names with variants; change: the first release that is otherwise.

    outcomes: rank 0's and the other's, where two ranks meet across the change. cell: what shows it, with its run.
    """

    scenario: str
    change: tuple[int, int]
    way: Way
    outcomes: tuple[Outcome, Outcome]
    cell: str


ROWS: tuple[Row, ...] = (
    # 2.14 counts hashed names as well: after one the next counted name differs, and each waits for its own.
    Row("new_group.after_local", (2, 14), Way.EITHER, (HANG, HANG), "2.13.0,2.14.1 in 20261121-155418-7d4472"),
)


def outcomes(scenario: str, numbers: tuple[tuple[int, ...], ...]) -> tuple[Outcome, ...] | None:
    """What two ranks of these releases come to where a row speaks of them, else None. numbers: rank 0's first."""
    if len(numbers) != len("ab"):
        return None
    for row in ROWS:
        older = numbers[0][:2] < row.change, numbers[1][:2] < row.change
        if fnmatchcase(scenario, row.scenario) and older in row.way.value:
            return row.outcomes
    return None
