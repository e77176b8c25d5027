"""The page about what works between which releases, out of recorded surveys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torchskew.judging.decide import decide
from torchskew.model.runs import RunKind
from torchskew.model.runtimes import RUNTIMES
from torchskew.record.record import LATEST, Record
from torchskew.report.compatibility import Measured, page
from torchskew.workflows.records import record_in


def by_reach() -> tuple[str, ...]:
    """The runtimes in the page's order: first the one that every machine has."""
    return tuple(reversed(RUNTIMES))


def page_of(out: Path, run_ids: Sequence[str]) -> str:
    """The page of these runs; where none is named, of the newest complete survey of each runtime."""
    with record_in(out) as record:
        chosen = [record.resolve(run_id) for run_id in run_ids] or _newest(record)
        measured = [_measured(record, run_id) for run_id in chosen]
    return page(measured, f"torchskew survey {' '.join(chosen)}")


def _newest(record: Record) -> list[str]:
    """The newest complete survey of each runtime, else the latest run whatever it was."""
    newest: dict[str, str] = {}
    for info in record.runs():
        if info.kind is RunKind.SURVEY and info.finished:
            newest.setdefault(record.load(info.run_id).plan.runtime, info.run_id)
    return [newest[name] for name in by_reach() if name in newest] or [record.resolve(LATEST)]


def _measured(record: Record, run_id: str) -> Measured:
    run = record.load(run_id)
    decision = decide(run.plan, run.results, run.expectations, today=run.info.day)
    return Measured(run=run, decision=decision, origins=record.origins(run_id))
