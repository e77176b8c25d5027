"""Prints the tables of outcomes for a terminal, side by side while there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from torchskew.model.outcomes import Outcome
from torchskew.model.results import Checked
from torchskew.report import view
from torchskew.report.columns import aligned, width
from torchskew.report.tables import CellTable

BAD: Final = "31"
_WIDTH: Final = 100
_MOST: Final = 20
_GAP: Final = "    "
_STYLES: Final = {
    Outcome.OK: "32",
    Outcome.CLEAR: "36",
    Outcome.OPAQUE: "33",
    Outcome.TIMEOUT: "33",
    Outcome.UNSUPPORTED: "2",
    Outcome.NOT_RUN: "2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How to print: terminal colours or none, columns available, entries shown of a long list.

    whole: show every cell of a group of failures, not the first alone.
    """

    colour: bool = False
    width: int = _WIDTH
    most: int = _MOST
    whole: bool = False


def tables_text(tables: Sequence[CellTable], look: Look) -> Iterator[str]:
    """The tables as text, those of one scenario side by side while there is room."""
    shelf: list[list[str]] = []
    name = ""
    for table in tables:
        block = _table(table, look)
        if shelf and (table.scenario != name or _room([*shelf, block]) > look.width):
            yield _beside(shelf)
            shelf = []
        shelf, name = [*shelf, block], table.scenario
    if shelf:
        yield _beside(shelf)


def _table(table: CellTable, look: Look) -> list[str]:
    """One table as lines; the first column names rank 0's version."""
    head = [(table.corner, *table.columns)] if table.columns else []
    rows = [(row, *(_entry(table.grid.get((row, column)), look) for column in table.columns)) for row in table.rows]
    # Worlds of three and more ranks, one line each.
    worlds = [(",".join(item.result.cell.skew), _entry(item, look)) for item in table.wide]
    return [paint(table.title, "1", look), *aligned([*head, *rows]), *aligned(worlds)]


def _entry(item: Checked | None, look: Look) -> str:
    return paint(view.label(item) if item else "·", _style(item) if item else "2", look)


def _style(item: Checked) -> str:
    if view.shut(item):
        return f"1;{BAD}"
    if item.result.verdict in view.SILENT:
        return "2"
    worst = max(item.result.outcomes, key=[*Outcome].index)
    return _STYLES.get(worst, BAD)


def paint(text: str, style: str, look: Look) -> str:
    """Text in a terminal's style ("1;31"), when colours were asked for."""
    return f"\x1b[{style}m{text}\x1b[0m" if look.colour and text.strip() else text


def _room(blocks: Sequence[list[str]]) -> int:
    return sum(max(map(width, block)) for block in blocks) + len(_GAP) * (len(blocks) - 1)


def _beside(blocks: Sequence[list[str]]) -> str:
    """Blocks next to each other, the shorter ones filled with blanks."""
    return "\n".join(aligned(zip_longest(*blocks, fillvalue=""), gap=_GAP))
