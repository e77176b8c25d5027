"""Renders a run and its decision: terminal text, results.json, JUnit, markdown, one HTML page, logs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torchskew.errors import RecordError
from torchskew.model.results import Decision
from torchskew.model.runs import Printed, Run
from torchskew.report.grid import Look
from torchskew.report.html import write_html
from torchskew.report.junit import write_junit
from torchskew.report.logs import printed_of, write_logs
from torchskew.report.markdown import write_markdown
from torchskew.report.results import write_results
from torchskew.report.text import Paths, head, render

_FOR_A_FILE = Look(width=160, most=1_000_000)


def write_reports(run: Run, decision: Decision, folder: Path, printed: Iterable[Printed] | None = None) -> Paths:
    """Write every report into `folder`; RecordError when that can't be written to.

    printed: what ranks printed, `record.printed(run_id)`, read once and not kept; without it, what `run` holds.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logs = write_logs(decision, printed_of(run.results) if printed is None else printed, run.info.rerun, folder)
        paths = Paths(
            folder=folder,
            html=folder / "report.html",
            json=folder / "results.json",
            junit=folder / "junit.xml",
            markdown=folder / "summary.md",
            text=folder / "report.txt",
            logs=logs,
        )
        write_results(run, decision, logs, paths.json)
        write_junit(run, decision, logs, paths.junit)
        write_markdown(run, decision, logs, paths.markdown)
        write_html(run, decision, logs, paths.html)
        text = f"{head(run)}\n\n{render(run, decision, paths=paths, look=_FOR_A_FILE)}\n"
        paths.text.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise RecordError(
            f"the reports can't be written to {folder}: {error.strerror}. Make room or give another --out DIR, "
            f"then `torchskew report {run.info.run_id}` writes them from the record."
        ) from error
    return paths
