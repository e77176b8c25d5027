"""The contract in docs/guard.md names a test for each line, and broken.toml has an edit that turns it red."""

from __future__ import annotations

from tests.conftest import ROOT
from tests.guard.broken import GUARD, contract, edits


def test_each_line_of_the_contract_names_a_test_that_exists() -> None:
    rows = contract()
    assert len(rows) > 20
    for row in rows:
        assert f"def {row.test}(" in (ROOT / "tests" / "guard" / row.file).read_text(encoding="utf-8"), row


def test_each_line_of_the_contract_has_one_edit_that_breaks_it_and_applies() -> None:
    """`python -m tests.guard.broken` runs them."""
    assert list(edits()) == [row.rule for row in contract()]
    for edit in edits().values():
        text = (ROOT / GUARD / edit.file).read_text(encoding="utf-8")
        assert (edit.text in text, text.count(edit.text)) == (True, 1), edit
        compile(text.replace(edit.text, edit.instead), edit.file, "exec")
