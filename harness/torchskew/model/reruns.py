"""The command that runs cells again, as a value: it is passed on and extended, and becomes text only where printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a command line with its values; none for a switch."""

    name: str
    values: tuple[str, ...] = ()


_ONLY = "--only"
_FRESH = Option(name="--no-cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A command and the options that decide which cells it plans; `str()` quotes it for a shell.

    passed_on: words behind `--`, for the commands that it runs.
    """

    words: tuple[str, ...] = ("torchskew", "matrix")
    options: tuple[Option, ...] = ()
    passed_on: tuple[str, ...] = ()

    def with_option(self, name: str, *values: str) -> Rerun:
        """The same command with one more option."""
        return replace(self, options=(*self.options, Option(name=name, values=values)))

    def given(self, name: str, values: Iterable[object]) -> Rerun:
        """The same command with the option and its values, or unchanged where there are none."""
        texts = tuple(str(value) for value in values if value is not None and value != "")
        return self.with_option(name, *texts) if texts else self

    def only(self, pattern: str) -> Rerun:
        """Narrowed to the cells whose ids match the pattern; a cell's id matches that cell alone."""
        return self.with_option(_ONLY, str(pattern))

    def fresh(self) -> Rerun:
        """Run the cells although nothing changed since they last ran."""
        return replace(self, options=(*self.options, _FRESH))

    def of_cell(self, cell_id: str) -> Rerun:
        """The command that runs this cell alone, and really runs it."""
        # Made at once: the reports of 10,000 cells ask for 40,000 of them.
        only = Option(name=_ONLY, values=(str(cell_id),))
        return Rerun(words=self.words, options=(*self.options, only, _FRESH), passed_on=self.passed_on)

    @property
    def argv(self) -> tuple[str, ...]:
        """The words that a process is started with."""
        words = [*self.words]
        for option in self.options:
            words.append(option.name)
            words += option.values
        if self.passed_on:
            words += ["--", *self.passed_on]
        return tuple(words)

    def __str__(self) -> str:
        passed_on = [_quoted(("--", *self.passed_on))] if self.passed_on else []
        options = (_quoted((each.name, *each.values)) for each in self.options)
        return " ".join([_quoted(self.words), *options, *passed_on])


@lru_cache(maxsize=65_536)
def _quoted(words: tuple[str, ...]) -> str:
    """Words for a shell. Reports print thousands of commands that differ in one word."""
    return shlex.join(words)
