"""`torchskew check`."""

from __future__ import annotations

import argparse
import datetime as dt

from torchskew.commands import arguments

RUN = "run"  # what users of task runners type
HELP = """\
Run your own commands ([checks.NAME] in the declaration) in the environment of every declared version, within limits
of time, memory and processes. Exit code 0 of the command is a pass.

  [checks.unit]
  command  = ["{python}", "-m", "pytest", "tests/", "-q"]   # a list: no shell; a text: through the shell
  requires = ["pytest", "numpy"]                            # beside torch, for this check only

  torchskew check                        the checks that run on the tag `default`
  torchskew check unit 'smoke_*'         these checks, whatever their tags
  torchskew check --tag pre_release      the checks that run on this tag
  torchskew check unit -- -x -k store    more words at the end of the command; `torchskew run` is the same
  torchskew check --list                 what is declared; --dry-run: which cells would run, and where

exit codes: 0 as expected · 1 not as expected · 2 interrupted · 4 usage or declaration · 5 nothing was selected"""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    parser = arguments.command(
        commands, "check", "run your own commands in every declared version", HELP, aliases=(RUN,)
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("names", nargs="*", metavar="NAME", help="names or patterns of checks (those of the tag)")
    what.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="checks that run on it; may be repeated"
    )
    what.add_argument(
        "--versions", nargs="+", default=[], metavar="PATTERN", help="names or patterns of declared versions"
    )
    what.add_argument(
        "--only", "-k", action="append", default=[], metavar="PATTERN", help="cell ids, like 'unit/2.6.0/*'"
    )
    arguments.add_declaration(what)
    arguments.add_runtime(what)
    arguments.add_fleet(what)
    how = parser.add_argument_group("how to run it")
    until = "install no package uploaded after this time (the start of this day, UTC)"
    how.add_argument("--exclude-newer", type=instant, metavar="TIME", help=until)
    arguments.add_shard(how)
    how.add_argument("--stop-on-fail", action="store_true", help="run one after another, and nothing after a failure")
    how.add_argument("--list", action="store_true", help="list the selected checks, run nothing")
    how.add_argument("--dry-run", action="store_true", help="print the cells and their environments, run nothing")
    how.add_argument("--resume", action="store_true", help="continue the newest interrupted run of the same plan")
    how.add_argument("--no-cache", action="store_true", help="run checks again whose declared inputs are unchanged")
    how.add_argument(
        "-j", "--jobs", type=arguments.between(1, 256), metavar="N", help="checks that run at once (the processors)"
    )
    arguments.add_out(how)
    parser.set_defaults(command=run, extra=())


def instant(text: str) -> str:
    """A day or an instant as ISO 8601 in UTC; ArgumentTypeError otherwise."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like 2026-11-28 or 2026-11-28T12:00:00Z, got {text!r}") from None
    moment = moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def run(args: argparse.Namespace) -> int:
    """Run the selected checks; the decision's exit code."""
    from torchskew.engine.progress import watching
    from torchskew.model.runs import RunKind
    from torchskew.workflows.check import CheckRequest, run_checks
    from torchskew.workflows.options import Options

    request = CheckRequest(
        names=tuple(args.names),
        tags=tuple(args.tag),
        extra=tuple(args.extra),
        until=args.exclude_newer,
        stop=args.stop_on_fail,
        listing=args.list,
    )
    options = Options(
        **arguments.of_cells(args),
        **arguments.parts(args),
        kind=RunKind.CHECK,
        versions=tuple(args.versions),
    )
    with watching() as watch:
        return run_checks(request, options, watch)
