"""Writes the summary of a CI job as markdown: the decision first, details folded, below GitHub's limit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from torchskew.model.outcomes import Outcome
from torchskew.model.reruns import Rerun
from torchskew.model.results import Checked, Decision
from torchskew.model.runs import Run
from torchskew.report import view
from torchskew.report.failures import FailureGroup
from torchskew.report.findings import Findings
from torchskew.report.logs import Logs, Written
from torchskew.report.tables import CellTable
from torchskew.report.text import accounting

# GitHub refuses a step's summary of more than 1 MiB as a whole; other steps may write to it as well.
_LIMIT: Final = 900_000
_LISTED: Final = 2000
_DETAILED: Final = 100  # cells; a reader who has more opens the page
_ERROR_CHARACTERS: Final = 2000
_TAIL_CHARACTERS: Final = 1500
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_SIGNS: Final = {
    Outcome.OK: "🟢",
    Outcome.CLEAR: "🔵",
    Outcome.WRONG: "🔴",
    Outcome.CRASH: "🔴",
    Outcome.HANG: "🔴",
    Outcome.OPAQUE: "🟠",
    Outcome.TIMEOUT: "🟠",
    Outcome.UNSUPPORTED: "⚪",
    Outcome.NOT_RUN: "⚪",
}


def write_markdown(run: Run, decision: Decision, written: Written, path: Path) -> None:
    """Write as many sections as fit, the important ones first."""
    size, left_out = 0, False
    with path.open("wb") as file:
        for section in _sections(run, decision, written):
            data = f"{section}\n\n".encode(errors="backslashreplace")
            if size + len(data) > _LIMIT:
                left_out = True
                continue
            file.write(data)
            size += len(data)
        if left_out:
            file.write(b"More than a job summary can hold: the rest is in `report.html`.\n")


def _sections(run: Run, decision: Decision, written: Written) -> Iterator[str]:
    info, findings = run.info, written.findings
    passed = "⏳" if decision.part else "✅"
    yield f"## {passed if decision.exit_code == 0 else '❌'} torchskew: {_safe(decision.sentence)}"
    yield f"`{accounting(findings.counts)}`"
    yield f"{_safe(info.runtime)} ({_safe(info.runtime_why)}) · seed {info.seed} · run `{info.run_id}`"
    if decision.difference:
        yield f"### What changed\n{_fenced(decision.difference)}"
    if decision.problems:
        yield "### Problems\n" + "\n".join(f"- {_safe(problem)}" for problem in decision.problems)
    items = findings.unexpected
    if items:
        yield f"### Not as expected: {len(items)}"
    yield from _by_cause(findings.failures, info.rerun)
    for item in items[:_DETAILED]:
        yield _unexpected(item, written.logs, info.rerun)
    if rest := items[_DETAILED:]:
        lines = (
            f"- {item.status} `{_safe(item.result.cell.id)}` {_safe(view.words(item.result))}"
            for item in rest[:_LISTED]
        )
        yield f"<details><summary>and {len(rest)} more</summary>\n\n" + "\n".join(lines) + "\n\n</details>"
    yield from _surprises(findings.surprises)
    for table in findings.tables:
        yield _table(table)
    yield (
        "<sub>"
        + " · ".join(f"{sign} {view.SHORT[seen]} {view.MEANING[seen]}" for seen, sign in _SIGNS.items())
        + "</sub>"
    )
    yield from _known(findings)


def _by_cause(failures: Iterable[FailureGroup], again: Rerun) -> Iterator[str]:
    """What the cells have in common, where several fail in one way or a known break explains them."""
    for group in failures:
        if len(group.items) == 1 and not group.entry:
            continue
        count = f"{len(group.items)} cells" if len(group.items) > 1 else "1 cell"
        lines = [f"**{_safe(group.title)}** ({count}: {_safe(group.pairs)})"]
        if group.entry:
            lines += ["", f"{_safe(group.entry.cause)} **Now:** {_safe(group.entry.remedy.now)}"]
        yield "\n".join([*lines, _fenced(str(group.rerun(again)))])


def _unexpected(item: Checked, logs: Logs, again: Rerun) -> str:
    """What and where at a glance; facts, errors and the end of the logs on a click."""
    result = item.result
    outcome_words = f"expected {view.expected_words(item)}, got {result.verdict} ({_safe(view.words(result))})"
    lines = [
        f"<details><summary><b>{item.status}</b> <code>{_safe(result.cell.id)}</code> · {outcome_words}</summary>",
        "",
        _safe(result.reason),
        "",
        _fenced(str(again.of_cell(result.cell.id))),
        "| rank | version | torch | outcome | phase | seconds | end |",
        "|--:|---|---|---|---|--:|---|",
    ]
    for facts, outcome in zip(result.ranks, result.outcomes, strict=False):
        end = facts.signal or ("" if facts.exit is None else f"exit {facts.exit}")
        row = (facts.rank, facts.declared, facts.torch or "", f"{_SIGNS[outcome]} {outcome}", facts.phase)
        lines.append(f"| {' | '.join(_safe(str(part)) for part in row)} | {facts.seconds:.2f} | {end} |")
    for facts in result.ranks:
        if facts.error:
            lines.append(_fenced(f"rank {facts.rank} {facts.error.type}\n{facts.error.text[:_ERROR_CHARACTERS]}"))
        if tail := logs.tails.get((result.cell.id, facts.rank)):
            excerpts = (tail.stacks[:_TAIL_CHARACTERS], tail.log[-_TAIL_CHARACTERS:])
            lines += [_fenced(f"rank {facts.rank}\n{text}") for text in excerpts if text]
    return "\n".join((*lines, "", "</details>"))


def _surprises(items: Sequence[Checked]) -> Iterator[str]:
    if items:
        yield f"### Surprises: {len(items)}\n\n| cell | predicted | observed |\n|---|---|---|\n" + "\n".join(
            f"| `{_safe(item.result.cell.id)}` | {view.outcome_words(item.result.cell.predicted, full=True)} "
            f"| {view.observed_words(item.result)} |"
            for item in items
        )


def _table(table: CellTable) -> str:
    """Rows are rank 0's versions, columns the joiners', as everywhere."""
    lines = [f"#### {_safe(table.title)}", ""]
    if table.columns:
        names = (table.corner.replace("\\", "\\\\"), *table.columns)
        lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in table.rows:
        entries = (_entry(table.grid.get((row, column))) for column in table.columns)
        lines.append(f"| **{row}** | {' | '.join(entries)} |")
    lines += ["", *(f"- `{','.join(item.result.cell.skew)}` {_entry(item)}" for item in table.wide)]
    return "\n".join(lines).rstrip()


def _entry(item: Checked | None) -> str:
    if item is None:
        return ""
    text = _safe(view.words(item.result))
    if item.result.verdict in view.SILENT:
        return f"**{text}** ❗" if view.shut(item) else text
    worst = max(item.result.outcomes, key=[*Outcome].index, default=Outcome.NOT_RUN)
    return f"{_SIGNS[worst]} **{text}** ❗" if view.shut(item) else f"{_SIGNS[worst]} {text}"


def _known(findings: Findings) -> Iterator[str]:
    by_reason = findings.known
    if by_reason:
        count = sum(map(len, by_reason.values()))
        yield (
            f"<details><summary>Known failures: {count}</summary>\n\n"
            + "\n".join(
                f"- {_safe(reason)}{f' ([why]({link}))' if link else ''}\n"
                + "\n".join(f"  - `{_safe(item.result.cell.id)}` {_safe(view.words(item.result))}" for item in items)
                for (reason, link), items in by_reason.items()
            )
            + "\n\n</details>"
        )


def _safe(text: str) -> str:
    """On one line, and no markup of a rank's becomes the page's."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return _CONTROLS.sub("", text)


def _fenced(text: str) -> str:
    """A block of code that no text in it can end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"\n{fence}\n{_CONTROLS.sub('?', text).rstrip()}\n{fence}\n"
