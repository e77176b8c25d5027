"""slow: the node sends at a fraction of its rate for a while, as over a saturated or half-broken link."""

from __future__ import annotations

from torchskew.faults.base import INTERFACE, Target, in_network

SHAPE = ("root", "tbf", "rate", "512kbit", "burst", "4kb", "latency", "2s")
PROBE = ("tc", "qdisc", "add", "dev", "lo", *SHAPE)
# 96 kB at 512 kbit/s take 1.5 s; unhindered, well under a tenth.
BYTES, SLOWER = 96_000, 0.7


class Slow:
    """Limits the node's sending rate with a token bucket."""

    name = "slow"

    def available(self, runtime: str) -> str | None:
        """Needs a network per node, and tc with tbf."""
        return in_network(runtime, PROBE)

    def inject(self, target: Target) -> None:
        """Limit the rate."""
        target.network(["tc", "qdisc", "add", "dev", INTERFACE, *SHAPE])

    def observed(self, target: Target, lasts: float) -> str | None:
        """A transfer from this node takes as long as the rate allows."""
        took = target.crossing(BYTES, lasts + 10.0, outward=True)
        return f"{BYTES} bytes took {took:.1f} s" if took is not None and took > SLOWER else None

    def heal(self, target: Target) -> None:
        """Remove the limit."""
        target.network(["tc", "qdisc", "del", "dev", INTERFACE, "root"])

    def healed(self, target: Target, seconds: float) -> str | None:
        """The same transfer is fast again, and steps are completed."""
        took = target.crossing(BYTES, seconds, outward=True)
        steps = target.advances(seconds) if took is not None and took < SLOWER else None
        return f"{BYTES} bytes took {took:.2f} s; {steps}" if took is not None and steps else None
