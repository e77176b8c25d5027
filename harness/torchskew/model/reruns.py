"""The command that runs cells again, as a value: it is passed on and extended, and becomes text only where printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a command line with its values; none for a switch."""

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A command and the options that decide which cells it plans; `str()` quotes it for a shell."""

    words: tuple[str, ...] = ("torchskew", "matrix")
    options: tuple[Option, ...] = ()

    def with_option(self, name: str, *values: str) -> Rerun:
        """The same command with one more option."""
        return replace(self, options=(*self.options, Option(name=name, values=values)))

    def given(self, name: str, values: Iterable[object]) -> Rerun:
        """The same command with the option and its values, or unchanged where there are none."""
        texts = tuple(str(value) for value in values if value is not None and value != "")
        return self.with_option(name, *texts) if texts else self

    def only(self, pattern: str) -> Rerun:
        """Narrowed to the cells whose ids match the pattern; a cell's id matches that cell alone."""
        return self.with_option("--only", str(pattern))

    def fresh(self) -> Rerun:
        """Run the cells although nothing changed since they last ran."""
        return self.with_option("--no-cache")

    def of_cell(self, cell_id: str) -> Rerun:
        """The command that runs this cell alone, and really runs it."""
        return self.only(cell_id).fresh()

    @property
    def argv(self) -> tuple[str, ...]:
        """The words that a process is started with."""
        return (*self.words, *(word for option in self.options for word in (option.name, *option.values)))

    def __str__(self) -> str:
        return shlex.join(self.argv)
