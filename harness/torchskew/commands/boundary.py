"""The command `torchskew boundary`: a recorded run of all pairs, answered again by bisection, and compared."""

from __future__ import annotations

import argparse
import sys

from torchskew.commands import arguments

HELP = """\
Answer a recorded run of all pairs again by bisection, as `torchskew matrix --pairs boundary` would have done, and say
how many cells that takes and whether every inferred one is what the run saw. Nothing is run.

  torchskew boundary                   the latest run
  torchskew boundary 20261121-16       a run by its id, or the beginning of it"""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    text = "whether bisection gives the same answer as a recorded run of all pairs, and with how many cells"
    parser = arguments.command(commands, "boundary", text, HELP)
    parser.add_argument("run", nargs="?", default="latest", metavar="RUN", help="a run id, or latest (the default)")
    arguments.add_out(parser)
    parser.set_defaults(command=run_boundary)


def run_boundary(args: argparse.Namespace) -> int:
    """Replay, compare, tell; exit 1 when an inferred cell is not what the run saw."""
    from torchskew.planning.replay import comparison, replayed
    from torchskew.record.record import Record
    from torchskew.report.pairs import releases

    with Record.open(args.out / "record.sqlite", create=False) as record:
        run = record.load(args.run)
    replay = replayed(run, tuple(releases(run)))
    sys.stdout.write("\n".join(comparison(run, replay)) + "\n")
    return int(bool(replay.different))
