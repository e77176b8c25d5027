"""Prints the tables of outcomes for a terminal, side by side while there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from torchskew.model.outcomes import Outcome
from torchskew.model.results import Checked
from torchskew.report import view
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
    """How to print: terminal colours or none, columns available, entries shown of a long list."""

    colour: bool = False
    width: int = _WIDTH
    most: int = _MOST


def tables_text(tables: Sequence[CellTable], look: Look) -> Iterator[str]:
    """Tables of one scenario stand side by side while there is room."""
    shelf: list[list[str]] = []
    name = ""
    for table in tables:
        block = _table(table, look)
        if shelf and (table.scenario != name or _wide([*shelf, block]) > look.width):
            yield _beside(shelf)
            shelf = []
        shelf, name = [*shelf, block], table.scenario
    if shelf:
        yield _beside(shelf)


def _table(table: CellTable, look: Look) -> list[str]:
    """One table as lines; the first column names rank 0's version."""
    lines = [paint(table.title, "1", look)]
    texts = {at: view.label(item) for at, item in table.grid.items()}
    first = max(map(len, (table.corner, *table.rows)), default=0)
    widths = [max(len(name), *(len(texts.get((row, name), "·")) for row in table.rows)) for name in table.columns]
    if table.columns:
        names = (name.ljust(width) for name, width in zip(table.columns, widths, strict=True))
        lines.append("  ".join((table.corner.ljust(first), *names)).rstrip())
    for row in table.rows:
        entries = (
            _entry(table.grid.get((row, column)), texts.get((row, column), "·"), width, look)
            for column, width in zip(table.columns, widths, strict=True)
        )
        lines.append("  ".join((row.ljust(first), *entries)).rstrip())
    return [*lines, *_worlds(table.wide, look)]


def _worlds(wide: Sequence[Checked], look: Look) -> list[str]:
    """Worlds of three and more ranks, one line each."""
    names = [",".join(item.result.cell.skew) for item in wide]
    longest = max(map(len, names), default=0)
    return [
        f"{name.ljust(longest)}  {_entry(item, view.label(item), 0, look)}"
        for name, item in zip(names, wide, strict=True)
    ]


def _entry(item: Checked | None, text: str, width: int, look: Look) -> str:
    return paint(text, _style(item) if item else "2", look) + " " * (width - len(text))


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


def _wide(blocks: Sequence[list[str]]) -> int:
    return sum(max(map(_seen, block)) for block in blocks) + len(_GAP) * (len(blocks) - 1)


def _seen(line: str) -> int:
    """Columns a line takes; the colours take none."""
    return (
        len(line) if "\x1b" not in line else sum(len(part.partition("m")[2]) for part in f"\x1b[m{line}".split("\x1b["))
    )


def _beside(blocks: Sequence[list[str]]) -> str:
    """Blocks next to each other, the shorter ones filled with blanks."""
    height = max(map(len, blocks))
    widths = [max(map(_seen, block)) for block in blocks]
    lines = []
    for index in range(height):
        parts = [block[index] if index < len(block) else "" for block in blocks]
        lines.append(_GAP.join(part + " " * (width - _seen(part)) for part, width in zip(parts, widths, strict=True)))
    return "\n".join(line.rstrip() for line in lines)
