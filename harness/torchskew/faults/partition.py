"""partition: every packet to and from the node is dropped for a while, as by a broken switch."""

from __future__ import annotations

from torchskew.faults.base import INTERFACE, Target, in_network

RULES = (("INPUT", "-i"), ("OUTPUT", "-o"))
PROBE = ("iptables", "-A", "INPUT", "-i", INTERFACE, "-j", "DROP")
# TCP sends a dropped packet again after 0.2 s, 0.4 s, …, so the first to pass may be that much late.
BYTES = 64


class Partition:
    """Drops packets in both directions; connections stay open, as in a real partition."""

    name = "partition"

    def available(self, runtime: str) -> str | None:
        """Needs a network per node, and iptables."""
        return in_network(runtime, PROBE)

    def inject(self, target: Target) -> None:
        """Add the rules that drop everything."""
        for chain, way in RULES:
            target.network(["iptables", "-I", chain, way, INTERFACE, "-j", "DROP"])

    def observed(self, target: Target, lasts: float) -> str | None:
        """Nothing arrives from another node, and the job makes no progress."""
        if target.crossing(BYTES, lasts / 2) is not None:
            return None
        still = target.stalls(lasts / 2)
        return f"no byte from another node arrived in {lasts / 2:.1f} s; {still}" if still else None

    def heal(self, target: Target) -> None:
        """Remove the rules."""
        for chain, way in RULES:
            target.network(["iptables", "-D", chain, way, INTERFACE, "-j", "DROP"])

    def healed(self, target: Target, seconds: float) -> str | None:
        """Bytes arrive and steps are completed."""
        took = target.crossing(BYTES, seconds)
        steps = target.advances(seconds) if took is not None else None
        return f"bytes arrive in {took:.3f} s; {steps}" if took is not None and steps else None
