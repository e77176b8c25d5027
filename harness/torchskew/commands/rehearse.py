"""`torchskew rehearse` on the command line: arguments become the workflow's options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from torchskew.commands import arguments
from torchskew.faults import FAULTS

if TYPE_CHECKING:
    from torchskew.workflows.rehearsal.workflow import Options

HELP = """\
Upgrade a small cluster from one release to another under a real training job, node by node, with faults and
rollback, and report what works. [rehearsal] in the declaration holds the defaults.

  torchskew rehearse --from 2.6.0 --to 2.14.1 --rollback         a rolling upgrade of four nodes
  torchskew rehearse --from 2.6.0 --to 2.14.1 --rollback all     roll back after every single node
  torchskew rehearse --from 2.6.0 --to 2.14.1 --dry-run          print the plan, run and write nothing
  torchskew rehearse --from 1.13.1 --to 2.6.0 --strategy rolling stop-the-world    compare two strategies
  torchskew rehearse --from 2.1.2 --to 2.15.0 --strategy bridged    rolling, over a border, at a bridge
  torchskew rehearse --from 2.6.0 --to 2.14.1 --faults random --seeds 20    random schedules, until one fails
  torchskew rehearse --plan out/…/plan.json --shrink             find the smallest plan that still fails
  torchskew report rehearsal-…                                   judge and show a finished rehearsal again"""


def add_parser(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "rehearse", help="rehearse the rolling upgrade of a training cluster", description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    arguments.add_declaration(parser)
    _add_what(parser.add_argument_group("what to rehearse (defaults: [rehearsal] of the declaration)"))
    _add_how(parser.add_argument_group("how to run it"))
    parser.set_defaults(command=run_rehearse)


def _add_what(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--from", dest="from_", metavar="VERSION", help="the release that the nodes run now")
    group.add_argument("--to", metavar="VERSION", help="the release to upgrade to")
    group.add_argument("--nodes", type=int, metavar="N", help="from 2 to 16 (4)")
    group.add_argument(
        "--strategy", nargs="+", metavar="S",
        help="rolling, stop-the-world, host-first, host-last, bridged, group:N; several are compared (rolling)",
    )  # fmt: skip
    policies = ["interoperate", "refuse", "auto"]
    group.add_argument("--policy", choices=policies, help="what a mixed group must do (auto)")
    group.add_argument(
        "--faults", metavar="LIST", help=f"any of {','.join(FAULTS)}, or random; pause+kill are two at once"
    )
    group.add_argument(
        "--clock-skew", type=float, metavar="S", help="shift each node's clock by up to S seconds either way (0)"
    )  # fmt: skip
    group.add_argument("--steps", type=int, metavar="N", help="training steps of the whole job (60)")
    group.add_argument("--every", type=int, metavar="N", help="training steps between checkpoints (5)")
    group.add_argument("--checkpoint", metavar="LIST", help="formats to write: dcp, dcp-partial, plain (dcp,plain)")
    group.add_argument("--script", metavar="FILE", help="your own training script; docs/rehearsal.md has the contract")
    group.add_argument("--seed", type=int, metavar="N", help="decides order, lengths and faults (0)")
    group.add_argument("--seeds", type=int, metavar="N", help="rehearse so many seeds; shrink the first that fails (1)")
    group.add_argument(
        "--rollback", nargs="?", const="true", metavar="K",
        help="roll back after these replacements: 2, 1,3, last or all (without K: half-way and after the last)",
    )  # fmt: skip
    group.add_argument("--timeout", type=float, metavar="S", help="seconds given to the process group (10)")
    group.add_argument("--pace", type=float, metavar="S", help="shortest training step in seconds (0.03)")


def _add_how(group: argparse._ArgumentGroup) -> None:
    arguments.add_runtime(group)
    group.add_argument("--fleet", type=_no_fleet, help=argparse.SUPPRESS)
    group.add_argument("--plan", type=Path, metavar="FILE", help="run this saved plan again")
    group.add_argument("--save-plan", type=Path, metavar="FILE", help="save the plan for --plan, also in a dry run")
    group.add_argument("--dry-run", action="store_true", help="print the plan; run and write nothing")
    group.add_argument("--shrink", action="store_true", help="find the smallest plan that still fails")
    group.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="plans and reports (out)")


def run_rehearse(args: argparse.Namespace) -> int:
    """`torchskew rehearse`."""
    from torchskew.engine.progress import watching
    from torchskew.workflows.rehearsal.workflow import run_rehearsal

    with watching() as watch:
        return run_rehearsal(options_of(args), watch)


def options_of(args: argparse.Namespace) -> Options:
    """What was asked for on the command line."""
    from torchskew.workflows.rehearsal.workflow import Options

    names = (
        "to",
        "nodes",
        "strategy",
        "policy",
        "steps",
        "every",
        "script",
        "seed",
        "seeds",
        "rollback",
        "timeout",
        "pace",
    )
    given = {name: getattr(args, name) for name in (*names, "runtime")}
    given["clock_skew"] = args.clock_skew
    given |= {"from": args.from_, "faults": _parts(args.faults), "checkpoint": _parts(args.checkpoint)}
    return Options(
        declaration=args.declaration,
        out=args.out,
        fields={name: value for name, value in given.items() if value is not None},
        plan=args.plan,
        save_plan=args.save_plan,
        dry_run=args.dry_run,
        shrink=args.shrink,
    )


def _no_fleet(text: str) -> str:
    if text != "off":
        why = "a rehearsal makes its own nodes on this machine, to stop, slow and cut them; it has no fleet"
        raise argparse.ArgumentTypeError(why)
    return text


def _parts(text: str | None) -> list[str] | None:
    """`kill,pause` as a list."""
    return [part for part in text.split(",") if part] if text is not None else None
