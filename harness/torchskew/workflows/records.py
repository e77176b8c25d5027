"""Opens the record in a folder of results, and passes on what the user should know about it."""

from __future__ import annotations

import sys
from pathlib import Path

from torchskew.record.folder import DATABASE
from torchskew.record.record import Record


def record_in(folder: Path, *, create: bool = False) -> Record:
    """The record of a folder; its notes (a newer torchskew wrote it, it can't be written to) go to standard error.

    create: begin one where there is none; otherwise that is a RecordError.
    """
    record = Record.open(folder / DATABASE, create=create)
    for note in record.notes:
        sys.stderr.write(f"note       {note}\n")
    return record
