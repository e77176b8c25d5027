"""`torchskew doctor`."""

from __future__ import annotations

import argparse

from torchskew.commands import arguments


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(
        commands, "doctor", "check what this machine has for torchskew, and say how to fix what it lacks"
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Check the machine; exit 1 where something essential is missing."""
    del args
    from torchskew.workflows.doctor import doctor

    return doctor()
