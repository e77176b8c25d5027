"""Parses a baseline: a file of expectations, which are verdicts declared in advance, each with its reason."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import replace

from torchskew.declaration.fields import Document, Problems, Table, join, parse
from torchskew.model.declared import Expectation
from torchskew.model.outcomes import Outcome, Verdict

EXPECT_FIELDS = ["cells", "verdict", "outcomes", "reason", "link", "until"]
FLAKY_FIELDS = ["cells", "outcomes", "reason", "link", "until"]


def parse_baseline(document: Document, problems: Problems) -> tuple[Expectation, ...]:
    """The expectations of a baseline file, in its order; problems are collected."""
    top = Table(problems, "", parse(document))
    top.unknown(["expect", "flaky"])
    return (
        *(expectation for table in _entries(top, "expect") for expectation in _expectations(table)),
        *(expectation for table in _entries(top, "flaky") for expectation in _flaky(table)),
    )


def _entries(top: Table, name: str) -> Iterator[Table]:
    for index, entry in enumerate(top.get(name, list, []), 1):
        if isinstance(entry, dict):
            yield Table(top.problems, f"{name}[{index}]", entry)
        else:
            top.problems.add(f"{name}[{index}]", f"must be a table, got {entry!r}. Write [[{name}]] above its fields.")


def _flaky(table: Table) -> Iterator[Expectation]:
    """The expectations of an entry about flaky cells, which must have an end."""
    table.unknown(FLAKY_FIELDS)
    if "until" not in table.values:
        table.problems.add(join(table.path, "until"), "is required: a release or a date. A flake is a debt.")
    known = {key: value for key, value in table.values.items() if key in FLAKY_FIELDS}
    for expectation in _expectations(Table(table.problems, table.path, known)):
        yield replace(expectation, verdict=Verdict.PASS, flaky=True)


def _expectations(table: Table) -> Iterator[Expectation]:
    """One expectation for each pattern of the entry, so that each pattern must match something."""
    table.unknown(EXPECT_FIELDS)
    cells, reason = table.texts("cells", ()), table.get("reason", str, "")
    if not cells or not all(cells):
        table.problems.add(join(table.path, "cells"), "must be a pattern over cell ids, or a list of them.")
    if not reason.strip():
        table.problems.add(join(table.path, "reason"), "is required: say why these cells are expected to fail.")
    expectation = Expectation(
        cells="",
        verdict=table.choice("verdict", Verdict, [v.value for v in Verdict if v is not Verdict.UNKNOWN], Verdict.FAIL),
        reason=reason,
        outcomes=table.choices("outcomes", Outcome, Outcome, ()) or None,
        link=table.get("link", str, "") or None,
        until=_until(table),
    )
    yield from (replace(expectation, cells=pattern) for pattern in cells)


def _until(table: Table) -> str | None:
    value = table.values.get("until")
    if value is None:
        return None
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)+|\d{4}-\d\d-\d\d", value):
        return value
    table.problems.add(join(table.path, "until"), f"must be a release like '2.17' or a date, got {value!r}.")
    return None
