"""What a fault promises, and what it may do to its target, one node of a running job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torchskew.model.runtimes import RUNTIMES
from torchskew.runtimes.docker import netns

# The interface a container has on the network of its run.
INTERFACE = "eth0"


class Target(Protocol):
    """A node whose rank trains together with the others."""

    def signal(self, name: str) -> None:
        """Send KILL, STOP or CONT to the node's rank."""

    def ended(self, seconds: float) -> str | None:
        """How the node's rank ended; None when it still runs after that time."""

    def stalls(self, seconds: float) -> str | None:
        """A sentence saying that no training step was completed for that time; None when one was."""

    def advances(self, seconds: float) -> str | None:
        """A sentence saying that training steps are completed again within that time; None when none was."""

    def restart(self) -> None:
        """Start the job again from its last checkpoint."""

    def network(self, command: Sequence[str]) -> str:
        """Run a command in the node's network; MachineError when it fails."""

    def crossing(self, size: int, seconds: float, *, outward: bool = False) -> float | None:
        """Seconds that `size` bytes take to this node, or from it; None when they don't arrive in time."""


class Fault(Protocol):
    """One kind of fault. The order of calls: inject, observed, heal, healed."""

    name: str

    def available(self, runtime: str) -> str | None:
        """None when it can be injected here, else the reason."""

    def inject(self, target: Target) -> None:
        """Inject it."""

    def observed(self, target: Target, lasts: float) -> str | None:
        """The evidence that it happened, watched for `lasts` seconds; None without any."""

    def heal(self, target: Target) -> None:
        """Undo it."""

    def healed(self, target: Target, seconds: float) -> str | None:
        """The evidence that it is undone; None without any within that time."""


def in_network(runtime: str, command: Sequence[str]) -> str | None:
    """None when nodes have networks of their own and the command works in one, else the reason."""
    if not RUNTIMES[runtime].own_network:
        return f"nodes of the {runtime} runtime share this machine's loopback and have no network of their own"
    return netns.why_not(command)
