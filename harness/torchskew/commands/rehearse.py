"""`torchskew rehearse` on the command line: arguments become the workflow's options."""

from __future__ import annotations

import argparse
from pathlib import Path

from torchskew.commands import arguments
from torchskew.faults import FAULTS

HELP = """\
Upgrade a small cluster from one release to another under a real training job, node by node, with faults and
rollback, and say what of it works. [rehearsal] in the declaration holds the defaults.

  torchskew rehearse --from 2.6.0 --to 2.14.1 --rollback         rolling, four nodes
  torchskew rehearse --from 2.6.0 --to 2.14.1 --rollback all     back again after every single node
  torchskew rehearse --from 2.6.0 --to 2.14.1 --dry-run          print the plan, run nothing
  torchskew rehearse --from 1.13.1 --to 2.6.0 --strategy rolling stop-the-world    two strategies side by side
  torchskew rehearse --plan out/…/plan.json --shrink             the smallest part of a plan that still fails
  torchskew report rehearsal-…                                   judge and show a finished one again"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "rehearse", help="rehearse a rolling upgrade of a training cluster", description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--declaration", "-f", type=Path, default=Path("torchskew.toml"), metavar="FILE")
    what = parser.add_argument_group("what to rehearse (defaults: [rehearsal] of the declaration)")
    what.add_argument("--from", dest="from_", metavar="VERSION", help="the release that the nodes run now")
    what.add_argument("--to", metavar="VERSION", help="the release that they are to run")
    what.add_argument("--nodes", type=int, metavar="N", help="from 2 to 16 (4)")
    what.add_argument(
        "--strategy", nargs="+", metavar="S",
        help="rolling, stop-the-world, host-first, host-last, group:N; several are compared (rolling)",
    )  # fmt: skip
    what.add_argument("--policy", choices=["interoperate", "refuse", "auto"], help="what a mixed group is to do (auto)")
    what.add_argument("--faults", metavar="LIST", help=f"of {','.join(FAULTS)}; one at a time")
    what.add_argument("--steps", type=int, metavar="N", help="training steps in all (60)")
    what.add_argument("--every", type=int, metavar="N", help="training steps between checkpoints (5)")
    what.add_argument("--checkpoint", metavar="LIST", help="formats to write: dcp,plain (both)")
    what.add_argument("--script", metavar="FILE", help="your own training script; docs/rehearsal.md has the contract")
    what.add_argument("--seed", type=int, metavar="N", help="decides order, lengths and faults (0)")
    what.add_argument(
        "--rollback", nargs="?", const="true", metavar="K",
        help="go back after so many replacements: 2, 1,3, last or all (without K: half-way and after the last)",
    )  # fmt: skip
    what.add_argument("--timeout", type=float, metavar="S", help="seconds given to the process group (10)")
    what.add_argument("--pace", type=float, metavar="S", help="shortest training step in seconds (0.03)")
    how = parser.add_argument_group("how to run it")
    arguments.add_runtime(how)
    how.add_argument("--plan", type=Path, metavar="FILE", help="carry out this plan again")
    how.add_argument("--dry-run", action="store_true", help="print the plan, run nothing")
    how.add_argument("--shrink", action="store_true", help="of a plan that fails, find the smallest that still does")
    how.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="plan and reports (out)")
    parser.set_defaults(command=run_rehearse)


def run_rehearse(args: argparse.Namespace) -> int:
    """`torchskew rehearse`."""
    from torchskew.engine.progress import watching
    from torchskew.workflows.rehearsal.workflow import Options, execute

    names = ("to", "nodes", "strategy", "policy", "steps", "every", "script", "seed", "rollback", "timeout", "pace")
    given = {name: getattr(args, name) for name in (*names, "runtime")}
    given |= {"from": args.from_, "faults": _list(args.faults), "checkpoint": _list(args.checkpoint)}
    options = Options(
        declaration=args.declaration,
        out=args.out,
        fields={name: value for name, value in given.items() if value is not None},
        plan=args.plan,
        dry_run=args.dry_run,
        shrink=args.shrink,
        command=args.line,
    )
    with watching() as watch:
        return execute(options, watch)


def _list(text: str | None) -> list[str] | None:
    return [one for one in text.split(",") if one] if text is not None else None
