"""Recorded runs again: shown, listed, compared with each other, and searched for flakes. Nothing is run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from torchskew.errors import RecordError
from torchskew.guard.table import parse
from torchskew.judging import diff, flakes
from torchskew.judging.blame import of_part
from torchskew.judging.controls import against_controls
from torchskew.judging.decide import decide
from torchskew.judging.history import histories
from torchskew.model.ids import CellId
from torchskew.model.results import CellResult
from torchskew.model.runs import Asked, Past, RunInfo, RunKind, Shard, Unmatched
from torchskew.planning.plan import plan_of
from torchskew.record.folder import DATABASE
from torchskew.report.flakes import render
from torchskew.report.site.dashboard import Recorded, in_order, write_dashboard
from torchskew.report.suite import markdown
from torchskew.workflows.cell_steps import show, today
from torchskew.workflows.gate.recorded import decided_again
from torchskew.workflows.options import Options
from torchskew.workflows.records import record_in
from torchskew.workflows.rehearsal import archive, reports
from torchskew.workflows.suite import show_suite


def report_again(out: Path, run_id: str, *, colour: bool) -> int:
    """`torchskew report`: every report out of the record, judged against the run's own expectations.

    A rehearsal is named by its folder, and judged again from the facts in there.
    """
    if run_id.startswith(archive.PREFIX) or any(archive.folders(out, run_id)):
        return reports.show_again(out, run_id)
    with record_in(out) as record:
        run = record.load(run_id)
        if run.info.kind is RunKind.SUITE:
            decision = against_controls(run.plan, run.results, run.expectations, run.info.day)
            decision = of_part(decision, record.mark_of(Shard, run.info.run_id))
            show_suite(record, run, decision, Options(out=out, colour=colour))
            return decision.exit_code
        if asked := record.mark_of(Asked, run.info.run_id):
            decision = decided_again(record, run, asked, run.info.day)
        else:
            unmatched = record.mark_of(Unmatched, run.info.run_id)
            decision = decide(run.plan, run.results, run.expectations, today=run.info.day, unmatched=unmatched)
            decision = of_part(decision, record.mark_of(Shard, run.info.run_id))
        show(record, run, decision, Options(out=out, colour=colour))
    return decision.exit_code


def suite_table(out: Path) -> int:
    """`torchskew suite --table`: the newest result of each of PyTorch's own tests, over all recorded runs, as markdown.

    Raises:
        RecordError: the record holds no run of the suites.
    """
    results: dict[CellId, CellResult] = {}
    with record_in(out) as record:
        for info in record.runs():  # newest first
            if info.kind is RunKind.SUITE:
                for result in record.results(info.run_id):
                    results.setdefault(result.cell.id, result)
        if not results:
            raise RecordError(f"{record.path} holds no run of `torchskew suite`. Run one with this --out.")
    cells = sorted(
        (result.cell for result in results.values()), key=lambda cell: (cell.scenario, _by_release(cell.skew))
    )
    plan = plan_of(cells, cells[0].runtime, 0)
    sys.stdout.write(markdown(against_controls(plan, list(results.values()), (), today())) + "\n")
    return 0


def _by_release(skew: Sequence[str]) -> tuple[object, ...]:
    """Small worlds first; alone before mixed; then by release."""
    return len(skew), len(set(skew)), tuple(parse(name) or () for name in skew)


def list_runs(out: Path) -> int:
    """`torchskew report --list`: recorded runs, and rehearsals by their folders."""
    rehearsals = reports.overview(out)
    sys.stdout.writelines(f"{line}\n" for line in rehearsals)
    if rehearsals and not (out / DATABASE).exists():
        return 0
    with record_in(out) as record:
        for info in record.runs():
            sys.stdout.write(f"{info.run_id}  {info.started}  {info.finished or 'unfinished'}  {info.command}\n")
    return 0


def compare(out: Path, before: str, after: str) -> int:
    """`torchskew diff`: only what changed; exit 1 when the later run is worse."""
    with record_in(out) as record:
        first, second = record.load(before), record.load(after)
    delta = diff.difference(first.results, second.results)
    lines = [diff.render(delta.changes, second.info.rerun, most=1000)] if delta.changes else []
    lines.append(diff.sentence(delta, first.info.run_id, second.info.run_id))
    sys.stdout.write("\n".join(lines) + "\n")
    return int(delta.worse)


def count_flakes(folders: Sequence[Path], html: Path | None) -> int:
    """`torchskew flakes`: cells that showed a pass and a failure of the same content, with their rates.

    folders: the --out of any number of records, which count together; a run that several of them hold counts once.
    html: where the dashboard is written.
    """
    runs: dict[str, RunInfo] = {}
    pasts: list[Past] = []
    for folder in folders:
        with record_in(folder) as record:
            new = {info.run_id: info for info in record.runs() if info.run_id not in runs}
            pasts += (past for past in record.pasts() if past.run_id in new)
            runs |= new
    cells = histories(pasts)
    sys.stdout.write(render(flakes.rates(each.entries[::-1] for each in cells)) + "\n")
    if html is not None:
        names = tuple(map(str, folders))
        write_dashboard(Recorded(folders=names, runs=in_order(runs.values()), cells=cells), html)
        sys.stdout.write(f"wrote {html} · {len(runs)} runs, {len(cells)} cells\n")
    return 0
