"""Writes the compatibility page out of recorded runs: who hosts, who joins, and what came of it; nothing by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from harness.model import Decision, Outcome, Run, Verdict
from harness.report import view

_HEAD = """\
# What works between which releases

Measured, cell by cell, by the runs named below; rows are the version of rank 0 (which hosts the store), columns the
version that joins. A cell with two words says what rank 0 and what the joiner saw. This page is generated:

    {command}
"""


def page(runs: Sequence[tuple[Run, Decision]], command: str) -> str:
    """The whole page as markdown. command: what generates it."""
    parts = [_HEAD.format(command=command)]
    parts += ["## In words\n\n" + "\n".join(f"- **{view.SHORT[one]}** {view.MEANING[one]}" for one in Outcome)]
    for run, decision in runs:
        parts += list(_run(run, decision))
    return "\n\n".join(parts) + "\n"


def _run(run: Run, decision: Decision) -> Iterator[str]:
    info = run.info
    yield f"## {run.plan.runtime}\n\nRun `{info.run_id}` of {info.started[:10]}, {info.runtime}, `{info.command}`."
    yield _versions(run)
    for table in view.tables(run, decision):
        if len(table.columns) > 1 and table.grid:
            yield _table(table)
    if wide := list(_worlds(decision)):
        yield "### Worlds of three and more\n\n" + "\n".join(wide)


def _versions(run: Run) -> str:
    """What each label was: what the ranks themselves reported, and the identity of the environment."""
    reported = {
        facts.declared: (facts.torch, facts.python)
        for result in run.results
        for facts in result.ranks
        if facts.torch and facts.python
    }
    lines = ["| version | reports | Python | environment |", "|---|---|---|---|"]
    for name, identity in run.info.environments.items():
        torch, python = reported.get(name, ("", ""))
        lines.append(f"| {name} | {torch} | {python} | `{identity.removeprefix('sha256:')[:12]}` |")
    return "\n".join(lines)


def _table(table: view.Table) -> str:
    head = f"| {table.corner} | " + " | ".join(table.columns) + " |"
    lines = [f"### {table.title}", "", head, "|---" * (len(table.columns) + 1) + "|"]
    for row in table.rows:
        cells = [table.grid.get((row, column)) for column in table.columns]
        words = [view.label(item, mark=False) if item else "" for item in cells]
        lines.append(f"| **{row}** | " + " | ".join(words) + " |")
    return "\n".join(lines)


def _worlds(decision: Decision) -> Iterable[str]:
    """One line per scenario and condition: how many mixed worlds of three came to what."""
    found: dict[str, Counter[str]] = {}
    for item in decision.checked:
        cell, result = item.result.cell, item.result
        if cell.world_size > len("ab") and len(set(cell.skew)) > 1 and result.verdict is not Verdict.BLOCKED:
            found.setdefault(f"{cell.scenario}, guard {cell.guard}", Counter())[view.label(item, mark=False)] += 1
    for name, counter in found.items():
        yield f"- {name}: " + ", ".join(f"{words} {count}" for words, count in counter.most_common())
