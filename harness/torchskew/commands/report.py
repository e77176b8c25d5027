"""`torchskew report`."""

from __future__ import annotations

import argparse

from torchskew.commands import arguments


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "report", "show a recorded run again, and rewrite its reports")
    text = "a run id, a rehearsal's folder, or latest: the newest recorded run (the default)"
    parser.add_argument("run", nargs="?", default="latest", metavar="RUN", help=text)
    parser.add_argument("--list", action="store_true", help="list the recorded runs instead")
    arguments.add_out(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Show a recorded run, or list all of them."""
    from torchskew.workflows.recorded import list_runs, report_again

    return list_runs(args.out) if args.list else report_again(args.out, args.run, colour=args.colour)
