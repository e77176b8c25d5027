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


@pytest.mark.slow
def test_what_each_bridge_leaves_alive_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def objects() -> list[int]:
        fuzz.run(first=0, rounds=3)  # whatever the first one imports
        counts = []
        for _ in range(3):
            fuzz.run(first=0, rounds=3)
            counts.append(fuzz.alive())
        return counts

    assert not fuzz.leaks(objects())
    kept: list[object] = []
    end = fuzz.Bridge.close
    monkeypatch.setattr(fuzz.Bridge, "close", lambda bridge: (kept.append(bridge.server.store), end(bridge)))
    assert fuzz.leaks(objects())
