"""`torchskew advise`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from torchskew.commands import arguments
from torchskew.errors import ConfigError

if TYPE_CHECKING:
    from torchskew.releases.advice import Advice

HELP = """\
Say what to expect of an upgrade, from what is known about the two releases: whether they can be in one group and who
then hosts, whether a rolling upgrade works, which files go forward and come back, what changes silently, what the guard
says, and the command that proves it. It answers at once and runs nothing.

  torchskew advise --from 2.2.2 --to 2.15.0
  torchskew advise --from 2.2.2 --to 2.15.0 --ranks 64 --uses ddp,dcp,export
  torchskew advise --from 2.6.0 --to 2.13.0 --json
  torchskew advise --from 2.6.0 --to 2.13.0 --uses dcp --check      run the rehearsal that proves it, and compare

exit codes: 0 answered (with --check: those of torchskew rehearse) · 4 usage"""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(commands, "advise", "say what to expect of an upgrade, from what is known", HELP)
    parser.add_argument("--from", dest="old", required=True, metavar="RELEASE", help="the release that runs now")
    parser.add_argument("--to", dest="new", required=True, metavar="RELEASE", help="the release to upgrade to")
    parser.add_argument("--ranks", type=arguments.between(2, 100_000), default=2, metavar="N", help="nodes of the job")
    text = "what the job uses, separated by commas (everything): ddp, fsdp, dcp, export, rpc, torchrun, ..."
    parser.add_argument("--uses", default="", metavar="LIST", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--check", action="store_true", help="then run the rehearsal that proves it, and compare")
    arguments.add_runtime(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Answer, and prove it when asked to."""
    from torchskew.report.advice import advice_as_json, advice_as_text
    from torchskew.workflows.advise import advice_for, proof_of

    if args.json and args.check:
        raise ConfigError("advise: --json prints one object, and --check prints a rehearsal. Run one after the other.")
    if args.runtime is not None and not args.check:
        raise ConfigError("advise: --runtime is for --check; an advice is about releases, wherever they run.")
    advice = advice_for(args.old, args.new, [name for name in args.uses.split(",") if name])
    sys.stdout.write(advice_as_json(advice) + "\n" if args.json else advice_as_text(advice, args.ranks))
    sys.stdout.flush()
    return _prove(advice, proof_of(advice), args) if args.check else 0


def _prove(advice: Advice, words: list[str], args: argparse.Namespace) -> int:
    """Run the rehearsal that was printed, with the options of `torchskew rehearse`, and compare it with the advice."""
    from torchskew.commands import rehearse
    from torchskew.engine.progress import watching
    from torchskew.workflows.proof import prove

    parser = argparse.ArgumentParser()
    rehearse.add_parser(parser.add_subparsers())
    where = [] if args.runtime is None else ["--runtime", args.runtime]
    options = rehearse.options_of(parser.parse_args([*words, *where]))
    with watching() as watch:
        return prove(advice, options, watch)
