"""How long a rank waits, and from when a sign that the other side has no guard counts as proof."""

from __future__ import annotations

import time
from typing import NamedTuple


class Pace(NamedTuple):
    """Instants on the monotonic clock: the deadline for late ranks, and proof, before which no sign is proof.

    settle: the seconds for which a sign must hold.
    """

    deadline: float
    proof: float
    settle: float

    @property
    def greeting(self) -> float:
        """Seconds in which a guard that isn't busy greets."""
        return min(0.5, max(0.1, self.settle))

    def proven(self, seen: float) -> float:
        """When a sign that was seen at an instant counts."""
        return max(self.proof, seen + self.settle)

    def strays(self, asked: float) -> bool:
        """Whether to look elsewhere too: some are late, and the last look there was a while ago.

        What listens there may be a stranger, so looks are rare.
        """
        return time.monotonic() >= max(self.proof, asked + 5 * self.settle)


def pace(seconds: float) -> Pace:
    """The pace for a timeout in seconds: signs count after 0.15 of it (10 s at most), or soon where they come later."""
    now, share = time.monotonic(), min(0.15 * seconds, 10.0)
    return Pace(now + seconds, now + share, share / 5)
