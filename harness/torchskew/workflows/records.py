"""Opens the record in a folder of results, passes on what the user should know about it, and divides a plan by it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torchskew.model.cells import Plan
from torchskew.model.ids import CellId
from torchskew.model.runs import Shard
from torchskew.planning.shard import parse_shard, split
from torchskew.record.folder import DATABASE
from torchskew.record.record import Record


def part_of(
    plan: Plan, shard: str | None, balance: Path | None, leans: Mapping[CellId, Sequence[CellId]] | None = None
) -> tuple[Plan, Shard | None]:
    """The part of a plan that was asked for, like 2/5; the whole where none was.

    balance: the folder whose durations divide it, which every part is given alike. Never the record in --out: that
    differs from machine to machine, and grows while a part is resumed. leans: as in split().
    """
    if shard is None:
        return plan, None
    index, count = parse_shard(shard)
    durations: Mapping[CellId, float] = {}
    if balance is not None:
        with record_in(balance) as record:
            durations = record.durations()
    return split(plan, durations, index, count, leans)


def record_in(folder: Path, *, create: bool = False) -> Record:
    """The record of a folder; its notes (a newer torchskew wrote it, it can't be written to) go to standard error.

    create: begin one where there is none; otherwise that is a RecordError.
    """
    record = Record.open(folder / DATABASE, create=create)
    for note in record.notes:
        sys.stderr.write(f"note       {note}\n")
    return record
