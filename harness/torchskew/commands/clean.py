"""`torchskew clean`."""

from __future__ import annotations

import argparse

from torchskew.commands import arguments


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "clean", "remove what killed runs left on this machine, and nothing else")
    parser.add_argument("--store", action="store_true", help="also remove every provisioned environment and image")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Sweep every runtime that answers."""
    from torchskew.workflows.clean import clean

    return clean(store=args.store)
