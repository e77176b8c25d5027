"""`torchskew guard`."""

from __future__ import annotations

import argparse
import sys

from torchskew.commands import arguments

HELP = """\
Print the guard, one file to vendor; it needs torch and nothing else.

  torchskew guard --print > protocol_version.py
  python protocol_version.py train.py …             no change to the script
  import protocol_version; protocol_version.install()   or one line before init_process_group

With torchskew installed, `python -m torchskew.guard train.py …` does the same. docs/guard.md explains it."""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "guard", "print the one file that makes a mixed group fail clearly", HELP)
    parser.add_argument("--print", action="store_true", required=True, help="write the file to standard output")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the file itself, byte for byte."""
    del args
    from torchskew.guard.generate import FILE

    sys.stdout.write(FILE.read_text(encoding="utf-8"))
    return 0
