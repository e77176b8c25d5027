"""`torchskew matrix`."""

from __future__ import annotations

import argparse

from torchskew.commands import arguments

HELP = """\
Run every cell of the declaration: each scenario for each assignment of PyTorch releases to ranks.

  torchskew matrix                                  the whole declared matrix
  torchskew matrix --dry-run                        print the plan, run nothing
  torchskew matrix --only 'all_reduce/*'            some cells; patterns match whole cell ids
  torchskew matrix --only '*/2.1.2,2.2.2/*'         one skew: rank 0 runs 2.1.2, rank 1 runs 2.2.2
  torchskew matrix --versions '2.*' --runtime venv  some versions, in virtual environments
  torchskew matrix --store stock bridge             what a bridge makes possible, beside what it replaces
  torchskew matrix --resume                         continue the newest interrupted run of the same plan
  torchskew matrix --fleet local:3                  on three Ray nodes of this machine (docs/fleet.md)
  torchskew matrix --fleet auto --placement spread  each rank on a node of its own
  torchskew matrix --shard 2/5 --out part2          on one of five machines; then torchskew merge"""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "matrix", "run the declared matrix, and judge every rank", HELP)
    what = parser.add_argument_group("what to run (all default to the declaration)")
    arguments.add_declaration(what)
    arguments.add_runtime(what)
    arguments.add_fleet(what)
    what.add_argument(
        "--versions", nargs="+", default=[], metavar="PATTERN", help="names or patterns of declared versions"
    )
    what.add_argument("--scenarios", nargs="+", default=[], metavar="PATTERN", help="names or patterns of scenarios")
    what.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cell ids; may be repeated")
    what.add_argument(
        "--guard", nargs="+", choices=["off", "on"], default=[], help="without the guard, with it, or both"
    )
    arguments.add_store(what)
    arguments.add_placement(what)
    pairs = "boundary: all pairs by bisection; pairs that can be inferred are not run"
    what.add_argument("--pairs", choices=["all", "boundary", "neighbours"], help=pairs)
    what.add_argument(
        "--world-size", nargs="+", type=arguments.between(2, 64), default=[], metavar="N", help="numbers of ranks"
    )
    what.add_argument("--timeout", type=arguments.seconds, metavar="S", help="seconds given to the process group")
    what.add_argument("--seed", type=int, default=0, help="seed of every rank, kept in the record (0)")
    how = parser.add_argument_group("how to run it")
    arguments.add_shard(how)
    how.add_argument("--dry-run", action="store_true", help="print the plan, run nothing")
    how.add_argument("--resume", action="store_true", help="continue the newest interrupted run of the same plan")
    how.add_argument("--no-cache", action="store_true", help="run unchanged cells as well")
    how.add_argument(
        "-j",
        "--jobs",
        type=arguments.between(1, 256),
        metavar="N",
        help="cells that run at once; cells that only wait don't count",
    )
    arguments.add_out(how)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run every selected cell of the declaration; the decision's exit code."""
    from torchskew.engine.progress import watching
    from torchskew.workflows.matrix import run_matrix
    from torchskew.workflows.options import Options

    options = Options(
        **arguments.options(args),
        **arguments.parts(args),
        versions=tuple(args.versions),
        store=tuple(args.store),
        placement=tuple(args.placement),
        pairs=args.pairs,
        world_sizes=tuple(args.world_size),
    )
    with watching() as watch:
        return run_matrix(options, watch)
