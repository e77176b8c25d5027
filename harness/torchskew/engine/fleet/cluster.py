"""What a fleet needs of a cluster: its nodes, a worker on each, questions to workers and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torchskew.engine.fleet.messages import NodeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker answered. question: the method of Worker that was asked."""

    node: str
    question: str
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A worker lives and could not do what it was asked. why: what, why and the fix, as its machine said it."""

    node: str
    question: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A worker is gone, or can't be reached; nothing that it still does is heard of."""

    node: str
    why: str


class Cluster(Protocol):
    """The machines of a fleet. Nodes are named by their ids; any thread may `tell`, only the driving one the rest."""

    def describe(self) -> str:
        """One line that names what it is and where."""

    def nodes(self) -> tuple[NodeFacts, ...]:
        """The nodes that live now."""

    def hire(self, node: NodeFacts) -> None:
        """Start a worker on a node; one that can't be started is lost, which `answers` says."""

    def ask(self, node: str, question: str, *given: object) -> None:
        """Ask a worker for something; what comes of it is among the `answers`."""

    def tell(self, node: str, what: str, *given: object) -> None:
        """Tell a worker something that needs no answer; any thread may. A node without a worker hears nothing."""

    def answers(self, seconds: float) -> Sequence[Answer | Refused | Lost]:
        """What came in; waits at most so long for the first. A lost worker is told once."""

    def dismiss(self, node: str) -> None:
        """End a worker without asking it, and forget what it was asked."""

    def close(self) -> None:
        """End every worker, and leave the cluster."""
