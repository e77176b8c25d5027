"""Recorded gates, decided again out of the record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

from torchskew.judging import flakes
from torchskew.judging.blame import against_baseline, judged
from torchskew.model.results import CellResult, Decision
from torchskew.model.runs import Asked, Run, Shard
from torchskew.record.record import Record


def decided_again(record: Record, run: Run, asked: Asked, today: dt.date) -> Decision:
    """A gate's decision from its record, every repetition included; a part of a plan decides nothing here either."""
    results = flakes.fold(
        [{result.cell.id: result for result in each} for each in _repetitions(record, run, asked.repeat)]
    )
    held = against_baseline(run.plan, list(results.values()), run.expectations, asked, today)
    return judged(held, asked, record.mark_of(Shard, run.info.run_id))


def _repetitions(record: Record, run: Run, count: int) -> Iterator[Sequence[CellResult]]:
    yield run.results
    for number in range(1, count):
        results = (record.result(run.info.run_id, cell.id, repeat=number) for cell in run.plan.cells)
        yield [result for result in results if result is not None]
