"""`torchskew boundary`: compares a recorded run of all pairs with what bisection would have inferred."""

from __future__ import annotations

import argparse
import sys

from torchskew.commands import arguments

HELP = """\
Repeat `torchskew matrix --pairs boundary` over a recorded run of all pairs, and report how many cells bisection would
have run, and whether each inferred cell agrees with the recorded one. Nothing is run.

  torchskew boundary                   the latest run
  torchskew boundary 20261121-16       a run by its id, or by the start of its id"""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    text = "compare a recorded run of all pairs with what bisection would have inferred"
    parser = arguments.command(commands, "boundary", text, HELP)
    parser.add_argument("run", nargs="?", default="latest", metavar="RUN", help="a run id, or latest (the default)")
    arguments.add_out(parser)
    parser.set_defaults(command=run_boundary)


def run_boundary(args: argparse.Namespace) -> int:
    """Replay and compare; exit code 1 when an inferred cell differs from the recorded one."""
    from torchskew.planning.replay import comparison, replayed
    from torchskew.report.pairs import releases
    from torchskew.workflows.records import record_in

    with record_in(args.out) as record:
        run = record.load(args.run)
    replay = replayed(run, tuple(releases(run)))
    sys.stdout.write("\n".join(comparison(run, replay)) + "\n")
    return int(bool(replay.different))
