"""The contrast is read out of results, and a guard that did not keep its promise is seen."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import contrast


def cell(skew: str, guard: str, *outcomes: str, scenario: str = "rendezvous_tcp") -> dict:
    ranks = [{"outcome": outcome, "seconds": 0.5 + rank} for rank, outcome in enumerate(outcomes)]
    return {"scenario": scenario, "skew": skew.split(","), "guard": guard, "ranks": ranks}


def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *cells: dict) -> int:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(sys, "argv", ["contrast", str(path)])
    return contrast.main()


MIXES = [cell("2.13.0,2.6.0", "off", "OK", "OK"), cell("2.13.0,2.6.0", "on", "OK", "OK")]
BREAKS = [cell("2.6.0,2.13.0", "off", "TIMEOUT", "OPAQUE"), cell("2.6.0,2.13.0", "on", "CLEAR", "CLEAR")]


def test_stock_and_guarded_ranks_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = cell("2.6.0,2.13.0", "on", "OK", scenario="all_reduce")
    assert shown(tmp_path, monkeypatch, *MIXES, *BREAKS, other) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[2:4] == [
        "| 2.6.0, 2.13.0 | TIMEOUT/OPAQUE 1.50 | CLEAR 1.50 |",
        "| 2.13.0, 2.6.0 | OK 1.50 | OK 1.50 |",
    ]
    assert said[-1].startswith("1 of 2 do not mix")


@pytest.mark.parametrize(
    "cells",
    [
        [BREAKS[0], cell("2.6.0,2.13.0", "on", "CLEAR", "OPAQUE")],
        [MIXES[0], cell("2.13.0,2.6.0", "on", "CLEAR", "CLEAR")],
        [BREAKS[0]],
        [],
    ],
)
def test_a_promise_that_was_not_kept_or_not_tested_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[dict]
) -> None:
    assert shown(tmp_path, monkeypatch, *cells) == 1
