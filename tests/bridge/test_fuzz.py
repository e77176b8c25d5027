"""A moment of `python -m tests.bridge.fuzz`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bridge import fuzz
from tests.conftest import ROOT
from tests.patience import PATIENCE


@pytest.mark.slow
def test_mutated_conversations_of_every_era_harm_nobody_and_leave_nothing() -> None:
    assert set(fuzz.run(first=0, rounds=300)) == set(fuzz.OPENINGS)


def test_memory_that_is_counted_and_not_kept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "ENTRY", 101)
    with pytest.raises(AssertionError, match=r"seed 2 .* bytes are counted, .* are kept"):
        fuzz.run(first=0, rounds=3)


COUNTED = """
from tests.bridge import fuzz

def objects():
    fuzz.run(first=0, rounds=3)  # whatever the first one imports
    counts = []
    for _ in range(3):
        fuzz.run(first=0, rounds=3)
        counts.append(fuzz.alive())
    return counts

clean, kept, end = fuzz.leaks(objects()), [], fuzz.Bridge.close
fuzz.Bridge.close = lambda bridge: (kept.append(bridge.server.store), end(bridge))
print(clean, fuzz.leaks(objects()))
"""


@pytest.mark.slow
def test_what_each_bridge_leaves_alive_is_told() -> None:
    """In a process of its own: here objects of other tests, of pytest and of coverage come and go."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    env = plain | {"PYTHONPATH": f"{ROOT}:{ROOT / 'harness'}"}
    counted = subprocess.run(
        [sys.executable, "-c", COUNTED], cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert counted.stdout == "False True\n"
