"""The command `torchskew compatibility`: measure what works between which releases, and write the page about it."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from torchskew.commands import arguments
from torchskew.model.runtimes import RUNTIMES

if TYPE_CHECKING:
    from torchskew.record.record import Record
    from torchskew.report.compatibility import Measured

DECLARATION = Path("docs/compatibility.toml")
RECORD = "record.sqlite"
HELP = """\
Write the page about what works between which releases, out of recorded measurements.

  torchskew compatibility --measure --write docs/compatibility.md   measure, then write (this is make compatibility)
  torchskew compatibility --measure --disk 40                       with environments of 40 GB at a time
  torchskew compatibility                                           the page of the newest measurements again
  torchskew compatibility 20261121-16                               of these runs, by their ids

A measurement that was interrupted goes on where it stopped: give the same command again."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's own arguments."""
    text = "measure what works between which releases, and write the page about it"
    parser = arguments.command(commands, "compatibility", text, HELP)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run ids (default: the newest measurement per runtime)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write there instead of to the terminal")
    what = parser.add_argument_group("measuring")
    what.add_argument("--measure", action="store_true", help="run every cell of the declaration first")
    what.add_argument("--declaration", "-f", type=Path, default=DECLARATION, metavar="FILE")
    what.add_argument("--runtime", nargs="+", choices=_by_reach(), help="default: those that answer")
    what.add_argument("--versions", nargs="+", default=[], metavar="PATTERN", help="declared versions, as patterns")
    what.add_argument("--scenarios", nargs="+", default=[], metavar="PATTERN", help="scenarios, as patterns")
    what.add_argument("--disk", type=float, metavar="GB", help="most that environments take (default: all but 10 GB)")
    what.add_argument("--no-cache", action="store_true", help="run cells again although nothing changed")
    what.add_argument("-j", "--jobs", type=arguments.between(1, 256), metavar="N", help="cells that work at once")
    arguments.add_out(parser)
    parser.set_defaults(command=run_compatibility)


def _by_reach() -> tuple[str, ...]:
    """The runtimes, the page's order: first the one that every machine has."""
    return tuple(reversed(RUNTIMES))


def run_compatibility(args: argparse.Namespace) -> int:
    """Measure when asked to, then write the page."""
    code = max((_measured(args, name) for name in _runtimes(args)), default=0) if args.measure else 0
    written = _page(args.out, args.runs)
    if args.write is None:
        sys.stdout.write(written)
    else:
        args.write.write_text(written, encoding="utf-8")
        sys.stdout.write(f"wrote {args.write}\n")
    return code


def _runtimes(args: argparse.Namespace) -> Iterator[str]:
    """Those that were asked for, else those that answer."""
    from torchskew.runtimes import runtime as runtime_named

    for name in args.runtime or _by_reach():
        problem = None if args.runtime else runtime_named(name).answers()
        if problem:
            sys.stderr.write(f"{name} left out: {problem}\n")
        else:
            yield name


def _measured(args: argparse.Namespace, runtime: str) -> int:
    """One runtime's measurement, begun or gone on with; its exit code."""
    from torchskew.engine.progress import watching
    from torchskew.workflows.matrix import Options
    from torchskew.workflows.survey import MEASURE, Measurement

    options = Options(
        declaration=args.declaration,
        out=args.out,
        runtime=runtime,
        versions=tuple(args.versions),
        scenarios=tuple(args.scenarios),
        jobs=args.jobs,
        cache=not args.no_cache,
        command=args.line,
    )
    with watching() as watch, ExitStack() as stack:
        bound = None if args.disk is None else round(args.disk * 1e9)
        work = Measurement(options=options, watch=watch, stack=stack, bound=bound)
        for step in MEASURE:
            step(work)
    return work.exit_code or 0


def _page(out: Path, run_ids: Sequence[str]) -> str:
    """The page of these runs; of the newest complete measurement of each runtime where none is named."""
    from torchskew.record.record import Record
    from torchskew.report.compatibility import page

    with Record.open(out / RECORD, create=False) as record:
        chosen = [record.resolve(one) for one in run_ids] or _newest(record)
        measured = [_measured_run(record, run_id) for run_id in chosen]
    return page(measured, f"torchskew compatibility {' '.join(chosen)}")


def _newest(record: Record) -> list[str]:
    """The newest complete measurement of each runtime, else the latest run whatever it was."""
    from torchskew.model.runs import RunKind

    found: dict[str, str] = {}
    for info in record.runs():
        if info.kind is RunKind.SURVEY and info.finished:
            found.setdefault(record.load(info.run_id).plan.runtime, info.run_id)
    return [found[name] for name in _by_reach() if name in found] or [record.resolve("latest")]


def _measured_run(record: Record, run_id: str) -> Measured:
    from torchskew.judging.decide import decide
    from torchskew.report.compatibility import Measured

    run = record.load(run_id)
    today = dt.date.fromisoformat(run.info.started[:10])
    decision = decide(run.plan, run.results, run.expectations, today=today)
    return Measured(run=run, decision=decision, origins=record.origins(run_id))
