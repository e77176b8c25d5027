"""Columns are as wide as their widest entry, whatever its colour."""

from __future__ import annotations

from torchskew.judging.flakes import Rate
from torchskew.report.columns import aligned, width
from torchskew.report.flakes import render

RED = "\x1b[1;31mFAIL\x1b[0m"


def test_columns_are_as_wide_as_their_widest_entry() -> None:
    assert aligned([("a", "bb", "c"), ("aaa", "b", "ccc")]) == ["a    bb  c", "aaa  b   ccc"]


def test_figures_end_in_line() -> None:
    assert aligned([("rate", "x"), ("9", "y")], right={0}) == ["rate  x", "   9  y"]


def test_colours_take_no_room() -> None:
    assert width(RED) == 4
    assert aligned([(RED, "x"), ("PASSED", "y")]) == [f"{RED}    x", "PASSED  y"]


def test_a_row_may_be_short_and_there_may_be_none() -> None:
    assert aligned([("a",), ("b", "c")], gap=" | ") == ["a", "b | c"]
    assert aligned([]) == []


def test_each_flake_has_a_line_with_its_rate_and_interval() -> None:
    few = Rate(
        cell_id="s/a,b/guard-off/venv",
        failures=1,
        runs=3,
        low=0.0615,
        high=0.7923,
        last_failure="2026-11-20T10:00:00+00:00",
    )
    many = Rate(cell_id="t/a,b/guard-off/venv", failures=20, runs=400, low=0.0325, high=0.0759, last_failure=None)
    assert render([few, many]).splitlines() == [
        "    fails   rate  95 % interval  last failure         cell",
        "   1 of 3  33.3%  6.2% to 79.2%  2026-11-20T10:00:00  s/a,b/guard-off/venv",
        "20 of 400   5.0%   3.2% to 7.6%                       t/a,b/guard-off/venv",
    ]


def test_no_flake_is_said_in_words() -> None:
    assert render([]) == "no cell has shown both a pass and a failure"
