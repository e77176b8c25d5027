"""The command line of the gate and of what works on its runs: gate, diff, merge, flakes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from torchskew.commands import arguments

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands: TypeAlias = _SubParsersAction[argparse.ArgumentParser]

# As torchskew.planning.scenario.TIERS, which is not imported for the sake of a quick --help; a test compares them.
TIERS = ("smoke", "critical", "full")

GATE_HELP = """\
Decide whether a candidate still works with the releases people run: alone, with each of them in both orders, in
worlds of three; each release also runs with itself, so that its own faults never blame the candidate.

  torchskew gate --candidate pip:torch==2.15.0                        against every declared release
  torchskew gate --candidate wheel:dist/torch-….whl --against-last 4  against the newest four
  torchskew gate --candidate pip:torch==2.16.0rc1 --index URL         from an index of its own
  torchskew gate --candidate image:repo/name@sha256:… --tier smoke    under a minute
  torchskew gate --candidate interpreter:/opt/t/bin/python --base pip:torch==2.14.1
                                                                      no worse than that, run side by side
  torchskew gate --candidate … --update-baseline                      append what differs, for review
  torchskew gate --candidate … --shard 2/5 --out part2                one of five machines; then: torchskew merge

exit codes: 0 the gate is open · 1 it is shut · 2 interrupted · 4 usage or declaration · 5 nothing was selected"""
MERGE_HELP = """\
Put the shards of one gate together and decide: all must come from one plan, and all must have arrived.

  torchskew merge part1 part2 part3 --out out"""
DIFF_HELP = """\
Tell only what changed between two recorded runs, worse first; exit 1 when the later one is worse.

  torchskew diff RUN latest"""


def add_parsers(commands: Commands) -> None:
    """Add gate, diff, merge and flakes to the command line."""
    _add_gate(commands)
    parser = arguments.command(commands, "diff", "what changed between two recorded runs", DIFF_HELP)
    parser.add_argument("before", metavar="RUN", help="the earlier run: an id, its unique beginning, or latest")
    parser.add_argument("after", metavar="RUN", nargs="?", default="latest", help="the later run (latest)")
    _add_out(parser, run_diff)
    parser = arguments.command(commands, "merge", "put the shards of a gate together and decide", MERGE_HELP)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="the --out of each shard")
    _add_out(parser, run_merge)
    parser = arguments.command(commands, "flakes", "how often cells fail that also passed, from every recorded run")
    _add_out(parser, run_flakes)


def _add_out(parser: argparse.ArgumentParser, command: object) -> None:
    arguments.add_out(parser)
    parser.set_defaults(command=command)


def _add_gate(commands: Commands) -> None:
    parser = arguments.command(
        commands, "gate", "decide whether a candidate still works with the releases people run", GATE_HELP
    )
    what = parser.add_argument_group("what to hold against what")
    what.add_argument("--candidate", default="", metavar="KIND:VALUE", help="pip:, wheel:, image: or interpreter:")
    what.add_argument("--torch", metavar="X.Y.Z", help="the release it is built from, for predictions")
    what.add_argument("--against", metavar="LIST", type=_names, default=(), help="declared releases, comma separated")
    what.add_argument(
        "--against-last", metavar="N", type=arguments.between(1, 1000), help="the newest N declared releases instead"
    )
    what.add_argument("--base", metavar="KIND:VALUE", help="run beside the candidate, which must be no worse")
    what.add_argument("--index", metavar="URL", help="where the candidate's wheels come from, besides the usual index")
    what.add_argument("--requires", action="append", default=[], metavar="REQ", help="also in each environment")
    what.add_argument("--baseline", type=Path, metavar="FILE", help="known failures (baseline.toml by the declaration)")
    what.add_argument("--update-baseline", action="store_true", help="append what differs to it, without reasons")
    what.add_argument("--tier", choices=TIERS, help="how much to run ([gate] tier, else full)")
    what.add_argument("--declaration", "-f", type=Path, default=Path("torchskew.toml"), metavar="FILE")
    _add_selection(parser.add_argument_group("which part of it"))
    how = parser.add_argument_group("how to run it")
    arguments.add_runtime(how)
    how.add_argument(
        "--repeat",
        type=arguments.between(1, 1000),
        default=1,
        metavar="N",
        help="run every cell N times, to find flakes",
    )
    how.add_argument("--timeout", type=arguments.seconds, metavar="S", help="seconds given to the process group")
    how.add_argument("--seed", type=int, default=0, help="goes to every rank and into the record (0)")
    how.add_argument("--dry-run", action="store_true", help="print the plan, run nothing")
    how.add_argument("--resume", action="store_true", help="take up the newest interrupted run of the same plan")
    how.add_argument("--no-cache", action="store_true", help="run cells again although nothing changed")
    how.add_argument("-j", "--jobs", type=arguments.between(1, 1000), metavar="N", help="cells that work at once")
    _add_out(parser, run_gate)


def _add_selection(what: argparse._ArgumentGroup) -> None:
    what.add_argument("--scenarios", nargs="+", default=[], metavar="PATTERN", help="scenarios, as patterns")
    what.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cell ids; may be repeated")
    what.add_argument("--guard", nargs="+", choices=["off", "on"], default=[])
    what.add_argument("--shard", metavar="I/N", help="the I-th of N parts of the plan")
    what.add_argument("--balance", type=Path, metavar="DIR", help="balance the parts by the record of an earlier --out")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run_gate(args: argparse.Namespace) -> int:
    """`torchskew gate`."""
    from torchskew.engine.progress import watching
    from torchskew.workflows.gate.steps import Request
    from torchskew.workflows.gate.workflow import execute
    from torchskew.workflows.matrix import Options

    request = Request(
        candidate=args.candidate,
        torch=args.torch,
        base=args.base,
        against=args.against,
        last=args.against_last,
        baseline=args.baseline,
        tier=args.tier,
        repeat=args.repeat,
        shard=args.shard,
        balance=args.balance,
        update_baseline=args.update_baseline,
        requires=tuple(args.requires),
        index=args.index,
    )
    with watching() as watch:
        return execute(request, Options(**arguments.options(args)), watch)


def run_diff(args: argparse.Namespace) -> int:
    """`torchskew diff`."""
    from torchskew.workflows.gate.runs import compare

    return compare(args.out, args.before, args.after)


def run_merge(args: argparse.Namespace) -> int:
    """`torchskew merge`."""
    from torchskew.workflows.gate.runs import merge
    from torchskew.workflows.matrix import Options

    return merge(args.folders, Options(out=args.out, colour=args.colour, command=args.line))


def run_flakes(args: argparse.Namespace) -> int:
    """`torchskew flakes`."""
    from torchskew.workflows.gate.runs import count_flakes

    return count_flakes(args.out)
