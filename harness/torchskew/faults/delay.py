"""delay: what the node sends arrives late for a while, as over a long or congested path."""

from __future__ import annotations

from torchskew.faults.base import INTERFACE, Target, in_network

SHAPE = ("root", "netem", "delay", "200ms")
PROBE = ("tc", "qdisc", "add", "dev", "lo", *SHAPE)
BYTES, LATE = 64, 0.2


class Delay:
    """Delays everything that the node sends by 200 ms."""

    name = "delay"

    def available(self, runtime: str) -> str | None:
        """Needs a network per node, and a kernel with sch_netem."""
        why = in_network(runtime, PROBE)
        return f"{why} (sch_netem)" if why and "kernel" in why else why

    def inject(self, target: Target) -> None:
        """Delay everything."""
        target.network(["tc", "qdisc", "add", "dev", INTERFACE, *SHAPE])

    def observed(self, target: Target, lasts: float) -> str | None:
        """A connection takes at least the delay."""
        took = target.crossing(BYTES, lasts + 10.0)
        return f"{BYTES} bytes took {took:.2f} s" if took is not None and took >= LATE else None

    def heal(self, target: Target) -> None:
        """Remove the delay."""
        target.network(["tc", "qdisc", "del", "dev", INTERFACE, "root"])

    def healed(self, target: Target, seconds: float) -> str | None:
        """A connection is fast again, and steps are completed."""
        took = target.crossing(BYTES, seconds)
        steps = target.advances(seconds) if took is not None and took < LATE else None
        return f"{BYTES} bytes took {took:.3f} s; {steps}" if took is not None and steps else None
