"""Renders a run and its decision: one row of REPORTS for each report, and the logs of ranks beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torchskew.errors import RecordError
from torchskew.model.results import Decision
from torchskew.model.runs import Printed, Run
from torchskew.report.findings import findings_of
from torchskew.report.html import write_html
from torchskew.report.junit import write_junit
from torchskew.report.logs import Written, printed_of, write_logs
from torchskew.report.markdown import write_markdown
from torchskew.report.results import write_results
from torchskew.report.text import write_text

Writer: TypeAlias = Callable[[Run, Decision, Written, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report of every run. file: in the run's folder; content and readers: its line in docs/results.md."""

    name: str
    file: str
    write: Writer
    content: str
    readers: str


# A row here is all that a report needs: every command that writes reports writes it, prints its path and the page
# about results lists it. The first is the one to open; the others are printed by their names beside it.
REPORTS: tuple[Report, ...] = (
    Report(
        name="html",
        file="report.html",
        write=write_html,
        content="one self-contained page: the failures, the heat maps, and for each cell the facts of every rank",
        readers="people",
    ),
    Report(
        name="json",
        file="results.json",
        write=write_results,
        content="the same as data, schema 1.x",
        readers="programs",
    ),
    Report(
        name="junit",
        file="junit.xml",
        write=write_junit,
        content="a test case for each cell",
        readers="GitHub, GitLab, Jenkins",
    ),
    Report(
        name="markdown",
        file="summary.md",
        write=write_markdown,
        content="the summary of a CI job, decision first",
        readers="GitHub's step summary",
    ),
    Report(
        name="text",
        file="report.txt",
        write=write_text,
        content="what the terminal showed, nothing shortened",
        readers="people",
    ),
)


def write_reports(run: Run, decision: Decision, folder: Path, printed: Iterable[Printed] | None = None) -> Written:
    """Write every report into `folder`; RecordError when that can't be written to.

    printed: what ranks printed, `record.printed(run_id)`, read once and not kept; without it, what `run` holds.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logs = write_logs(decision, printed_of(run.results) if printed is None else printed, run.info.rerun, folder)
        files = {row.name: folder / row.file for row in REPORTS}
        written = Written(findings=findings_of(run, decision), files=files, logs=logs)
        for row in REPORTS:
            row.write(run, decision, written, written.files[row.name])
    except OSError as error:
        raise RecordError(
            f"the reports can't be written to {folder}: {error.strerror}. Make room or give another --out DIR, "
            f"then `torchskew report {run.info.run_id}` writes them from the record."
        ) from error
    return written
