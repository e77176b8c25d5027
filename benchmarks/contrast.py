"""Stock PyTorch and the guard side by side, per assignment of releases, out of recorded runs.

    python -m benchmarks.contrast RUN/results.json … [--scenario rendezvous_tcp]

Prints a table: what each rank came to, rank 0 (the host) first, and the seconds until the last of them knew. A pair
that works in stock PyTorch has to work with the guard; any other has to be CLEAR on every rank: the exit code is 1
where one is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Side:
    """One cell: an outcome per rank, seconds until the last rank knew."""

    outcomes: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        """As a cell of the table."""
        alike = self.outcomes if len(set(self.outcomes)) > 1 else self.outcomes[:1]
        return f"{'/'.join(alike)} {self.seconds:.2f}"


Row = dict[str, Side]


def read(paths: Iterable[Path], scenario: str) -> dict[tuple[str, ...], Row]:
    """The cells of a scenario without variants, by skew and guard; of two runs the later path counts."""
    rows: dict[tuple[str, ...], Row] = {}
    for path in paths:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["scenario"] == scenario and cell["ranks"] and cell["guard"] in ("off", "on"):
                rows.setdefault(tuple(cell["skew"]), {})[cell["guard"]] = side(cell)
    return {skew: rows[skew] for skew in sorted(rows, key=lambda skew: (len(skew), [order(one) for one in skew]))}


def side(cell: dict[str, Any]) -> Side:
    """What a recorded cell came to."""
    ranks = cell["ranks"]
    return Side(tuple(rank["outcome"] for rank in ranks), max(rank["seconds"] or 0.0 for rank in ranks))


def order(name: str) -> list[int]:
    """A release's place among others."""
    return [int(part) if part.isdecimal() else 0 for part in name.split(".")]


def kept(row: Row) -> bool:
    """Whether the guard kept its promise: OK where stock PyTorch is, else CLEAR on every rank."""
    if len(row) < 2:
        return True
    fine = set(row["off"].outcomes) == {"OK"}
    return set(row["on"].outcomes) == ({"OK"} if fine else {"CLEAR"})


def table(rows: dict[tuple[str, ...], Row]) -> str:
    """In Markdown."""
    lines = ["| host, joiners | stock PyTorch, s | with the guard, s |", "|---|---|---|"]
    for skew, row in rows.items():
        off, on = (str(row[name]) if name in row else "not run" for name in ("off", "on"))
        lines.append(f"| {', '.join(skew)} | {off} | {on}{'' if kept(row) else ' (not kept)'} |")
    return "\n".join(lines)


def main() -> int:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--scenario", default="rendezvous_tcp")
    options = parser.parse_args()
    rows = read(options.results, options.scenario)
    print(table(rows))
    both = [row for row in rows.values() if len(row) == 2]
    refused = [row for row in both if set(row["on"].outcomes) == {"CLEAR"}]
    if refused:
        slowest = (max(row[name].seconds for row in refused) for name in ("off", "on"))
        print("\n{} of {} do not mix; the last rank knew after {:.2f} s at most, with the guard after {:.2f} s".format(
            len(refused), len(both), *slowest))  # fmt: skip
    return 0 if both and all(map(kept, both)) else 1


if __name__ == "__main__":
    sys.exit(main())
