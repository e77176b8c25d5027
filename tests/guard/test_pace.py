"""How long the guard waits before it believes a sign."""

from __future__ import annotations

import time

import pytest
from torchskew.guard.pace import pace


def test_the_other_sides_lack_of_a_guard_is_believed_within_a_quarter_of_the_timeout() -> None:
    for seconds in (0.5, 8.0, 60.0, 1800.0):
        until = pace(seconds)
        began = until.deadline - seconds
        assert 0 < until.proof + until.settle - began <= min(seconds / 4, 12.1)


def test_a_port_other_than_the_stores_is_given_ten_seconds_except_under_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for seconds, most in ((8.0, 4.0), (600.0, 10.0), (1800.0, 10.0)):
        until = pace(seconds).apart(seconds)
        assert (until.deadline, until.end, until.aside) == (1000.0 + most, 1002.0 + most, True)
        assert pace(seconds, "strict").apart(seconds) == pace(seconds, "strict")


def test_warn_ends_within_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for seconds in (0.5, 8.0, 600.0, 1800.0):
        until = pace(seconds, "warn")
        assert max(until.deadline, until.end, until.apart(seconds).end) <= 1002.0
