"""`torchskew suite`."""

from __future__ import annotations

import argparse

from torchskew.commands import arguments
from torchskew.errors import ConfigError

# As in planning/suite.py, which takes longer to import than `--help` should.
SUITES = ("distributed", "rpc")
PAIRS = ("all", "neighbours", "controls")
BACKENDS = ("gloo", "nccl", "ucc", "mpi")
HELP = """\
Run PyTorch's own distributed tests, which every wheel carries, with ranks of different releases. Each test also runs
with each release on all ranks: what fails there as well is no finding about the mix.

  torchskew suite --versions 2.6.0 2.13.0                      both alone, and the pair in both orders
  torchskew suite --versions 2.6.0 2.13.0 --tests 'test_ddp*'  some tests
  torchskew suite --versions 2.6.0 2.13.0 --world-size 3 8     the odd release at every place
  torchskew suite --versions 2.12.1 2.13.0 --suite rpc         RPC, distributed autograd, remote modules
  torchskew suite --versions 2.6.0 2.13.0 2.15.0 --pairs neighbours
                                       neighbours in the given order, and each with the last
  torchskew suite --versions 2.1.2 2.2.2 --store bridge        at a bridge, for releases that can't meet otherwise
  torchskew suite --versions 2.13.0 --list                     the tests that a release has
  torchskew suite --versions … --shard 2/5 --out part2         on one of five machines; then torchskew merge

A version is a declared one, or a plain release number; `expecttest`, `hypothesis` and NumPy are installed beside it.

exit codes: 0 nothing fails only mixed · 1 something does · 4 usage · 5 no test was selected"""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    text = "run PyTorch's own distributed tests with ranks of different releases"
    parser = arguments.command(commands, "suite", text, HELP)
    what = parser.add_argument_group("what to run")
    what.add_argument(
        "--versions", nargs="+", default=[], metavar="NAME", help="declared versions (or patterns), or releases"
    )
    what.add_argument("--suite", nargs="+", choices=SUITES, default=["distributed"], help="which suites (distributed)")
    what.add_argument("--tests", nargs="+", default=[], metavar="PATTERN", help="names or patterns of tests (all)")
    what.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cell ids; their controls run too")
    pairs = "which pairs besides the controls; neighbours: also each with the last (all)"
    what.add_argument("--pairs", choices=PAIRS, default="all", help=pairs)
    sizes = "numbers of ranks (2; of rpc, what each test is written for)"
    what.add_argument("--world-size", nargs="+", type=arguments.between(2, 64), default=[], metavar="N", help=sizes)
    text = "what ranks meet at: the suites' own file, a bridge (docs/bridge.md), or both (stock)"
    what.add_argument("--store", nargs="+", choices=["stock", "bridge"], default=[], help=text)
    what.add_argument("--backend", choices=BACKENDS, default="gloo", help="the suites' BACKEND (gloo)")
    what.add_argument("--timeout", type=arguments.seconds, metavar="S", help="seconds given to the process group (20)")
    what.add_argument("--list", action="store_true", help="print the tests of each version, run none")
    text = "print the newest result of each pair over all runs in --out as markdown, run none"
    what.add_argument("--table", action="store_true", help=text)
    arguments.add_declaration(what)
    _add_how(parser.add_argument_group("how to run it"))
    parser.set_defaults(command=run)


def _add_how(how: argparse._ArgumentGroup) -> None:
    how.add_argument("--runtime", choices=("venv", "docker"), default="venv", help="what ranks run in (venv)")
    arguments.add_fleet(how)
    arguments.add_shard(how)
    how.add_argument("--dry-run", action="store_true", help="print the plan, run no test")
    how.add_argument("--resume", action="store_true", help="continue the newest interrupted run of the same plan")
    how.add_argument("--no-cache", action="store_true", help="run unchanged cells as well")
    how.add_argument("-j", "--jobs", type=arguments.between(1, 256), metavar="N", help="cells that run at once")
    arguments.add_out(how)


def run(args: argparse.Namespace) -> int:
    """Run the tests; exit code 0 where nothing fails only mixed."""
    from torchskew.engine.progress import watching
    from torchskew.model.runs import RunKind
    from torchskew.workflows.options import Options
    from torchskew.workflows.recorded import suite_table
    from torchskew.workflows.suite import SuiteRequest, run_suite

    if args.table:
        return suite_table(args.out)
    if not args.versions:
        raise ConfigError("--versions is missing. Name releases: torchskew suite --versions 2.6.0 2.13.0")
    options = Options(
        **arguments.of_cells(args),
        **arguments.parts(args),
        kind=RunKind.SUITE,
        world_sizes=tuple(args.world_size),
        store=tuple(args.store),
        timeout=args.timeout,
    )
    request = SuiteRequest(
        versions=tuple(args.versions),
        suites=tuple(dict.fromkeys(args.suite)),
        tests=tuple(args.tests),
        pairs=args.pairs,
        backend=args.backend,
        listing=args.list,
    )
    with watching() as watch:
        return run_suite(request, options, watch)
