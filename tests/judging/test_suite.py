"""A failed assertion of PyTorch's own tests is told with its line, its text and both values."""

from __future__ import annotations

from torchskew.judging.suite import failed_assertions

FAILED = {
    "at": "distributed_test.py:12",
    "line": "self.assertEqual(a, b)",
    "text": "Scalars are not equal!\n\nExpected 1 but got 2.",
    "values": {"x": "2", "y": "1"},
}


def test_the_line_names_place_text_and_values() -> None:
    assert failed_assertions([{"failed": None}, {"failed": FAILED}, None]) == {
        1: "distributed_test.py:12 `self.assertEqual(a, b)`: Scalars are not equal! Expected 1 but got 2.; x = 2; y = 1"
    }


def test_a_long_text_is_cut() -> None:
    (line,) = failed_assertions([{"failed": {**FAILED, "text": "z" * 5000}}]).values()
    assert len(line) < 500
