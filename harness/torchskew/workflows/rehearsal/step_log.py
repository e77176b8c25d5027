"""Step logs as records: lines of JSON that came out of a rank, decoded without trusting them; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torchskew.workflows.rehearsal.observed import Commit, Line, Loaded, MissingDcp

ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception)\b: ")
NAME = re.compile(r"rank-(\d+)\.jsonl")
# As harness/torchskew/inside/training_job.py writes it.
NO_NUMPY = "no NumPy"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLogs:
    """What the ranks of a generation wrote. junk: lines that could not be decoded."""

    lines: tuple[Line, ...] = ()
    commits: tuple[Commit, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    missing_dcp: tuple[MissingDcp, ...] = ()
    junk: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Junk:
    """A line that could not be decoded, and why."""

    text: str


_Entry: TypeAlias = Line | Commit | Loaded | MissingDcp | _Junk | None


def read(logs: Mapping[str, str], committed: Collection[str]) -> StepLogs:
    """From the logs of a generation by file name; a commit counts only where the checkpoint is on the disk."""
    entries = list(_entries(logs))
    return StepLogs(
        lines=tuple(entry for entry in entries if isinstance(entry, Line)),
        commits=tuple(entry for entry in entries if isinstance(entry, Commit) and entry.name in committed),
        loaded=tuple(entry for entry in entries if isinstance(entry, Loaded)),
        missing_dcp=tuple(entry for entry in entries if isinstance(entry, MissingDcp)),
        junk=tuple(entry.text for entry in entries if isinstance(entry, _Junk)),
    )


def _entries(logs: Mapping[str, str]) -> Iterator[_Entry]:
    for name, text in sorted(logs.items()):
        match = NAME.fullmatch(name)
        rank = int(match.group(1)) if match else -1
        for raw in text.splitlines():
            try:
                yield _entry(json.loads(raw), rank)
            except (ValueError, KeyError, TypeError) as error:
                yield _Junk(f"{name}: {raw[:120]!r}: {error}")


def _entry(fields: Mapping[str, Any], rank: int) -> _Entry:
    """The record of a line; None for an event that the harness does not use."""
    event = fields["event"]
    if event == "step":
        return _line(fields, rank)
    if event == "committed":
        name, step = str(fields["checkpoint"]), int(fields["step"])
        return Commit(name=name, step=step, hash=_hash(fields), at=float(fields.get("at", 0.0)))
    if event == "loaded":
        return Loaded(rank=rank, checkpoint=str(fields["checkpoint"]), hash=_hash(fields))
    if event == "formats" and fields.get("lacks"):
        why = str(fields["lacks"])
        return MissingDcp(rank=rank, why=why, no_numpy=why == NO_NUMPY)
    return None


def _line(fields: Mapping[str, Any], rank: int) -> Line:
    return Line(
        rank=rank,
        step=int(fields["step"]),
        samples=tuple(int(sample) for sample in fields["samples"]),
        loss=number(fields["loss"]),
        at=float(fields.get("at", 0.0)),
        hash=_hash(fields),
        norm=number(fields["norm"]) if fields.get("norm") else None,
    )


def _hash(fields: Mapping[str, Any]) -> str | None:
    return str(fields["hash"]) if fields.get("hash") else None


def number(value: object) -> float:
    """A float as float.hex wrote it, or as JSON has it."""
    if isinstance(value, str):
        return float.fromhex(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"{value!r} is not a number")


def newest(commits: Sequence[Commit]) -> Commit | None:
    """The last checkpoint committed."""
    return max(commits, key=lambda commit: commit.at, default=None)


def core(text: str, most: int = 140) -> str:
    """The line of an error that says what went wrong: the first exception named after a traceback, else its first."""
    rows = [row.strip() for row in text.splitlines() if row.strip()]
    named = [row for row in rows[1:] if ERROR.match(row)]
    head = rows[0] if rows else "no text"
    return (f"{head[:60]} … {named[0]}" if named else head)[:most]
