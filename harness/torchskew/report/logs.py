"""Writes what ranks printed, and the stacks of those that hung, as text files beside the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from torchskew.judging.stacks import rank_first
from torchskew.model.outcomes import Outcome
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult, Decision
from torchskew.model.runs import Printed
from torchskew.report import view
from torchskew.report.findings import Findings

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TAIL_LINES: Final = 32
_TAIL_CHARACTERS: Final = 4000
# Of cells that are as expected, and again of those that are not: nobody opens more, and thousands of small files
# take longer to make than all other reports together.
_FILES: Final = 1000
# Of all tails, counted as _FILES is, so that the page stays small with 10,000 cells.
_TAILS_CHARACTERS: Final = 3_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The end of what a rank printed, and the innermost calls of its stacks, its own thread first."""

    log: str
    stacks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Which ranks have a log file, by cell id and rank: its path relative to the report's folder, and its end."""

    left_out: int = 0  # in the record only
    paths: Mapping[tuple[str, int], str] = field(default_factory=dict)
    tails: Mapping[tuple[str, int], Tail] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the reports of a run show, and where they and the logs are. files: by report, the one to open first."""

    findings: Findings
    files: Mapping[str, Path] = field(default_factory=dict)
    logs: Logs = field(default_factory=Logs)


def write_logs(decision: Decision, printed: Iterable[Printed], again: Rerun, folder: Path) -> Logs:
    """Write `logs/CELL/rankN.txt` for each rank that printed something or was not OK.

    printed: one at a time, not kept; only the ends of logs stay. again: what runs the cells of this run again.
    """
    items = {item.result.cell.id: item for item in decision.checked}
    paths: dict[tuple[str, int], str] = {}
    tails: dict[tuple[str, int], Tail] = {}
    room, files = [_TAILS_CHARACTERS] * 2, [0, 0]
    for output in _all(decision, printed):
        item, at = items.get(output.cell_id), (output.cell_id, output.rank)
        if item is None or output.rank >= len(item.result.ranks):
            continue  # of a run that goes on: its cell ended after the results were read
        urgent = view.shut(item) or item.result.surprising
        files[urgent] += 1
        if files[urgent] <= _FILES:
            paths[at] = view.log_name(item.result.cell, output.rank)
            _write(folder / paths[at], _text(item.result, output, again))
        if room[urgent] > 0:
            tails[at] = Tail(log=_tail(output.log), stacks=_head(rank_first(output.stacks)))
            room[urgent] -= len(tails[at].log) + len(tails[at].stacks)
    return Logs(left_out=sum(files) - len(paths), paths=paths, tails=tails)


def printed_of(results: Iterable[CellResult]) -> Iterator[Printed]:
    """What ranks printed, from results that were loaded with it."""
    for result in results:
        for facts in result.ranks:
            if facts.log or facts.stacks:
                yield Printed(cell_id=result.cell.id, rank=facts.rank, log=facts.log, stacks=facts.stacks)


def _all(decision: Decision, printed: Iterable[Printed]) -> Iterator[Printed]:
    """Those that printed, then the silent ones that were not OK."""
    silent = dict.fromkeys(
        (item.result.cell.id, facts.rank)
        for item in decision.checked
        for facts, outcome in zip(item.result.ranks, item.result.outcomes, strict=False)
        if outcome is not Outcome.OK
    )
    for output in printed:
        silent.pop((output.cell_id, output.rank), None)
        yield output
    yield from (Printed(cell_id=cell_id, rank=rank) for cell_id, rank in silent)


def _write(path: Path, text: str) -> None:
    try:
        file = path.open("w", encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError:
        path.parent.mkdir(parents=True)
        file = path.open("w", encoding="utf-8", errors="backslashreplace")
    with file:
        file.write(text)


def _text(result: CellResult, output: Printed, again: Rerun) -> str:
    """The whole story of one rank, readable without the report."""
    facts = result.ranks[output.rank]
    torch, spent = facts.torch or "unknown", view.seconds(facts.seconds)
    head = [
        f"cell     {result.cell.id}",
        f"rank     {facts.rank} of {result.cell.world_size} · {facts.declared} · torch {torch}",
        f"outcome  {result.outcomes[output.rank]} in phase {facts.phase} after {spent}",
        f"rerun    {again.of_cell(result.cell.id)}",
    ]
    blocks = ["\n".join(head)]
    if facts.error:
        blocks.append(f"error    {facts.error.type}\n{facts.error.text}")
    if output.stacks:
        blocks.append(f"stacks before it was stopped\n{rank_first(output.stacks)}")
    blocks.append(f"log\n{output.log}" if output.log else "log      it printed nothing")
    return "\n\n".join(block.rstrip("\n") for block in blocks) + "\n"


def _tail(text: str) -> str:
    lines = _plain(text[-_TAIL_CHARACTERS:]).splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def _head(text: str) -> str:
    lines = _plain(text[:_TAIL_CHARACTERS]).splitlines()
    return "\n".join(lines[:_TAIL_LINES])


def _plain(text: str) -> str:
    """Without colours. Most ranks print none, and many print nothing."""
    return _COLOURS.sub("", text) if "\x1b" in text else text
