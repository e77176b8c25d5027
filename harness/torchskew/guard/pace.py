"""How long a rank waits, and from when a sign that the other side has no guard counts as proof."""

from __future__ import annotations

import time
from typing import NamedTuple

# What the guard may add to an init where it only warns, and where it can't use the port that the store will use.
MOST_WARN, MOST_APART = 1.8, 10.0


class Pace(NamedTuple):
    """Instants on the monotonic clock: the deadline for late ranks, and proof, before which no sign is proof.

    settle: the seconds for which a sign must hold. end: when even a message that is on its way is given up. mode:
    "enforce", "warn", "strict" or "bridge". aside: the deadline comes before the init's own timeout, so the stock init
    goes on then and waits for late ranks itself.
    """

    deadline: float
    proof: float
    settle: float
    end: float
    mode: str = "enforce"
    aside: bool = False

    @property
    def greeting(self) -> float:
        """Seconds in which a guard that isn't busy greets."""
        return min(0.5, max(0.1, self.settle))

    @property
    def left(self) -> float:
        """Seconds until the end, never less than a millisecond."""
        return max(0.001, self.end - time.monotonic())

    def proven(self, seen: float) -> float:
        """When a sign that was seen at an instant counts."""
        return max(self.proof, seen + self.settle)

    def aside_now(self) -> int:
        """What a roster that is made now says of it: whether the stock init goes on with what it leaves open."""
        return int(self.mode != "strict" and (self.aside or time.monotonic() < self.deadline))

    @property
    def handover(self) -> float:
        """When to leave the rest of the timeout to the stock init, where something keeps the guard from its work."""
        return self.deadline if self.aside or self.mode == "strict" else self.deadline - 5 * self.settle

    def strays(self, asked: float) -> bool:
        """Whether to look elsewhere too: some are late, and the last look there was a while ago.

        What listens there may be a stranger, so looks are rare.
        """
        return time.monotonic() >= max(self.proof - 4 * self.settle, asked + min(5.0, 5 * self.settle))

    def at_once(self) -> Pace:
        """The pace where a store instead of a guard is no surprise: agents may join a group that has formed."""
        proof = min(self.proof, time.monotonic() + 0.5)
        return self._replace(proof=proof, settle=min(self.settle, 0.1))

    def apart(self, timeout: float) -> Pace:
        """The pace where the hellos can't use the store's port: another port may be blocked, so the wait is short."""
        if self.mode == "strict":
            return self
        deadline = min(self.deadline, time.monotonic() + min(timeout / 2, MOST_APART))
        return self._replace(deadline=deadline, end=min(self.end, deadline + 2.0), aside=True)


def pace(seconds: float, mode: str = "enforce") -> Pace:
    """The pace for a timeout in seconds: signs count after 0.15 of it (10 s at most), or soon where they come later."""
    now, share = time.monotonic(), min(0.15 * seconds, 10.0)
    if mode == "warn":
        share = min(share, 0.4)
        deadline = now + min(seconds, 1.0)
        return Pace(deadline, now + share, share / 5, min(deadline + 0.8, now + MOST_WARN), mode, aside=True)
    return Pace(now + seconds, now + share, share / 5, now + seconds + 2.0, mode)
