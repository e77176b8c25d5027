"""What a gate's baseline would have to change, as TOML that a person must complete and review."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from torchskew.model.results import Checked, Decision, Status

# A cell with one of these gets an entry, the others a comment.
_ENTRIES = frozenset({Status.REGRESSION, Status.FLAKY, Status.FAILS_DIFFERENTLY})
HEAD = """
# Written by `torchskew gate --update-baseline` in run {run}: review every line.
# An entry without a reason is refused, so write the reason of each one.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a baseline must change. text: a block of TOML, empty when nothing differs; entries: how many it has."""

    text: str
    entries: int


def difference(decision: Decision, run_id: str) -> Update:
    """One entry with an empty reason per new failure, and one comment per entry that no longer holds.

    Each new entry names exactly one cell; patterns are neither written nor widened.
    """
    parts = [part for item in decision.checked if (part := _part(item))]
    parts += [f"# {problem}\n" for problem in decision.problems]
    text = "\n".join([HEAD.format(run=run_id), *_unique(parts)]) if parts else ""
    return Update(text=text, entries=sum(item.status in _ENTRIES for item in decision.checked))


def _part(item: Checked) -> str:
    """What one cell changes in the baseline; nothing where the machine failed, because no entry may hide that."""
    writers = {
        Status.REGRESSION: _new,
        Status.FLAKY: _flaky,
        Status.FAILS_DIFFERENTLY: lambda differing: _otherwise(differing) + _new(differing),
        Status.UNEXPECTED_PASS: _passes,
        Status.EXPIRED: _ended,
    }
    return writers[item.status](item) if item.status in writers else ""


def _new(item: Checked) -> str:
    result = item.result
    outcomes = json.dumps([str(outcome) for outcome in result.outcomes])
    comment = f"# {_line(result.reason)}\n"
    return (
        f'{comment}[[expect]]\ncells = {json.dumps(result.cell.id)}\nverdict = "{result.verdict}"\n'
        f'outcomes = {outcomes}\nreason = ""\n'
    )


def _flaky(item: Checked) -> str:
    result = item.result
    return f'# {_line(result.reason)}\n[[flaky]]\ncells = {json.dumps(result.cell.id)}\nreason = ""\nuntil = ""\n'


def _otherwise(item: Checked) -> str:
    fix = "entries are read from the top, so narrow that one"
    return f"# {item.result.cell.id} fails differently than {_pattern(item)} lists; {fix}\n"


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
