"""Update: what a gate's baseline would have to say differently, as TOML that a person must finish and review."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from torchskew.model.results import Checked, Decision, Status

# A cell with one of these gets an entry, the others a comment.
_ENTRIES = frozenset({Status.REGRESSION, Status.FLAKY, Status.FAILS_DIFFERENTLY})
HEAD = """
# Written by `torchskew gate --update-baseline` in run {run}: review every line.
# An entry without a reason is refused, so nothing below counts before somebody says why.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a baseline would have to say. text: a block of TOML, empty when nothing differs; entries: how many."""

    text: str
    entries: int


def difference(decision: Decision, run_id: str) -> Update:
    """An entry with an empty reason per new failure, a comment per entry that no longer holds.

    Each new entry names one cell: patterns are never made and never widened here.
    """
    parts = [part for item in decision.checked if (part := _part(item))]
    parts += [f"# {problem}\n" for problem in decision.problems]
    text = "\n".join([HEAD.format(run=run_id), *_unique(parts)]) if parts else ""
    return Update(text=text, entries=sum(item.status in _ENTRIES for item in decision.checked))


def _part(item: Checked) -> str:
    """What one cell asks of the baseline; nothing for what only the machine or nobody can answer for."""
    makers = {
        Status.REGRESSION: _new,
        Status.FLAKY: _flaky,
        Status.FAILS_DIFFERENTLY: lambda one: _otherwise(one) + _new(one),
        Status.UNEXPECTED_PASS: _passes,
        Status.EXPIRED: _ended,
    }
    return makers[item.status](item) if item.status in makers else ""


def _new(item: Checked) -> str:
    result = item.result
    outcomes = json.dumps([str(outcome) for outcome in result.outcomes])
    said = f"# {_line(result.reason)}\n"
    return (
        f'{said}[[expect]]\ncells = {json.dumps(result.cell.id)}\nverdict = "{result.verdict}"\n'
        f'outcomes = {outcomes}\nreason = ""\n'
    )


def _flaky(item: Checked) -> str:
    result = item.result
    return f'# {_line(result.reason)}\n[[flaky]]\ncells = {json.dumps(result.cell.id)}\nreason = ""\nuntil = ""\n'


def _otherwise(item: Checked) -> str:
    mend = "entries are read from the top, so narrow that one"
    return f"# {item.result.cell.id} fails differently than {_pattern(item)} lists; {mend}\n"


def _passes(item: Checked) -> str:
    return f"# {_pattern(item)} matches {item.result.cell.id}, which passes now: remove or narrow that entry\n"


def _ended(item: Checked) -> str:
    until = item.expectation.until if item.expectation else ""
    return f"# {_pattern(item)} ended (until {until}): remove it, or give a new reason and a new until\n"


def _pattern(item: Checked) -> str:
    return repr(item.expectation.cells) if item.expectation else "the entry"


def _line(text: str) -> str:
    """One line of a comment: control characters would end it, or the file."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:160]


def _unique(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(parts))
