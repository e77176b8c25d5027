"""A moment of `python -m tests.bridge.fuzz`."""

from __future__ import annotations

import pytest

from tests.bridge import fuzz


@pytest.mark.slow
def test_mutated_conversations_of_every_era_harm_nobody_and_leave_nothing() -> None:
    assert set(fuzz.run(first=0, rounds=300)) == set(fuzz.OPENINGS)


def test_memory_that_is_counted_and_not_kept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "ENTRY", 101)
    with pytest.raises(AssertionError, match=r"seed 2 .* bytes are counted, .* are kept"):
        fuzz.run(first=0, rounds=3)
