"""`torchskew gate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from torchskew.commands import arguments
from torchskew.model.outcomes import Store, Tier

HELP = """\
Decide whether a candidate works with the releases people run. The candidate runs alone, with each release in both
orders, and in worlds of three. Each release also runs with itself, so that its own faults are never blamed on the
candidate.

  torchskew gate --candidate pip:torch==2.15.0                        against every declared release
  torchskew gate --candidate wheel:dist/torch-….whl --against-last 4  against the newest four
  torchskew gate --candidate pip:torch==2.16.0rc1 --index URL         from another index
  torchskew gate --candidate image:repo/name@sha256:… --tier smoke    under a minute
  torchskew gate --candidate interpreter:/opt/t/bin/python --base pip:torch==2.14.1
                                                                      no worse than 2.14.1, run side by side
  torchskew gate --candidate-package dist/mylib-1.0-py3-none-any.whl  a library, over the declared releases, with the
                                                                      scenarios of [scenarios] path
  torchskew gate --candidate … --snapshot keys.json                   keep the keys of its state dicts in a file
  torchskew gate --candidate … --against-snapshot keys.json           which a later gate needs, and no release
  torchskew gate --candidate … --store stock bridge                   each group again at a bridge (docs/bridge.md)
  torchskew gate --candidate … --update-baseline                      append what differs to the baseline
  torchskew gate --candidate … --shard 2/5 --out part2                on one of five machines; then torchskew merge

exit codes: 0 the gate is open · 1 it is shut · 2 interrupted · 4 usage or declaration · 5 nothing was selected
With --shard, a part decides nothing: 0 it ran completely · 1 some of its cells are UNKNOWN"""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "gate", "decide whether a candidate works with the releases people run", HELP)
    compared = parser.add_argument_group("what to compare")
    _add_comparison(compared)
    _add_snapshots(compared)
    _add_selection(parser.add_argument_group("what to run"))
    _add_how(parser.add_argument_group("how to run it"))
    arguments.add_out(parser)
    parser.set_defaults(command=run)


def _add_comparison(what: argparse._ArgumentGroup) -> None:
    what.add_argument(
        "--candidate", default="", metavar="KIND:VALUE", help="pip:, wheel:, image:, interpreter: or source:"
    )
    what.add_argument(
        "--candidate-package",
        default="",
        metavar="REQ",
        help="a library beside torch: a wheel, a folder, -e folder, or name==1.0",
    )
    what.add_argument("--torch", metavar="X.Y.Z", help="the release that the candidate is built from, for predictions")
    what.add_argument(
        "--against", metavar="LIST", type=_names, default=(), help="declared releases, separated by commas (all)"
    )
    what.add_argument(
        "--against-last", metavar="N", type=arguments.between(1, 1000), help="the newest N declared releases instead"
    )
    what.add_argument(
        "--base", metavar="KIND:VALUE", help="a version to run beside the candidate, which must be no worse"
    )
    what.add_argument("--index", metavar="URL", help="where the candidate's wheels come from, besides the usual index")
    what.add_argument(
        "--requires",
        action="append",
        default=[],
        metavar="REQ",
        help="another package in each environment; may be repeated",
    )
    what.add_argument(
        "--baseline", type=Path, metavar="FILE", help="known failures (baseline.toml beside the declaration)"
    )
    what.add_argument(
        "--update-baseline", action="store_true", help="append what differs to the baseline, without reasons"
    )
    what.add_argument("--tier", type=Tier, choices=list(Tier), help="how much to run ([gate] tier, else full)")
    arguments.add_declaration(what)


def _add_snapshots(what: argparse._ArgumentGroup) -> None:
    what.add_argument(
        "--against-snapshot",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="state-dict keys that the candidate must have; without --against, no release is needed; may be repeated",
    )
    what.add_argument(
        "--snapshot", type=Path, metavar="FILE", help="write the candidate's state-dict keys, for --against-snapshot"
    )


def _add_selection(what: argparse._ArgumentGroup) -> None:
    what.add_argument("--scenarios", nargs="+", default=[], metavar="PATTERN", help="names or patterns of scenarios")
    what.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cell ids; may be repeated")
    what.add_argument(
        "--guard", nargs="+", choices=["off", "on"], default=[], help="without the guard, with it, or both"
    )
    arguments.add_store(what)
    arguments.add_shard(what)


def _add_how(how: argparse._ArgumentGroup) -> None:
    arguments.add_runtime(how)
    arguments.add_fleet(how)
    how.add_argument(
        "--repeat",
        type=arguments.between(1, 1000),
        default=1,
        metavar="N",
        help="run every cell N times, to find flakes",
    )
    how.add_argument("--timeout", type=arguments.seconds, metavar="S", help="seconds given to the process group")
    how.add_argument("--seed", type=int, default=0, help="seed of every rank, kept in the record (0)")
    how.add_argument("--dry-run", action="store_true", help="print the plan, run nothing")
    how.add_argument("--resume", action="store_true", help="continue the newest interrupted run of the same plan")
    how.add_argument("--no-cache", action="store_true", help="run unchanged cells as well")
    how.add_argument("-j", "--jobs", type=arguments.between(1, 1000), metavar="N", help="cells that run at once")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run(args: argparse.Namespace) -> int:
    """Decide on the candidate; exit code 0 where the gate is open."""
    from torchskew.engine.progress import watching
    from torchskew.model.runs import RunKind
    from torchskew.workflows.gate.request import Request
    from torchskew.workflows.gate.workflow import run_gate
    from torchskew.workflows.options import Options

    request = Request(
        candidate=args.candidate,
        package=args.candidate_package,
        torch=args.torch,
        base=args.base,
        against=args.against,
        last=args.against_last,
        baseline=args.baseline,
        tier=args.tier,
        store=tuple(Store(name) for name in args.store),
        repeat=args.repeat,
        shard=args.shard,
        balance=args.balance,
        update_baseline=args.update_baseline,
        requires=tuple(args.requires),
        index=args.index,
        snapshots=tuple(args.against_snapshot),
        write_snapshot=args.snapshot,
    )
    with watching() as watch:
        return run_gate(request, Options(kind=RunKind.GATE, **arguments.options(args)), watch)
