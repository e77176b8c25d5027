"""`torchskew survey`: measure what works between which releases, and write the page about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from torchskew.commands import arguments
from torchskew.model.runtimes import RUNTIMES

DECLARATION = "docs/compatibility.toml"
FACTS = "docs/survey.json"
OLD = "compatibility"  # what this command was called
HELP = """\
Measure what works between which releases, and show it: a site, a page, and the facts as data.

  torchskew survey --measure --save docs/survey.json         measure, and merge what was found into the facts
  torchskew survey --html site                               the site out of these facts; nothing is run
  torchskew survey --write docs/compatibility.md             the short page out of these facts
  torchskew survey 20261121-16 --html site                   the site of recorded runs, by their ids
  torchskew survey --measure --versions 2.16.0 2.15.0 --save docs/survey.json     a new release beside an old one
  torchskew survey --measure --disk 40                       keep at most 40 GB of environments at a time

`make survey` measures and writes all three, `make site` builds the site. An interrupted survey continues where it
stopped: run the same command again."""


def add_parser(commands: arguments.Commands) -> None:
    """The command's own arguments."""
    text = "measure what works between which releases, and write the page about it"
    parser = arguments.command(commands, "survey", text, HELP, aliases=(OLD,))
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run ids (default: the facts of --facts)")
    parser.add_argument("--html", type=Path, metavar="DIR", help="write the site into this folder")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the short page to this file")
    parser.add_argument("--save", type=Path, metavar="FILE", help="merge what was recorded into these facts")
    facts = f"the facts to show where nothing is measured and no run is named ({FACTS})"
    parser.add_argument("--facts", type=Path, default=Path(FACTS), metavar="FILE", help=facts)
    what = parser.add_argument_group("measuring")
    what.add_argument("--measure", action="store_true", help="run every cell of the declaration first")
    arguments.add_declaration(what, DECLARATION)
    what.add_argument("--runtime", nargs="+", choices=list(RUNTIMES), help="default: those that answer")
    arguments.add_fleet(what)
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
    """Measure when asked to, then write what was asked for; the page on the terminal where that was nothing."""
    if args.line.startswith(f"torchskew {OLD}"):
        sys.stderr.write(f"torchskew {OLD} is called torchskew survey\n")
    code = max((_measured(args, name) for name in _runtimes(args)), default=0) if args.measure else 0
    from torchskew.workflows import survey_site

    survey = survey_site.facts_of(args.out, args.runs, None if args.measure or args.save else args.facts)
    if args.save is not None:
        survey = survey_site.save(survey, args.save)
    if args.html is not None:
        survey_site.build(survey, args.declaration, args.html)
    if args.write is not None or not (args.html or args.save):
        survey_site.write_page(survey, args.write)
    return code


def _runtimes(args: argparse.Namespace) -> Iterator[str]:
    """Those that were asked for, else those that answer."""
    from torchskew.runtimes import runtime as runtime_named
    from torchskew.workflows.survey_runs import by_reach

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
        fleet=args.fleet,
        cache=not args.no_cache,
        command=args.line,
    )
    bound = None if args.disk is None else round(args.disk * 1e9)
    with watching() as watch:
        return run_survey(options, bound, watch)
