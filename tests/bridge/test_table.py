"""The tables of docs/bridge.md count what ran and what was inferred, and name what is not right at the bridge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bridge.table import compared, newest, pairs, scenarios, sums, which, wrong


def cell(store: str, skew: str, verdict: str, scenario: str = "ddp", inferred: bool = False) -> dict[str, Any]:
    return {
        "id": f"{scenario}/{skew}/{store}",
        "scenario": scenario,
        "variant": None,
        "store": store,
        "skew": skew.split(","),
        "verdict": verdict,
        "inferred_from": ["other"] if inferred else [],
    }


CELLS = [
    cell("stock", "2.10.0,2.9.1", "BLOCKED"),
    cell("bridge", "2.10.0,2.9.1", "PASS"),
    cell("stock", "2.9.1,2.10.0", "PASS"),
    cell("bridge", "2.9.1,2.10.0", "FAIL"),
    cell("stock", "2.9.1,2.10.0", "PASS", "rpc"),
    cell("bridge", "2.9.1,2.10.0", "UNSUPPORTED", "rpc", inferred=True),
    cell("stock", "2.9.1,2.10.0", "PASS", "rendezvous_file"),  # meets elsewhere: it has no bridge
    cell("stock", "2.9.1,2.10.0", "PASS", "fsdp"),
    cell("bridge", "2.9.1,2.10.0", "UNKNOWN", "fsdp"),  # the machine failed
]


def test_pairs_say_how_many_cases_are_right_at_each_store() -> None:
    assert list(pairs(compared(CELLS))) == [
        "| rank 0 \\ rank 1 | 2.9.1 | 2.10.0 |",
        "|---|---|---|",
        "| 2.9.1 | not run | 2, 0 of 1 |",
        "| 2.10.0 | 0, 1 of 1 | not run |",
    ]


def test_a_case_whose_stock_result_is_not_known_leaves_a_mark() -> None:
    cells = [*CELLS, cell("bridge", "2.10.0,2.9.1", "PASS", "gather")]
    assert list(pairs(compared(cells)))[-1] == "| 2.10.0 | 0+, 2 of 2 | not run |"


def test_scenarios_and_cases_name_what_is_not_right_at_the_bridge() -> None:
    assert list(scenarios(compared(CELLS)))[2:] == [
        "| `ddp` | 1 | 2 | 1 | `ddp` |",
        "| `rpc` | 1 | 0 | 0 |  |",
    ]
    assert list(wrong(compared(CELLS)))[2:] == ["| `ddp` | 1 | 0 | 0 | 1 | 2.9.1 with 2.10.0 |"]


def test_releases_in_a_row_are_named_by_their_ends() -> None:
    names = ("1", "2", "3", "4", "5")
    skews = [(host, joiner) for host in ("1", "2") for joiner in ("3", "4", "5")]
    assert which([*skews, ("5", "1"), ("5", "3")], names) == "1, 2 with 3 to 5; 5 with 1, 3"


def test_what_was_inferred_is_counted_apart() -> None:
    assert list(sums(compared(CELLS)))[1] == (
        "- bridge: 3 cells, 2 of them ran or were blocked, the rest inferred: 1 FAIL, 1 PASS, 1 UNSUPPORTED"
    )


def test_the_newest_result_that_says_something_counts(tmp_path: Path) -> None:
    runs = {
        "20260101-000000-a": [cell("stock", "a,b", "FAIL"), cell("bridge", "a,b", "PASS")],
        "20260102-000000-b": [cell("stock", "a,b", "PASS"), cell("bridge", "a,b", "FAIL", inferred=True)],
        "20260103-000000-c": [cell("stock", "a,b", "UNKNOWN")],
    }
    for run, cells in runs.items():
        (tmp_path / run).mkdir()
        (tmp_path / run / "results.json").write_text(json.dumps({"cells": cells}))
    assert [each["verdict"] for each in newest(tmp_path)] == ["PASS", "PASS"]
