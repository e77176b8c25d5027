"""Lays the cells of a run out as tables, one for each scenario and condition, in the plan's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torchskew.model.cells import Cell
from torchskew.model.outcomes import Kind, Placement, Store
from torchskew.model.results import Checked, Decision
from torchskew.model.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTable:
    """The cells of one scenario under one condition. grid: (row, column) -> cell; wide: those of other shapes."""

    title: str
    scenario: str
    condition: str
    corner: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    grid: Mapping[tuple[str, str], Checked]
    wide: tuple[Checked, ...]


def tables(run: Run, decision: Decision) -> tuple[CellTable, ...]:
    """One table per scenario and condition, in the plan's order; tables of one scenario are neighbours."""
    groups: dict[tuple[str, str], list[Checked]] = {}
    uniform = _uniform(decision)
    for item in decision.checked:
        cell = item.result.cell
        name = cell.scenario if cell.scenario in uniform else cell.name
        groups.setdefault((name, _condition(cell)), []).append(item)
    order = {name: index for index, name in enumerate(versions(run))}
    names = list(dict.fromkeys(name for name, _ in groups))
    ranked = sorted(groups.items(), key=lambda group: names.index(group[0][0]))
    return tuple(_table(key, items, order, uniform) for key, items in ranked)


def _condition(cell: Cell) -> str:
    bridged = "" if cell.store is Store.STOCK else f" · store {cell.store}"
    spread = "" if cell.placement is Placement.TOGETHER else f" · ranks {cell.placement}"
    return f"guard {cell.guard}{bridged}{spread}" + (f" · fault {cell.fault}" if cell.fault else "")


def _uniform(decision: Decision) -> frozenset[str]:
    """Scenarios that never mix versions: their rows are variants, not hosts."""
    mixed = {item.result.cell.scenario for item in decision.checked if _mixes(item.result.cell)}
    return frozenset(item.result.cell.scenario for item in decision.checked) - mixed


def _mixes(cell: Cell) -> bool:
    return len(set(cell.skew)) > 1 or (len(cell.skew) > 1 and cell.variant is None)


def versions(run: Run) -> tuple[str, ...]:
    """The versions in the order in which the plan names them, whatever came from the cache and was made when."""
    return tuple(dict.fromkeys(name for cell in run.plan.cells for name in cell.skew))


def environments(run: Run) -> Mapping[str, str]:
    """The identity of each environment that could be made, in the plan's order of versions."""
    identities = run.info.environments
    return {name: identities[name] for name in (*versions(run), *identities) if name in identities}


def _table(key: tuple[str, str], items: list[Checked], order: Mapping[str, int], uniform: frozenset[str]) -> CellTable:
    name, condition = key
    grid: dict[tuple[str, str], Checked] = {}
    wide = []
    for item in items:
        at = _place(item.result.cell, uniform)
        if at is None or at in grid:
            wide.append(item)
        else:
            grid[at] = item
    return CellTable(
        title=f"{name} · {condition}",
        scenario=name,
        condition=condition,
        corner=_corner(items[0].result.cell, uniform),
        rows=_sorted((row for row, _ in grid), order),
        columns=_sorted((column for _, column in grid), order),
        grid=grid,
        wide=tuple(wide),
    )


def _place(cell: Cell, uniform: frozenset[str]) -> tuple[str, str] | None:
    """Row and column of a cell; None for a world that two axes can't show."""
    if cell.scenario in uniform:
        return (cell.variant.name if cell.variant else "alone"), cell.skew[0]
    return (cell.skew[0], cell.skew[1]) if len(cell.skew) == 2 else None


def _corner(cell: Cell, uniform: frozenset[str]) -> str:
    if cell.scenario in uniform:
        return "variant" if cell.variant else ""
    return "writer \\ reader" if cell.kind is Kind.HANDOVER else "host \\ joiner"


def _sorted(names: Iterable[str], order: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(names), key=lambda name: order.get(name, -1)))
