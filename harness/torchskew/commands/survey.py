"""`torchskew survey`: measure what works between which releases, and write the page about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from torchskew.commands import arguments
from torchskew.model.runtimes import RUNTIMES

DECLARATION = "docs/compatibility.toml"
HELP = """\
Write the page about what works between which releases, from recorded surveys.

  torchskew survey --measure --write docs/compatibility.md   measure, then write (what `make survey` runs)
  torchskew survey --measure --disk 40                       keep at most 40 GB of environments at a time
  torchskew survey                                           write the page of the newest surveys again
  torchskew survey 20261121-16                               write the page of these runs, by their ids

An interrupted survey continues where it stopped: run the same command again."""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    text = "measure what works between which releases, and write the page about it"
    parser = arguments.command(commands, "survey", text, HELP, aliases=("compatibility",))
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run ids (default: the newest survey per runtime)")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="write the page to this file instead of the terminal"
    )
    what = parser.add_argument_group("measuring")
    what.add_argument("--measure", action="store_true", help="run every cell of the declaration first")
    arguments.add_declaration(what, DECLARATION)
    what.add_argument("--runtime", nargs="+", choices=list(RUNTIMES), help="default: those that answer")
    what.add_argument(
        "--versions", nargs="+", default=[], metavar="PATTERN", help="names or patterns of declared versions"
    )
    what.add_argument("--scenarios", nargs="+", default=[], metavar="PATTERN", help="names or patterns of scenarios")
    what.add_argument("--disk", type=float, metavar="GB", help="disk space for environments (default: all but 10 GB)")
    what.add_argument("--no-cache", action="store_true", help="run unchanged cells as well")
    what.add_argument("-j", "--jobs", type=arguments.between(1, 256), metavar="N", help="cells that run at once")
    arguments.add_out(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Measure when asked to, then write the page."""
    code = max((_measured(args, name) for name in _runtimes(args)), default=0) if args.measure else 0
    from torchskew.workflows.survey_page import page_of

    written = page_of(args.out, args.runs)
    if args.write is None:
        sys.stdout.write(written)
    else:
        args.write.write_text(written, encoding="utf-8")
        sys.stdout.write(f"wrote {args.write}\n")
    return code


def _runtimes(args: argparse.Namespace) -> Iterator[str]:
    """Those that were asked for, else those that answer."""
    from torchskew.runtimes import runtime as runtime_named
    from torchskew.workflows.survey_page import by_reach

    for name in args.runtime or by_reach():
        problem = None if args.runtime else runtime_named(name).answers()
        if problem:
            sys.stderr.write(f"{name} left out: {problem}\n")
        else:
            yield name


def _measured(args: argparse.Namespace, runtime: str) -> int:
    """One runtime's survey, begun or continued; its exit code."""
    from torchskew.engine.progress import watching
    from torchskew.model.runs import RunKind
    from torchskew.workflows.options import Options
    from torchskew.workflows.survey import run_survey

    options = Options(
        kind=RunKind.SURVEY,
        declaration=args.declaration,
        out=args.out,
        runtime=runtime,
        versions=tuple(args.versions),
        scenarios=tuple(args.scenarios),
        jobs=args.jobs,
        cache=not args.no_cache,
        command=args.line,
    )
    bound = None if args.disk is None else round(args.disk * 1e9)
    with watching() as watch:
        return run_survey(options, bound, watch)
