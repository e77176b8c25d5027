"""loss: some of the packets that reach the node are dropped for a while, and TCP has to send them again."""

from __future__ import annotations

import re

from torchskew.faults.base import INTERFACE, Target, in_network

RULE = ("INPUT", "-i", INTERFACE, "-m", "statistic", "--mode", "random", "--probability", "0.25", "-j", "DROP")
PROBE = ("iptables", "-A", *RULE)
# The kernel hands these over in a few large packets: by chance none of them is dropped once in five transfers.
BYTES, TRANSFERS = 200_000, 8
_DROPPED = re.compile(r"^\s*(\d+)\s+\d+\s+DROP\b", re.MULTILINE)


class Loss:
    """Drops a random quarter of the arriving packets."""

    name = "loss"

    def available(self, runtime: str) -> str | None:
        """Needs a network per node, and iptables with its statistic match."""
        return in_network(runtime, PROBE)

    def inject(self, target: Target) -> None:
        """Add the rule that drops them."""
        target.network(["iptables", "-I", *RULE])

    def observed(self, target: Target, lasts: float) -> str | None:
        """The kernel's count of dropped packets; traffic of our own makes sure that there are some."""
        for _ in range(TRANSFERS):
            target.crossing(BYTES, lasts)
            if dropped := _count(target):
                return f"{dropped} packets were dropped"
        return None

    def heal(self, target: Target) -> None:
        """Remove the rule."""
        target.network(["iptables", "-D", *RULE])

    def healed(self, target: Target, seconds: float) -> str | None:
        """No rule is left, and steps are completed."""
        left = _DROPPED.search(_listed(target))
        steps = target.advances(seconds) if left is None else None
        return f"no rule is left; {steps}" if steps else None


def _listed(target: Target) -> str:
    return target.network(["iptables", "-L", "INPUT", "-v", "-n", "-x"])


def _count(target: Target) -> int:
    match = _DROPPED.search(_listed(target))
    return int(match.group(1)) if match else 0
