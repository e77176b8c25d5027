"""`torchskew init`: writes a first declaration, and never over a file that exists."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from torchskew.commands import arguments
from torchskew.errors import ConfigError

DECLARATION = Path("torchskew.toml")
NEWEST = 3
HELP = """\
Write a first declaration, with comments that explain each field.

  torchskew init                      the three newest releases that docs/compatibility.md measures
  torchskew init 2.6.0 2.13.0         the releases that you name
  torchskew init --print              print it and write nothing

An existing file is never changed."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "init", "write a first torchskew.toml for the releases you name", HELP)
    parser.add_argument(
        "releases", nargs="*", metavar="RELEASE", help="a release such as 2.6.0 (default: the three newest)"
    )
    parser.add_argument("--declaration", "-f", type=Path, default=DECLARATION, metavar="FILE", help="file to write")
    parser.add_argument("--print", action="store_true", help="print the text and write nothing")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Write the file, then say what to do next."""
    from torchskew.declaration.starter import starter
    from torchskew.releases.measured import RELEASES

    releases = args.releases or RELEASES[-NEWEST:]
    text = starter(releases)
    if args.print:
        sys.stdout.write(text)
        return 0
    create(args.declaration, text)
    sys.stdout.write(_next_steps(args.declaration, releases))
    return 0


def create(path: Path, text: str) -> None:
    """Write a new file.

    Raises:
        ConfigError: there is a file already, which stays as it is, or no folder to write it to.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fix = "Edit it, name another file with --declaration FILE, or print the text with --print."
        raise ConfigError(f"{path}: exists already, and init never overwrites a file. {fix}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path}: there is no folder {path.parent}. Create it first.") from None


def _next_steps(path: Path, releases: Sequence[str]) -> str:
    option = "" if path == DECLARATION else f" -f {path}"
    steps = {
        "torchskew doctor": "check this machine",
        f"torchskew matrix{option} --dry-run": "print the plan",
        f"torchskew matrix{option}": "run it",
    }
    width = max(map(len, steps))
    lines = [f"  {command:{width}}   {what}" for command, what in steps.items()]
    return "\n".join([f"wrote {path}: {', '.join(releases)}", "next:", *lines]) + "\n"
