"""A node as faults see it: its rank, its network, and whether the job goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torchskew.engine.events import Exited
from torchskew.runtimes.docker import netns
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.group import NodeGroup
from torchskew.workflows.rehearsal.training import Training

# What is in flight when a rank stops may still complete a step.
SETTLE = 0.25


class NodeTarget:
    """One node of the live job. until: where the job is to wait once it goes on (None: nowhere)."""

    def __init__(self, training: Training, cluster: Cluster, node: int, until: int | None) -> None:
        """The job waits at a step; `release` lets it go on."""
        self.training, self.cluster, self.node, self.until = training, cluster, node, until

    def signal(self, name: str) -> None:
        """Send a signal to the node's rank."""
        self._group().signal(name, self.node)

    def ended(self, seconds: float) -> str | None:
        """How the node's rank ended."""
        group = self._group()
        rank = group.ranks[self.node]
        group.wait_until(seconds, lambda: rank.end is not None)
        match rank.end:
            case None:
                return None
            case Exited(signal=signal, exit=code):
                return signal or f"exit {code}"
            case lost:
                return lost.why

    def stalls(self, seconds: float) -> str | None:
        """No step is completed for so long, although the job may go on."""
        group = self._group()
        group.wait_until(SETTLE, lambda: False)
        before = group.common_step()
        moved = group.wait_until(max(0.2, seconds - SETTLE), lambda: group.common_step() > before)
        return None if moved else f"no step after {before} for {max(0.2, seconds - SETTLE):.1f} s"

    def advances(self, seconds: float) -> str | None:
        """Steps are completed again."""
        if self.training.live is None:
            return None
        group, began = self._group(), time.monotonic()
        before = group.common_step()
        limit = self.until if self.until is not None else self.training.spec.training_steps
        moved = group.wait_until(seconds, lambda: group.common_step() > before or group.common_step() >= limit)
        took = time.monotonic() - began
        return f"step {group.common_step()} was completed {took:.1f} s later" if moved else None

    def restart(self) -> None:
        """A new generation from the last checkpoint."""
        self.training.restart()

    def network(self, command: Sequence[str]) -> str:
        """A command in the node's network."""
        return netns.enter(self.cluster.seat(self.node).agent.channel, command)

    def crossing(self, size: int, seconds: float, *, outward: bool = False) -> float | None:
        """Seconds that size bytes take between this node and the next one."""
        other = (self.node + 1) % self.training.spec.nodes
        source, sink = (self.node, other) if outward else (other, self.node)
        return self.training.crossing(source, sink, size, seconds)

    def _group(self) -> NodeGroup:
        assert self.training.live is not None
        return self.training.live.group
