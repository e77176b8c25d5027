"""Step logs as records: lines of JSON that came out of a rank, read with distrust; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torchskew.workflows.rehearsal.model import Commit, Line, Loaded

ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception)\b: ")
NAME = re.compile(r"rank-(\d+)\.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the ranks of a generation wrote. lacks: rank -> why it can't use DCP; junk: lines not understood."""

    lines: tuple[Line, ...] = ()
    commits: tuple[Commit, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    lacks: Mapping[int, str] = field(default_factory=dict)
    junk: tuple[str, ...] = ()


def read(logs: Mapping[str, str], committed: Collection[str]) -> Told:
    """From the logs of a generation by file name; a commit counts only where the checkpoint is on the disk."""
    lines: list[Line] = []
    commits: list[Commit] = []
    loaded: list[Loaded] = []
    lacks: list[tuple[int, str]] = []
    junk: list[str] = []
    for name, text in sorted(logs.items()):
        found = NAME.fullmatch(name)
        for raw in text.splitlines():
            try:
                told = json.loads(raw)
                rank = int(found.group(1)) if found else -1
                _keep(told, rank, (lines, commits, loaded, lacks))
            except (ValueError, KeyError, TypeError) as error:
                junk.append(f"{name}: {raw[:120]!r}: {error}")
    kept = tuple(one for one in commits if one.name in committed)
    return Told(lines=tuple(lines), commits=kept, loaded=tuple(loaded), lacks=dict(lacks), junk=tuple(junk))


def _keep(told: Mapping[str, Any], rank: int, into: tuple[list[Any], ...]) -> None:
    lines, commits, loaded, lacks = into
    if told["event"] == "step":
        lines.append(_line(told, rank))
    elif told["event"] == "committed":
        name, step = str(told["checkpoint"]), int(told["step"])
        commits.append(Commit(name=name, step=step, hash=told.get("hash"), at=float(told.get("at", 0.0))))
    elif told["event"] == "loaded":
        loaded.append(Loaded(rank=rank, checkpoint=str(told["checkpoint"]), hash=told.get("hash")))
    elif told["event"] == "formats" and told.get("lacks"):
        lacks.append((rank, str(told["lacks"])))


def _line(told: Mapping[str, Any], rank: int) -> Line:
    return Line(
        rank=rank,
        step=int(told["step"]),
        samples=tuple(int(one) for one in told["samples"]),
        loss=number(told["loss"]),
        at=float(told.get("at", 0.0)),
        hash=str(told["hash"]) if told.get("hash") else None,
        norm=number(told["norm"]) if told.get("norm") else None,
    )


def number(value: object) -> float:
    """A float as float.hex wrote it, or as JSON has it."""
    if isinstance(value, str):
        return float.fromhex(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"{value!r} is no number")


def newest(commits: Sequence[Commit]) -> Commit | None:
    """The last checkpoint committed."""
    return max(commits, key=lambda one: one.at, default=None)


def core(text: str, most: int = 140) -> str:
    """The line of an error that says what went wrong: the first exception named after a traceback, else its first."""
    rows = [row.strip() for row in text.splitlines() if row.strip()]
    named = [row for row in rows[1:] if ERROR.match(row)]
    head = rows[0] if rows else "no text"
    return (f"{head[:60]} … {named[0]}" if named else head)[:most]
