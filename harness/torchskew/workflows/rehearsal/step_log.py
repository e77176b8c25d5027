"""Step logs as records: lines of JSON that came out of a rank, decoded without trusting them; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torchskew.workflows.rehearsal.observed import Commit, Line, Loaded, MissingDcp

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


def read(
    logs: Mapping[str, str], committed: Collection[str], versions: Sequence[str], offsets: Sequence[float] = ()
) -> StepLogs:
    """From the logs of a generation by file name; a commit counts only where the checkpoint is on the disk.

    versions: of each rank, so that a checkpoint names the release that committed it. offsets: seconds by which each
    rank's clock is off; times are as a right clock would have had them.
    """
    entries = list(_entries(logs, versions, offsets))
    return StepLogs(
        lines=tuple(entry for entry in entries if isinstance(entry, Line)),
        commits=tuple(entry for entry in entries if isinstance(entry, Commit) and entry.name in committed),
        loaded=tuple(entry for entry in entries if isinstance(entry, Loaded)),
        missing_dcp=tuple(entry for entry in entries if isinstance(entry, MissingDcp)),
        junk=tuple(entry.text for entry in entries if isinstance(entry, _Junk)),
    )


def _entries(logs: Mapping[str, str], versions: Sequence[str], offsets: Sequence[float]) -> Iterator[_Entry]:
    by_rank, off = dict(enumerate(versions)), dict(enumerate(offsets))
    for name, text in sorted(logs.items()):
        match = NAME.fullmatch(name)
        rank = int(match.group(1)) if match else -1
        for raw in text.splitlines():
            try:
                entry = _entry(json.loads(raw), rank, by_rank.get(rank, ""))
                yield replace(entry, at=entry.at - off.get(rank, 0.0)) if isinstance(entry, Line | Commit) else entry
            except (ValueError, KeyError, TypeError) as error:
                yield _Junk(f"{name}: {raw[:120]!r}: {error}")


def _entry(fields: Mapping[str, Any], rank: int, version: str) -> _Entry:
    """The record of a line of a rank of this version; None for an event that the harness does not use."""
    event = fields["event"]
    if event == "step":
        return _line(fields, rank)
    if event == "committed":
        name, step = str(fields["checkpoint"]), int(fields["step"])
        holds = tuple(str(kind) for kind in fields.get("holds", ()))
        at = float(fields.get("at", 0.0))
        return Commit(name=name, step=step, hash=_hash(fields), at=at, by=version, holds=holds)
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
