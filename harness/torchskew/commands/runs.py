"""`torchskew diff`, `merge` and `flakes`: commands over recorded runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from torchskew.commands import arguments

MERGE_HELP = """\
Combine the shards of one run of gate, matrix, suite or check, and decide. All shards must come from the same plan, and
none may be missing.

  torchskew merge part1 part2 part3 --out out

exit codes: 0 the gate is open, or every cell is as expected · 1 otherwise, or the shards do not fit together"""
DIFF_HELP = """\
List what changed between two recorded runs, regressions first. The exit code is 1 when the later run is worse.

  torchskew diff RUN latest"""

FLAKES_HELP = """\
List cells that showed a pass and a failure of the same content, with the rate and its 95 % interval. The dashboard has
the runs over time, the history of every cell, regressions with their first bad run, and what is slow or became slower.

  torchskew flakes
  torchskew flakes out --html flakes.html
  torchskew flakes artefacts/*/out --html flakes.html     records of several machines, counted together"""


def add_parser(commands: arguments.Commands) -> None:
    """Add all three."""
    parser = arguments.command(commands, "diff", "list what changed between two recorded runs", DIFF_HELP)
    parser.add_argument("before", metavar="RUN", help="the earlier run: an id, the start of an id, or latest")
    parser.add_argument("after", metavar="RUN", nargs="?", default="latest", help="the later run (latest)")
    _add_out(parser, run_diff)
    parser = arguments.command(commands, "merge", "combine the shards of one run, and decide", MERGE_HELP)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="the --out of each shard")
    _add_out(parser, run_merge)
    parser = arguments.command(
        commands, "flakes", "list cells that both passed and failed, over recorded runs", FLAKES_HELP
    )
    text = "the --out of any number of records, such as CI artefacts of other machines (default: --out)"
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help=text)
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the dashboard of these records as well")
    _add_out(parser, run_flakes)


def _add_out(parser: argparse.ArgumentParser, command: object) -> None:
    arguments.add_out(parser)
    parser.set_defaults(command=command)


def run_diff(args: argparse.Namespace) -> int:
    """`torchskew diff`."""
    from torchskew.workflows.recorded import compare

    return compare(args.out, args.before, args.after)


def run_merge(args: argparse.Namespace) -> int:
    """`torchskew merge`."""
    from torchskew.model.runs import RunKind
    from torchskew.workflows.merge import merge
    from torchskew.workflows.options import Options

    return merge(args.folders, Options(kind=RunKind.MERGE, out=args.out, colour=args.colour, command=args.line))


def run_flakes(args: argparse.Namespace) -> int:
    """`torchskew flakes`."""
    from torchskew.workflows.recorded import count_flakes

    return count_flakes(args.folders or [args.out], args.html)
