"""`python -m tests.bridge.table OUT [--write docs/bridge.md]`: the tables of docs/bridge.md, from the runs of
`torchskew matrix -f docs/bridge.toml` whose results.json are below OUT. Of each cell the newest result counts, so that
the releases may be measured in parts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version as Release

BEGIN, END = "<!-- tests.bridge.table: begin -->", "<!-- tests.bridge.table: end -->"

Cell = dict[str, Any]
Cells = list[Cell]
Case = tuple[str, tuple[str, ...]]  # the scenario with its variant, and the releases by rank


def newest(out: Path) -> Cells:
    """The newest result of every cell of all runs below a folder; what ran counts before what was inferred."""
    found: dict[str, Cell] = {}
    for path in sorted(out.glob("*/results.json")):  # a run's folder begins with its time
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            before = found.get(cell["id"])
            if before is None or weight(cell) >= weight(before):
                found[cell["id"]] = cell
    return list(found.values())


def weight(cell: Cell) -> int:
    """How much a result says: nothing where the machine failed, and less where it was inferred."""
    return 0 if cell["verdict"] == "UNKNOWN" else 1 if cell["inferred_from"] else 2


def case(cell: Cell) -> Case:
    """What ran with which releases, wherever it met."""
    return name(cell), tuple(cell["skew"])


def name(cell: Cell) -> str:
    """The scenario with its variant."""
    return ".".join(filter(None, (cell["scenario"], cell["variant"])))


def compared(cells: Cells) -> Cells:
    """The cells of cases that have a result at the bridge, and what the stock store gave; the machine's failures are
    none."""
    known = [cell for cell in cells if weight(cell) and len(cell["skew"]) == 2]
    bridged = {case(cell) for cell in known if not at_stock(cell)}
    return [cell for cell in known if case(cell) in bridged]


def right(cells: Iterable[Cell], store: str) -> int:
    """How many of these are right at a store."""
    return sum(cell["verdict"] == "PASS" for cell in cells if cell["store"] == store)


def able(cells: Iterable[Cell]) -> int:
    """How many of the cases both releases support."""
    return sum(cell["verdict"] != "UNSUPPORTED" for cell in cells if not at_stock(cell))


def pairs(cells: Cells) -> Iterator[str]:
    """Hosts in rows, joiners in columns: cases right with the stock store, right at the bridge, and supported."""
    names = sorted({each for cell in cells for each in cell["skew"]}, key=Release)
    by_skew: dict[tuple[str, ...], Cells] = {}
    for cell in cells:
        by_skew.setdefault(tuple(cell["skew"]), []).append(cell)
    yield f"| rank 0 \\ rank 1 | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for host in names:
        entries = (_entry(by_skew.get((host, joiner), [])) for joiner in names)
        yield f"| {host} | {' | '.join(entries)} |"


def _entry(cells: Cells) -> str:
    return f"{_stock(cells)}, {right(cells, 'bridge')} of {able(cells)}" if cells else "not run"


def _stock(cells: Cells) -> str:
    """How many are right with the stock store; with a + where that of some case is not known."""
    unknown = sum(not at_stock(cell) for cell in cells) > sum(map(at_stock, cells))
    return f"{right(cells, 'stock')}{'+' if unknown else ''}"


def scenarios(cells: Cells) -> Iterator[str]:
    """Every scenario: in how many ordered pairs all its cases are right at the bridge, and what is not right."""
    yield "| scenario | cases | pairs | all right at the bridge | not right at the bridge |"
    yield "|---|--:|--:|--:|---|"
    by_name: dict[str, Cells] = {}
    for cell in cells:
        if not at_stock(cell):
            by_name.setdefault(cell["scenario"], []).append(cell)
    for scenario, own in sorted(by_name.items()):
        skews: dict[tuple[str, ...], Cells] = {}
        for cell in own:
            skews.setdefault(tuple(cell["skew"]), []).append(cell)
        running = [each for each in skews.values() if able(each)]
        good = sum(not any(map(broken, each)) for each in running)
        failing = ", ".join(f"`{each}`" for each in sorted({name(cell) for cell in own if broken(cell)}))
        yield f"| `{scenario}` | {len({name(cell) for cell in own})} | {len(running)} | {good} | {failing} |"


def wrong(cells: Cells) -> Iterator[str]:
    """The cases that are not right at the bridge: in how many pairs, what the stock store gave, and which pairs."""
    yield "| case | pairs not right at the bridge | stock store: not right either | no group | right | which pairs |"
    yield "|---|--:|--:|--:|--:|---|"
    names = sorted({each for cell in cells for each in cell["skew"]}, key=Release)
    stock = {case(cell): cell["verdict"] for cell in cells if at_stock(cell)}
    rows: dict[str, Cells] = {}
    for cell in filter(broken, cells):
        rows.setdefault(name(cell), []).append(cell)
    for each, failing in sorted(rows.items()):
        verdicts = [stock.get(case(cell)) for cell in failing]
        counts = " | ".join(str(verdicts.count(verdict)) for verdict in ("FAIL", "BLOCKED", "PASS"))
        skews = sorted({tuple(cell["skew"]) for cell in failing}, key=lambda skew: [*map(Release, skew)])
        yield f"| `{each}` | {len(failing)} | {counts} | {which(skews, names)} |"


def which(skews: Sequence[tuple[str, ...]], names: Sequence[str]) -> str:
    """Ordered pairs by host; three and more releases in a row are named by the first and the last of them."""
    hosts: dict[tuple[str, ...], list[str]] = {}
    for host in dict.fromkeys(skew[0] for skew in skews):
        joiners = tuple(skew[1] for skew in skews if skew[0] == host)
        hosts.setdefault(joiners, []).append(host)
    return "; ".join(f"{_row(those, names)} with {_row(joiners, names)}" for joiners, those in hosts.items())


def _row(some: Sequence[str], names: Sequence[str]) -> str:
    runs: list[list[str]] = []
    for each in some:
        follows = runs and names.index(each) == names.index(runs[-1][-1]) + 1
        runs[-1].append(each) if follows else runs.append([each])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def broken(cell: Cell) -> bool:
    """Whether a case ran at the bridge and was not right."""
    return not at_stock(cell) and cell["verdict"] not in ("PASS", "UNSUPPORTED")


def at_stock(cell: Cell) -> bool:
    """Whether rank 0 hosted the store."""
    return bool(cell["store"] == "stock")


def sums(cells: Cells) -> Iterator[str]:
    """The verdicts of each store in one line."""
    for store in ("stock", "bridge"):
        verdicts = [cell["verdict"] for cell in cells if cell["store"] == store]
        counts = ", ".join(f"{verdicts.count(each)} {each}" for each in sorted(set(verdicts)))
        ran = sum(cell["store"] == store and not cell["inferred_from"] for cell in cells)
        yield f"- {store}: {len(verdicts)} cells, {ran} of them ran or were blocked, the rest inferred: {counts}"


def tables(cells: Cells) -> str:
    """All of them as markdown."""
    lines = (*pairs(cells), "", *sums(cells), "", *scenarios(cells), "", *wrong(cells))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the tables, or put them between the two marks of a page."""
    parser = argparse.ArgumentParser(prog="tests.bridge.table")
    parser.add_argument("out", type=Path)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    args = parser.parse_args()
    text = tables(compared(newest(args.out)))
    if args.write is None:
        sys.stdout.write(text)
        return
    before, _, rest = args.write.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{args.write} has no marks {BEGIN} and {END}")
    args.write.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
