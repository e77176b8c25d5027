"""`python -m tests.bridge.table RESULTS.JSON`: the tables of docs/bridge.md, from a run of
`torchskew matrix --store stock bridge`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Cells = list[dict[str, Any]]


def compared(cells: Cells) -> Cells:
    """The cells of the cases that ran at both stores."""
    bridged = {(cell["scenario"], cell["variant"], *cell["skew"]) for cell in cells if cell["store"] == "bridge"}
    return [cell for cell in cells if (cell["scenario"], cell["variant"], *cell["skew"]) in bridged]


def right(cells: Cells, store: str, skew: Sequence[str]) -> str:
    """How many cases of a skew are right at a store."""
    return str(sum(cell["verdict"] == "PASS" for cell in cells if cell["store"] == store and cell["skew"] == skew))


def pairs(cells: Cells) -> Iterable[str]:
    """Hosts in rows, joiners in columns: cases right with the stock store, right at the bridge, and supported."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["skew"]))
    names.sort(key=lambda name: [int(part) for part in name.split(".")])
    yield f"| rank 0 \\ rank 1 | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for host in names:
        row = []
        for joiner in names:
            skew = [host, joiner]
            ran = [cell for cell in cells if cell["store"] == "bridge" and cell["skew"] == skew]
            able = sum(cell["verdict"] != "UNSUPPORTED" for cell in ran)
            row.append(f"{right(cells, 'stock', skew)}, {right(cells, 'bridge', skew)} of {able}")
        yield f"| {host} | {' | '.join(row)} |"


def wrong(cells: Cells) -> Iterable[str]:
    """The cases that are not right at the bridge: in how many pairs, and what the stock store gave in these."""
    yield "| case | pairs not right at the bridge | stock store: not right either | no group | right |"
    yield "|---|---|---|---|---|"
    stock = {(cell["scenario"], cell["variant"], *cell["skew"]): cell["verdict"] for cell in cells if at_stock(cell)}
    rows: dict[str, list[str]] = {}
    for cell in cells:
        if not at_stock(cell) and cell["verdict"] not in ("PASS", "UNSUPPORTED"):
            name = ".".join(filter(None, (cell["scenario"], cell["variant"])))
            rows.setdefault(name, []).append(stock[(cell["scenario"], cell["variant"], *cell["skew"])])
    for name, verdicts in rows.items():
        counts = (verdicts.count(verdict) for verdict in ("FAIL", "BLOCKED", "PASS"))
        yield f"| `{name}` | {len(verdicts)} | {' | '.join(map(str, counts))} |"


def at_stock(cell: dict[str, Any]) -> bool:
    """Whether rank 0 hosted the store."""
    return bool(cell["store"] == "stock")


def main(path: str) -> None:
    """Print both tables, and the sums of each store."""
    cells = compared(json.loads(Path(path).read_text(encoding="utf-8"))["cells"])
    for line in (*pairs(cells), "", *wrong(cells), ""):
        sys.stdout.write(f"{line}\n")
    for store in ("stock", "bridge"):
        verdicts = [cell["verdict"] for cell in cells if cell["store"] == store]
        sums = ", ".join(f"{verdicts.count(each)} {each}" for each in dict.fromkeys(sorted(verdicts)))
        sys.stdout.write(f"{store}: {len(verdicts)} cells, {sums}\n")


if __name__ == "__main__":
    main(sys.argv[1])
