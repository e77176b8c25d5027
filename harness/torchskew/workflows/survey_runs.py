"""Which recorded surveys are shown: those that are named, else the newest complete one of each runtime."""

from __future__ import annotations

from collections.abc import Sequence

from torchskew.model.runs import RunKind
from torchskew.model.runtimes import RUNTIMES
from torchskew.record.record import LATEST, Record


def by_reach() -> tuple[str, ...]:
    """The runtimes in the order in which they are shown: first the one that every machine has."""
    return tuple(reversed(RUNTIMES))


def chosen_runs(record: Record, run_ids: Sequence[str]) -> list[str]:
    """These runs; where none is named, the newest complete survey of each runtime."""
    return [record.resolve(run_id) for run_id in run_ids] or _newest(record)


def _newest(record: Record) -> list[str]:
    """The newest complete survey of each runtime, else the latest run whatever it was."""
    newest: dict[str, str] = {}
    for info in record.runs():
        if info.kind is RunKind.SURVEY and info.finished:
            newest.setdefault(record.load(info.run_id).plan.runtime, info.run_id)
    return [newest[name] for name in by_reach() if name in newest] or [record.resolve(LATEST)]
