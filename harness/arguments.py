"""What the parsers of several commands share: a command's parser, where results go, numbers within bounds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_: str, text: str = ""
) -> argparse.ArgumentParser:
    """A command whose help keeps its own line breaks."""
    return commands.add_parser(
        name, help=help_, description=text or help_, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_out(group: argparse._ActionsContainer) -> None:
    """Where record and reports lie, and whether the terminal's text has colours."""
    group.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="record and reports (out)")
    group.add_argument("--color", choices=["auto", "always", "never"], default="auto")


def seconds(text: str) -> float:
    """A timeout; ArgumentTypeError outside 0 to an hour."""
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"must be over 0 and at most 3600 seconds, got {text}")
    return value


def between(low: int, high: int) -> Callable[[str], int]:
    """The type of a whole number within bounds, both included."""

    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, got {text}")
        return value

    return number
