"""Aligns columns of text for a terminal; the only place that does, for every table that torchskew prints."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Container, Iterable, Sequence
from itertools import zip_longest
from typing import Final

_STYLES: Final = re.compile(r"\x1b\[[0-9;]*m")


def labelled(label: str, text: str, *, indent: int, gutter: int) -> str:
    """A label and a text beside it, folded at 100 columns; words that a user copies are never broken.

    indent: columns before the label; gutter: columns from the label's start to the text's.
    """
    return textwrap.fill(
        text,
        100,
        initial_indent=f"{' ' * indent}{label:<{gutter}}",
        subsequent_indent=" " * (indent + gutter),
        break_long_words=False,
        break_on_hyphens=False,
    )


def aligned(rows: Iterable[Sequence[str]], *, gap: str = "  ", right: Container[int] = ()) -> list[str]:
    """Rows as lines whose columns are as wide as their widest entry; a row may be short.

    right: numbers of the columns that end in line, for figures. Colours take no room.
    """
    rows = [[*row] for row in rows]
    widths = [max(map(width, column)) for column in zip_longest(*rows, fillvalue="")]
    return [gap.join(_filled(text, widths[n], right=n in right) for n, text in enumerate(row)).rstrip() for row in rows]


def width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return len(_STYLES.sub("", text)) if "\x1b" in text else len(text)


def _filled(text: str, size: int, *, right: bool) -> str:
    blank = " " * (size - width(text))
    return blank + text if right else text + blank
