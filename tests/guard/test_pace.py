"""How long the guard waits before it believes a sign."""

from __future__ import annotations

from torchskew.guard.pace import pace


def test_the_other_sides_lack_of_a_guard_is_believed_within_a_quarter_of_the_timeout() -> None:
    for seconds in (0.5, 8.0, 60.0, 1800.0):
        until = pace(seconds)
        began = until.deadline - seconds
        assert 0 < until.proof + until.settle - began <= min(seconds / 4, 12.1)
