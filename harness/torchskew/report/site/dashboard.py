"""Writes the dashboard of recorded runs: runs over time, the history of each cell, what is unstable, slow or broken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchskew.judging.history import CellHistory, Turn
from torchskew.model.outcomes import Json, Outcome, Verdict
from torchskew.model.runs import Past, RunInfo
from torchskew.report import view
from torchskew.report.site.write import rendered

VERDICTS = tuple(Verdict)
OUTCOMES = tuple(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a number of records hold. runs: oldest first. folders: where the records are."""

    folders: tuple[str, ...]
    runs: tuple[RunInfo, ...]
    cells: tuple[CellHistory, ...]


def write_dashboard(recorded: Recorded, path: Path) -> None:
    """Write the page into one file. OSError: it can't be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = rendered("dashboard", ("dashboard",), dashboard_data(recorded))
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def dashboard_data(recorded: Recorded) -> dict[str, Json]:
    """The page's data as one JSON object."""
    numbers = {info.run_id: number for number, info in enumerate(recorded.runs)}
    counts = _counts(recorded)
    return {
        "folders": list(recorded.folders),
        "verdicts": list(VERDICTS),
        "outcomes": [view.SHORT[outcome] for outcome in OUTCOMES],
        "runs": [
            {"id": info.run_id, "kind": info.kind, "at": info.started, "runtime": info.runtime,
             "torchskew": info.torchskew, "command": info.command, "rerun": str(info.rerun.fresh()),
             "counts": list(counts[number])}
            for number, info in enumerate(recorded.runs)
        ],
        "cells": [_cell(history, numbers) for history in recorded.cells],
    }  # fmt: skip


def _counts(recorded: Recorded) -> list[list[int]]:
    """Of each run, how many cells really ran and ended with each verdict."""
    numbers = {info.run_id: number for number, info in enumerate(recorded.runs)}
    counts = [[0] * len(VERDICTS) for _ in recorded.runs]
    for history in recorded.cells:
        for past in history.entries:
            counts[numbers[past.run_id]][VERDICTS.index(past.verdict)] += 1
    return counts


def _cell(history: CellHistory, numbers: dict[str, int]) -> dict[str, Json]:
    keys: dict[str, int] = {}
    fields: dict[str, Json] = {
        "id": history.cell_id,
        "fails": history.failures,
        "judged": history.judged,
        "low": round(history.low, 4),
        "high": round(history.high, 4),
        "seconds": round(history.seconds, 3),
        "drift": None if history.drift is None else round(history.drift, 2),
        "unstable": history.unstable,
        "turn": _turn(history.turn, numbers) if history.turn else None,
        "past": [_past(past, numbers, keys) for past in history.entries],
    }
    return {name: value for name, value in fields.items() if value is not None}


def _turn(turn: Turn, numbers: dict[str, int]) -> dict[str, Json]:
    return {
        "before": numbers[turn.before.run_id],
        "first": numbers[turn.first_bad.run_id],
        "how": _words(turn.first_bad.outcomes),
        "changed": turn.changed,
    }


def _past(past: Past, numbers: dict[str, int], keys: dict[str, int]) -> list[Json]:
    """Run, verdict, seconds, outcomes, and the number of its content among those of the cell."""
    outcomes: list[Json] = [OUTCOMES.index(each) for each in past.outcomes]
    content = keys.setdefault(past.key, len(keys))
    return [numbers[past.run_id], VERDICTS.index(past.verdict), round(past.seconds, 3), outcomes, content]


def _words(outcomes: Sequence[Outcome]) -> str:
    return view.outcome_words(tuple(outcomes))


def in_order(runs: Iterable[RunInfo]) -> tuple[RunInfo, ...]:
    """Oldest first."""
    return tuple(sorted(runs, key=lambda info: (info.started, info.run_id)))
