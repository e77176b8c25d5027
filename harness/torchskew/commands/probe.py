"""`torchskew probe`."""

from __future__ import annotations

import argparse
import sys

from torchskew.commands import arguments


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    text = "say what listens on a port: a guard, a TCPStore and its era, or something else; harmless to a live store"
    parser = arguments.command(commands, "probe", text)
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Say what listens on the port."""
    from torchskew.workflows.probe import probe

    text, code = probe(args.target, as_json=args.json)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return code
