"""Write and print the reports of rehearsals, right after they ran or again later from their folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchskew.errors import RecordError
from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal import archive, page, terminal
from torchskew.workflows.rehearsal.archive import ArchivedRehearsal
from torchskew.workflows.rehearsal.findings import Finding
from torchskew.workflows.rehearsal.judge import judge


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRehearsal:
    """A rehearsal in its folder, and what it means."""

    archived: ArchivedRehearsal
    finding: Finding


def judged(archived: ArchivedRehearsal) -> JudgedRehearsal:
    """The rehearsal with its finding."""
    return JudgedRehearsal(archived=archived, finding=judge(archived.observation))


def write(path: Path, content: str) -> None:
    """A text file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def show(rehearsals: Sequence[JudgedRehearsal]) -> int:
    """Write and print every report; the exit code: 0 when every rehearsal passed."""
    many = len({rehearsal.archived.observation.plan.spec.seed for rehearsal in rehearsals}) > 1
    for rehearsal in rehearsals:
        shown = _write_reports(rehearsal)
        if not many or rehearsal.finding.verdict is not Verdict.PASS:
            sys.stdout.write(shown)
    if len(rehearsals) > 1:
        compared = [(rehearsal.archived.observation, rehearsal.finding) for rehearsal in rehearsals]
        sys.stdout.write("\n" + terminal.comparison(compared))
    return 0 if all(rehearsal.finding.verdict is Verdict.PASS for rehearsal in rehearsals) else 1


def _write_reports(rehearsal: JudgedRehearsal) -> str:
    """Every report of one rehearsal into its folder; returns what a person reads on the terminal."""
    archived, finding = rehearsal.archived, rehearsal.finding
    folder, observation = archived.folder, archived.observation
    text = terminal.text(observation, finding, archived.rerun)
    write(folder / "report.html", page.html(observation, finding, archived.rerun))
    write(folder / "report.txt", text)
    write(folder / archive.RESULTS, archive.results(archived, finding))
    for name, content in archive.logs(observation):
        write(folder / "logs" / name, content)
    return f"\nreport     {folder / 'report.html'}\n{text}"


def show_again(out: Path, name: str) -> int:
    """Judge a finished rehearsal again from its facts, and write its reports; RecordError where there is none."""
    archived = [archive.read(folder) for folder in archive.folders(out, name)]
    if not archived:
        raise RecordError(f"{name}: holds no facts of a rehearsal. `torchskew report --list` names those in {out}.")
    return show([judged(each) for each in archived])


def overview(out: Path) -> list[str]:
    """A line for each rehearsal in `out`: its folder and the answer."""
    lines = []
    for folder in archive.folders(out):
        observation = archive.read(folder).observation
        lines.append(f"{folder.relative_to(out)}  {terminal.answer(observation, judge(observation))}")
    return lines
