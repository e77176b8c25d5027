"""Tell: the reports of carried-out rehearsals into their folders and onto the terminal, at once or again later."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from torchskew.errors import RecordError
from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal import keep, report
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.model import Finding

Judged = tuple[keep.Kept, Finding]


def write(path: Path, content: str) -> None:
    """A text file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def show(judged: Sequence[Judged]) -> int:
    """Write and print every report; the exit code: 0 when every rehearsal passed."""
    results = [(kept.seen, finding) for kept, finding in judged]
    for kept, finding in judged:
        told = report.text(kept.seen, finding, kept.rerun)
        write(kept.folder / "report.html", report.page(kept.seen, finding, kept.rerun))
        write(kept.folder / "report.txt", told)
        write(kept.folder / keep.RESULTS, keep.results(kept, finding))
        for name, content in keep.logs(kept.seen):
            write(kept.folder / "logs" / name, content)
        sys.stdout.write(f"\nreport     {kept.folder / 'report.html'}\n{told}")
    if len(judged) > 1:
        sys.stdout.write("\n" + report.compared(results))
    return 0 if all(finding.verdict is Verdict.PASS for _, finding in judged) else 1


def again(out: Path, name: str) -> int:
    """Judge a finished rehearsal anew from its facts, and write its reports; RecordError where there is none."""
    kept = [keep.read(folder) for folder in keep.folders(out, name)]
    if not kept:
        raise RecordError(f"{name}: no facts of a rehearsal lie there. `torchskew report --list` names those in {out}.")
    return show([(one, judge(one.seen)) for one in kept])


def listed(out: Path) -> list[str]:
    """A line for each kept rehearsal: its name, what it was, and the answer."""
    lines = []
    for folder in keep.folders(out):
        kept = keep.read(folder)
        lines.append(f"{folder.relative_to(out)}  {report.answer(kept.seen, judge(kept.seen))}")
    return lines
