"""Writes report.html: one self-contained page that draws its heat maps from the data it carries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torchskew.model.facts import RankFacts
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Json, Outcome, Placement, Store, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import Checked, Decision, Status
from torchskew.model.runs import Run
from torchskew.report import view
from torchskew.report.embedded import Texts, outcome_legend, script_json
from torchskew.report.failures import FailureGroup
from torchskew.report.findings import Findings
from torchskew.report.logs import Logs, Written
from torchskew.report.tables import CellTable, environments
from torchskew.report.text import accounting

_TEMPLATE: Final = "template.html"
_LISTED: Final = 200  # failures that the page itself lists, without JavaScript
_CODE: Final = {outcome: index for index, outcome in enumerate(Outcome)}
_SHARES: Final = (
    ("pass", "pass"),
    ("known", "known failures"),
    ("bad", "not as expected"),
    ("unknown", "unknown"),
    ("unsupported", "unsupported"),
    ("blocked", "blocked"),
)


def write_html(run: Run, decision: Decision, written: Written, path: Path) -> None:
    """Fill the template; the data flows into the file piece by piece, so 10,000 cells need little memory."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    findings, again = written.findings, run.info.rerun
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.get_template(_TEMPLATE).stream(
        info=run.info,
        environments=environments(run),
        decision=decision,
        accounting=accounting(findings.counts),
        shares=_shares(decision),
        unexpected=len(findings.unexpected),
        causes=[_cause(group, again) for group in findings.failures],
        failures=[_failure(item, written.logs, again) for item in findings.unexpected[:_LISTED]],
        surprises=len(findings.surprises),
        data=_data(run, decision, written),
    )
    page.enable_buffering(64)
    page.dump(str(path), encoding="utf-8", errors="backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class _RankLine:
    """One rank of a listed failure, in words; log: its file from the page on."""

    facts: str
    error: str
    log: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """A cell that is not as expected, as the page lists it without JavaScript."""

    cell: CellId
    status: str
    expected: str
    verdict: str
    reason: str
    rerun: str
    ranks: tuple[_RankLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cause:
    """A group of failures that are one thing; cause and now are empty where no known break explains them."""

    title: str
    count: int
    where: str
    cause: str
    now: str
    rerun: str


def _cause(group: FailureGroup, again: Rerun) -> _Cause:
    return _Cause(
        title=group.title,
        count=len(group.items),
        where=group.pairs,
        cause=group.entry.cause if group.entry else "",
        now=group.entry.remedy.now if group.entry else "",
        rerun=str(group.rerun(again)),
    )


def _failure(item: Checked, logs: Logs, again: Rerun) -> _Failure:
    result = item.result
    ranks = zip(result.ranks, result.outcomes, strict=False)
    return _Failure(
        cell=result.cell.id,
        status=item.status.replace("-", " "),
        expected=view.expected_words(item),
        verdict=f"{result.verdict} ({view.words(result)})",
        reason=result.reason,
        rerun=str(again.of_cell(result.cell.id)),
        ranks=tuple(
            _rank_line(facts, outcome, logs.paths.get((result.cell.id, facts.rank))) for facts, outcome in ranks
        ),
    )


def _rank_line(facts: RankFacts, outcome: Outcome, log: str | None) -> _RankLine:
    end = facts.signal or ("" if facts.exit is None else f"exit {facts.exit}")
    parts = [f"rank {facts.rank} {facts.declared}: {outcome} in {facts.phase} after {view.seconds(facts.seconds)}", end]
    error = (
        f"{facts.error.type}: {facts.error.headline}"
        if facts.error
        else facts.machine or facts.prevented or facts.unsupported or ""
    )
    return _RankLine(facts=" · ".join(part for part in parts if part), error=error, log=log)


def share(item: Checked) -> str:
    """Which part of the whole a cell belongs to; every cell to exactly one."""
    if item.result.verdict is Verdict.UNKNOWN:
        return "unknown"
    if view.shut(item):
        return "bad"
    apart = item.status in (Status.KNOWN_FLAKY, Status.NOT_JUDGED) and item.result.verdict is Verdict.FAIL
    if apart or item.status is Status.KNOWN_FAILURE:
        return "known"
    by_verdict = {Verdict.BLOCKED: "blocked", Verdict.UNSUPPORTED: "unsupported"}
    return by_verdict.get(item.result.verdict, "pass")


def _shares(decision: Decision) -> list[tuple[str, str, int]]:
    shares = [share(item) for item in decision.checked]
    return [(name, title, shares.count(name)) for name, title in _SHARES]


def _data(run: Run, decision: Decision, written: Written) -> Iterator[str]:
    """The page's data as pieces of one JSON object."""
    texts, numbers = Texts(), {item.result.cell.id: n for n, item in enumerate(decision.checked)}
    yield '{"cells":['
    for index, item in enumerate(decision.checked):
        yield ("," if index else "") + script_json(_cell(item, written.logs, texts, numbers))
    yield '],"tables":['
    for index, table in enumerate(written.findings.tables):
        yield ("," if index else "") + script_json(_table(table, numbers))
    yield f'],"rerun":{script_json([*run.info.rerun.argv])}'
    for name, value in _lists(decision, written.findings, numbers).items():
        yield f',"{name}":{script_json(value)}'
    yield f',"texts":{script_json([*texts.known])}}}'


def _lists(decision: Decision, findings: Findings, numbers: dict[CellId, int]) -> dict[str, Json]:
    known: list[Json] = [
        {"reason": reason, "link": link, "cells": [numbers[item.result.cell.id] for item in items]}
        for (reason, link), items in findings.known.items()
    ]
    return {
        "outcomes": outcome_legend(),
        "unexpected": [numbers[item.result.cell.id] for item in findings.unexpected],
        "surprises": [numbers[item.result.cell.id] for item in findings.surprises],
        "known": known,
        "problems": [*decision.problems],
    }


def _table(table: CellTable, numbers: dict[CellId, int]) -> dict[str, Json]:
    """Cells by number, -1 where nothing was planned."""
    at = {place: numbers[item.result.cell.id] for place, item in table.grid.items()}
    return {
        "scenario": table.scenario,
        "condition": table.condition,
        "corner": table.corner,
        "rows": [*table.rows],
        "columns": [*table.columns],
        "grid": [[at.get((row, column), -1) for column in table.columns] for row in table.rows],
        "wide": [numbers[item.result.cell.id] for item in table.wide],
    }


def _cell(item: Checked, logs: Logs, texts: Texts, numbers: dict[CellId, int]) -> dict[str, Json]:
    """What the page needs of a cell; what is empty is left out."""
    result, entry = item.result, item.expectation
    cell = result.cell
    silent = result.verdict in view.SILENT
    fields: dict[str, Json] = {
        "id": cell.id,
        "scenario": cell.name,
        "skew": [texts(name) for name in cell.skew],
        "guard": texts(cell.guard),
        "store": texts("" if cell.store is Store.STOCK else cell.store),
        "placement": texts("" if cell.placement is Placement.TOGETHER else cell.placement),
        "word": texts(view.words(result)),
        "silent": silent,
        "outcomes": [_CODE[outcome] for outcome in result.outcomes],
        "predicted": [_CODE[outcome] for outcome in cell.predicted],
        "verdict": texts(result.verdict),
        "status": texts(item.status),
        "share": texts(share(item)),
        "shut": view.shut(item),
        "surprise": result.surprising,
        "reason": texts(result.reason),
        "timeout": cell.timeout,
        "seconds": round(result.seconds, 3),
        "cached": result.cached,
        "blocked": numbers.get(result.blocked_by, -1) + 1 if result.blocked_by else 0,
        "expected": texts(view.expected_words(item)),
        "why": texts(entry.reason if entry else ""),
        "link": texts(entry.link if entry else ""),
        "faults": [f"attempt {tried.number}: {tried.fault}" for tried in result.attempts if tried.fault],
        "skipped": dict(result.skipped),
        "ranks": [_rank(item, facts, logs, texts) for facts in result.ranks],
    }
    return {name: value for name, value in fields.items() if value}


def _rank(item: Checked, facts: RankFacts, logs: Logs, texts: Texts) -> dict[str, Json]:
    at = (item.result.cell.id, facts.rank)
    tail = logs.tails.get(at)
    end = facts.signal or ("" if facts.exit is None else f"exit {facts.exit}")
    phases: dict[str, Json] = {name: round(value, 3) for name, value in facts.phases.items()}
    fields: dict[str, Json] = {
        "torch": texts(facts.torch),
        "git": texts((facts.git_version or "")[:12]),
        "python": texts(facts.python),
        "numpy": texts(facts.numpy),
        "host": texts(facts.host),
        "phase": texts(facts.phase),
        "seconds": round(facts.seconds, 3),
        "phases": phases,
        "end": texts(end),
        "killed": facts.killed,
        "type": texts(facts.error.type if facts.error else ""),
        "text": texts(facts.error.text if facts.error else ""),
        "said": texts(facts.unsupported or facts.prevented or facts.machine),
        "path": logs.paths.get(at),
        "log": texts(tail.log if tail else ""),
        "stacks": texts(tail.stacks if tail else ""),
    }
    return {name: value for name, value in fields.items() if value}
