"""`torchskew explain`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torchskew.commands import arguments

HELP = """\
Say which known break between PyTorch releases an error text or a log fits, how well and why, what to do, and what else
it could be. Nothing is run, and no release is guessed: where the text alone can't decide, it says so.

  torchskew explain 'Stop_waiting response is expected'
  torchskew explain rank0.log rank1.log                   logs of several ranks, of any size
  torchskew explain --from 2.4.1 --to 2.6.0 job.log       when you know which releases ran
  kubectl logs job/train | torchskew explain -
  torchskew explain SKEW-002                              one entry of the catalogue
  torchskew explain --write docs/breaks.md                the whole catalogue as a page

exit codes: 0 explained, whether it is a version's fault or not · 1 open or unknown · 4 usage"""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    text = "say which known break an error text or a log fits, and what else it could be"
    parser = arguments.command(commands, "explain", text, HELP)
    parser.add_argument("texts", nargs="*", metavar="TEXT|FILE|ID", help="texts, logs, an entry's id, or - (stdin)")
    parser.add_argument("--from", dest="first", default="", metavar="RELEASE", help="a release that ran, such as 2.4.1")
    parser.add_argument("--to", dest="second", default="", metavar="RELEASE", help="the other release that ran")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the catalogue as a page, and nothing else")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Explain texts, or write the page."""
    from torchskew.workflows.explain import explain, write_page

    if args.write is not None:
        return write_page(args.write)
    text, code = explain(args.texts, args.first, args.second, as_json=args.json)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return code
