"""The nodes as the driver sees them: what each has, what runs there, and which of them gets the next cell. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from torchskew.engine.fleet.messages import NodeFacts, Order
from torchskew.model.cells import Cell
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Placement

# As on one machine: with more cells that wait for a processor, their ends overlap so much that a slow exit could
# look like a hang.
MOST_OPEN_PER_CPU = 48


@dataclass(frozen=True, slots=True)
class Need:
    """What a cell needs of a node. alone: no other cell may work there meanwhile.

    spread: by rank, where each rank needs a node of its own: the version of that rank.
    """

    versions: frozenset[str]
    alone: bool
    spread: tuple[str, ...] = ()

    @classmethod
    def of(cls, cell: Cell, *, alone: bool) -> Need:
        """The need of a cell; alone: whether its scenario measures."""
        apart = cell.provided if cell.placement is Placement.SPREAD else ()
        return cls(frozenset(cell.provided), alone, apart)

    @property
    def of_ranks(self) -> tuple[Need, ...]:
        """What each rank needs of its node, where each needs one of its own."""
        return tuple(Need(frozenset({version}), alone=self.alone) for version in self.spread)


@dataclass(slots=True, kw_only=True)
class Placed:
    """A cell that a node has. size: slots it takes until it waits or ends; since: when it was sent, monotonic."""

    order: Order
    size: int
    since: float
    waiting: bool = False


@dataclass(slots=True, kw_only=True)
class Node:
    """A node with a worker. versions: what it has an environment of; slots: cells that work there at once.

    ready: it takes cells. warm: versions that a cell there has used, whose agents are started.
    kept: the need of a cell that waits until it has the node for itself.
    """

    facts: NodeFacts
    cpus: int = 1
    slots: int = 1
    ready: bool = False
    versions: frozenset[str] = frozenset()
    open: dict[CellId, Placed] = field(default_factory=dict)
    working: int = 0
    warm: set[str] = field(default_factory=set)
    kept: Need | None = None

    def can(self, need: Need) -> bool:
        """Whether it has every version of the cell."""
        return self.ready and need.versions <= self.versions

    def free(self, need: Need) -> bool:
        """Whether it can begin such a cell now."""
        if self.kept is not None and self.kept != need:
            return False
        room = self.working == 0 if need.alone else self.working < self.slots
        return room and len(self.open) < MOST_OPEN_PER_CPU * self.cpus

    def take(self, order: Order, need: Need, now: float) -> None:
        """It has this cell from now on."""
        size = self.slots if need.alone else 1
        self.open[order.cell.id] = Placed(order=order, size=size, since=now)
        self.working += size
        self.warm |= need.versions
        self.kept = None

    def waits(self, cell: CellId) -> bool:
        """The cell merely waits: its slots are free. Whether the node has it, and this is new."""
        placed = self.open.get(cell)
        if placed is None or placed.waiting:
            return False
        placed.waiting = True
        self.working -= placed.size
        return True

    def drop(self, cell: CellId) -> Placed | None:
        """It has the cell no longer; None where it never had it."""
        placed = self.open.pop(cell, None)
        if placed is not None and not placed.waiting:
            self.working -= placed.size
        return placed


class Placing:
    """Gives cells to nodes in one pass, during which none of their cells ends.

    Each need has its nodes in a heap, so that a cell costs the same on three nodes and on three hundred.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        """room: slots that are free on all nodes together; given: by node, the cells that it got."""
        self._nodes = tuple(node for node in nodes if node.ready)
        self._heaps: dict[Need, list[tuple[tuple[int, int, int], int, Node]]] = {}
        self.given: dict[str, list[Order]] = {}
        self.room = sum(max(0, node.slots - node.working) for node in self._nodes)

    def give(self, order: Order, need: Need, now: float) -> Node | None:
        """The node that has this cell from now on: the least full, and of those the one with most of its agents warm.

        None where no node is free. For a cell that must be alone, the node that has least to end is kept free then.
        """
        if (node := self._first(need)) is None:
            return None
        node.take(order, need, now)
        self.given.setdefault(node.facts.id, []).append(order)
        self.room -= node.open[order.cell.id].size
        return node

    def spread(self, order: Order, need: Need, now: float) -> tuple[Node, ...]:
        """The nodes that have a rank of this cell each from now on, rank 0 first; () where too few are free."""
        needs = need.of_ranks
        chosen = apart(needs, sorted(self._nodes, key=lambda node: _fullness(node, need)), Node.free)
        for node, part in zip(chosen, needs, strict=False):
            node.take(order, part, now)
            self.room -= 1
        return chosen

    def _first(self, need: Need) -> Node | None:
        heap = self._heaps.get(need)
        if heap is None:
            entries = ((_fullness(node, need), number, node) for number, node in enumerate(self._nodes))
            heap = self._heaps[need] = [entry for entry in entries if entry[2].can(need)]
            heapq.heapify(heap)
            if need.alone and not any(node.free(need) for _, _, node in heap):
                self._keep_one(need, [node for _, _, node in heap])
        while heap:
            fullness, number, node = heap[0]
            if not node.free(need):
                heapq.heappop(heap)
            elif (now := _fullness(node, need)) != fullness:
                heapq.heapreplace(heap, (now, number, node))
            else:
                return node
        return None

    def _keep_one(self, need: Need, able: list[Node]) -> None:
        if able and not any(node.kept == need for node in able):
            chosen = min(able, key=lambda node: (node.kept is not None, node.working))
            chosen.kept = chosen.kept or need


def apart(needs: Sequence[Need], nodes: Sequence[Node], fits: Callable[[Node, Need], bool]) -> tuple[Node, ...]:
    """A node for each need, no node twice; () where there are too few. Earlier nodes are taken first.

    Each need in turn takes a node, and whoever had that node looks for another (augmenting paths).
    """
    taken: dict[int, int] = {}  # the number of a node -> that of the need that has it

    def place(need: int, seen: set[int]) -> bool:
        able = [number for number, node in enumerate(nodes) if node.can(needs[need]) and fits(node, needs[need])]
        for number in sorted(able, key=taken.__contains__):  # whoever has a node keeps it where another one will do
            if number not in seen:
                seen.add(number)
                if number not in taken or place(taken[number], seen):
                    taken[number] = need
                    return True
        return False

    if not all(place(need, set()) for need in range(len(needs))):
        return ()
    by_need = {need: nodes[number] for number, need in taken.items()}
    return tuple(by_need[need] for need in range(len(needs)))


def _fullness(node: Node, need: Need) -> tuple[int, int, int]:
    return len(node.open) // node.slots, -len(need.versions & node.warm), len(node.open)
