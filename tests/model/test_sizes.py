"""Bytes as people read them, in one way everywhere."""

from __future__ import annotations

import pytest
from torchskew.model.sizes import readable


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (9_400, "9.4 kB"),
        (94_000, "94 kB"),
        (192_000_000, "192 MB"),
        (812 * 10**6, "812 MB"),
        (3.1e9, "3.1 GB"),
        (5_400_000_000, "5.4 GB"),
        (11.3e9, "11.3 GB"),
        (2e13, "20000 GB"),
    ],
)
def test_sizes_are_read_by_people(count: float, text: str) -> None:
    assert readable(count) == text
