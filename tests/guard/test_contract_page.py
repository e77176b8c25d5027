"""The contract in docs/guard.md names a test for each line, and each of them exists."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def test_each_line_of_the_contract_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "guard.md").read_text(encoding="utf-8")
    table = page.partition("## The contract")[2].partition("\n\n|")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("|") and not line.startswith("|-")]
    named = [re.search(r"`(test_\w+\.py)`: `(test_\w+)` \|$", row) for row in rows]
    assert len(rows) > 20
    for row, match in zip(rows, named, strict=True):
        assert match, row
        assert f"def {match[2]}(" in (ROOT / "tests" / "guard" / match[1]).read_text(encoding="utf-8"), row
