"""Splits a plan over several machines by how long its cells take, and joins the shards again. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from torchskew.errors import ConfigError, RecordError
from torchskew.model.cells import Cell, Plan
from torchskew.model.ids import CellId
from torchskew.model.runs import Shard
from torchskew.planning.plan import plan_of, predicted_seconds


def parse_shard(text: str) -> tuple[int, int]:
    """`2/5` as (2, 5); ConfigError otherwise."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ConfigError(f"--shard {text!r} must be like 2/5: the second of five.")
    return int(index), int(count)


def split(
    plan: Plan,
    durations: Mapping[CellId, float],
    index: int,
    count: int,
    leans: Mapping[CellId, Sequence[CellId]] | None = None,
) -> tuple[Plan, Shard]:
    """The index-th (from 1) of count parts of about equal length; the same on every machine with equal durations.

    Cells that need each other stay together, so a failed rendezvous still blocks what needs it.
    durations: seconds by cell id, from a record; for a cell that is not there, the prediction counts.
    leans: the cells beside which each cell is judged. They stay together instead, and every part runs what they need.
    """
    together = _together(plan.cells, leans)
    bundles = sorted(_bundles(plan.cells, together), key=lambda bundle: -_seconds(plan, bundle, durations))
    loads, owner = [0.0] * count, {}
    for bundle in bundles:  # the longest first, each to the least loaded machine
        lightest = loads.index(min(loads))
        loads[lightest] += _seconds(plan, bundle, durations)
        owner.update(dict.fromkeys(bundle, lightest))
    wanted = _with_needs(plan.cells, [plan.cells[number].id for number, part in owner.items() if part == index - 1])
    positions = tuple(number for number, cell in enumerate(plan.cells) if cell.id in wanted)
    known = {cell.id: round(durations[cell.id], 3) for cell in plan.cells if cell.id in durations}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    shard = Shard(
        index=index, count=count, whole=plan.digest, cells=len(plan.cells), positions=positions, durations=digest
    )
    return plan_of([plan.cells[number] for number in positions], plan.runtime, plan.seed), shard


def seconds(cell: Cell, durations: Mapping[CellId, float]) -> float:
    """How long a cell takes: as recorded, otherwise as predicted."""
    if cell.id in durations:
        return durations[cell.id]
    return predicted_seconds(cell)


def join(parts: Sequence[tuple[str, Plan, Shard]]) -> Plan:
    """The whole plan from its shards, each with the name of its origin.

    Raises:
        RecordError: shards of another plan, missing or duplicate shards, or cells in no shard; all at once.
    """
    problems = _problems(parts)
    if problems:
        raise RecordError("\n".join(problems))
    cells: dict[int, Cell] = {}
    for _, plan, shard in parts:
        cells.update(zip(shard.positions, plan.cells, strict=True))
    first, shard = parts[0][1], parts[0][2]
    whole = plan_of([cells[number] for number in sorted(cells)], first.runtime, first.seed)
    if len(cells) != shard.cells or whole.digest != shard.whole:
        text = f"the shards hold {len(cells)} of {shard.cells} cells of plan {shard.whole}"
        raise RecordError(f"{text}: they were balanced by different records. Give every shard the same one.")
    return whole


def _problems(parts: Sequence[tuple[str, Plan, Shard]]) -> list[str]:
    if not parts:
        return ["no shard was given. Name the folders that a command with --shard wrote."]
    name, _, first = parts[0]
    problems = []
    for other, _, shard in parts[1:]:
        if (shard.whole, shard.count) != (first.whole, first.count):
            here, there = f"{first.count} of plan {first.whole}", f"{shard.count} of plan {shard.whole}"
            problems.append(f"{other} is a shard of {there}, but {name} is one of {here}: not of one run.")
        elif shard.durations != first.durations:
            problems.append(f"{other} and {name} were balanced by different records. Give every shard the same one.")
    indexes = [shard.index for _, _, shard in parts]
    missing = [str(index) for index in range(1, first.count + 1) if index not in indexes]
    twice = sorted({str(index) for index in indexes if indexes.count(index) > 1})
    if missing:
        problems.append(f"missing shards: {', '.join(missing)} of {first.count}, so nothing is decided.")
    if twice:
        problems.append(f"duplicate shards: {', '.join(twice)} of {first.count}.")
    return problems


def _together(cells: Sequence[Cell], leans: Mapping[CellId, Sequence[CellId]] | None) -> Sequence[Sequence[CellId]]:
    """For each cell, those that belong into the same part."""
    return [cell.needs if leans is None else leans.get(cell.id, ()) for cell in cells]


def _with_needs(cells: Sequence[Cell], ids: Sequence[CellId]) -> set[CellId]:
    """These cells and, directly or through others, what they need."""
    needs = {cell.id: cell.needs for cell in cells}
    wanted, left = set[CellId](), list(ids)
    while left:
        cell_id = left.pop()
        if cell_id not in wanted:
            wanted.add(cell_id)
            left += needs[cell_id]
    return wanted


def _bundles(cells: Sequence[Cell], together: Sequence[Sequence[CellId]]) -> list[tuple[int, ...]]:
    """The positions of cells that belong together, directly or through others."""
    number = {cell.id: index for index, cell in enumerate(cells)}
    root = list(range(len(cells)))

    def root_of(index: int) -> int:
        while root[index] != index:
            index = root[index]
        return index

    for index, others in enumerate(together):
        for other in others:
            root[root_of(index)] = root_of(number[other])
    bundles: dict[int, list[int]] = {}
    for index in range(len(cells)):
        bundles.setdefault(root_of(index), []).append(index)
    return [tuple(bundle) for bundle in bundles.values()]


def _seconds(plan: Plan, bundle: tuple[int, ...], durations: Mapping[CellId, float]) -> float:
    return sum(seconds(plan.cells[number], durations) for number in bundle)
