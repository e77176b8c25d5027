"""One run of cells over a fleet: gives each cell to a node, judges what comes back, starts anew what a node lost."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from torchskew.engine.fleet.cluster import Lost
from torchskew.engine.fleet.messages import Finished, Order, Retried, Stuck, Waiting
from torchskew.engine.fleet.nodes import Need, Node, Placed, Placing, apart
from torchskew.engine.fleet.spread import SpreadOrder
from torchskew.engine.machines import Work
from torchskew.engine.run import Tally, unprovisioned, unsupported
from torchskew.engine.trial import ATTEMPTS
from torchskew.errors import MachineError
from torchskew.judging.judge import SharedInputs, judge
from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.ids import CellId
from torchskew.model.results import CellResult
from torchskew.model.versions import EnvironmentFailure
from torchskew.planning.plan import lacking
from torchskew.planning.schedule import Schedule, chain_seconds

_TICKETS = itertools.count(1)
OfCells = Waiting | Finished | Stuck | Retried


class Nodes(Protocol):
    """What a run needs of its fleet."""

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Those that have a worker."""

    @property
    def hopeful(self) -> bool:
        """Whether another may still come."""

    def send(self, node: Node, orders: list[Order]) -> None:
        """Let a node begin cells."""

    def spread(self, asked: SpreadOrder) -> None:
        """Begin an attempt at a cell that several nodes run; what becomes of it is an event of its first node."""

    def events(self) -> Iterator[tuple[Node, OfCells | Lost]]:
        """What happened on them, within a second."""

    def lose(self, node: Node, why: str) -> Lost:
        """End a node's worker that can't go on."""


@dataclass(slots=True, kw_only=True)
class FleetRun:
    """The cells of one `run`. A result of the code under test is final; what a node lost is tried elsewhere."""

    fleet: Nodes
    work: Work
    _schedule: Schedule = field(init=False)
    _tally: Tally = field(init=False)
    _held: dict[Need, deque[Order]] = field(default_factory=dict)
    _spread: dict[int, tuple[Node, ...]] = field(default_factory=dict)
    _open: int = 0

    def run(self, known: Mapping[CellId, CellResult]) -> Iterator[CellResult]:
        """Each new result as it comes.

        Raises:
            MachineError: no node is left; what was yielded is valid.
        """
        cells = self.work.plan.cells
        self._schedule = Schedule(cells, {cell_id: result.verdict for cell_id, result in known.items()})
        done = sum(cell.id in known for cell in cells)
        left = [cell for cell in cells if cell.id not in known and cell.predicted]
        longest = max(chain_seconds(left).values(), default=0.0)
        self._tally = Tally(planned=len(cells), done=done, unrun=done, longest=longest, begun=time.monotonic())
        while True:
            for result in self._schedule.blocked():
                self._count(done=1, unrun=1)
                yield result
            for result in self._place_all():
                self._schedule.done(result.cell.id, result.verdict)
                self._count(done=1, unrun=1)
                yield result
            if not (self._open or self._held or self._schedule.ready):
                if not (rest := list(self._schedule.blocked())):
                    return
                self._count(done=len(rest), unrun=len(rest))
                yield from rest
                continue
            if not self.fleet.nodes and not self.fleet.hopeful:
                raise MachineError(f"no node of the fleet is left, and {self._left} cells have no result yet")
            for node, event in self.fleet.events():
                for result in self._take(node, event):
                    self._schedule.done(result.cell.id, result.verdict)
                    self._count(done=1)
                    yield result

    @property
    def _left(self) -> int:
        return self._tally.planned - self._tally.done

    def _place_all(self) -> Iterator[CellResult]:
        """Give cells to nodes while any of them has room; results of the cells that can run nowhere."""
        placing = Placing(self.fleet.nodes.values())
        yield from self._place_held(placing)
        while self._schedule.ready and placing.room > 0:
            cell = self._schedule.pop()
            scenario = self.work.scenarios[cell.scenario]
            if why := lacking(scenario, [self.work.versions[name] for name in cell.provided]):
                yield unsupported(cell, why)
                continue
            order, need = Order(cell=cell, ticket=next(_TICKETS)), Need.of(cell, alone=scenario.alone)
            if need in self._held or not self._place(placing, order, need):
                self._held.setdefault(need, deque()).append(order)
        for name, orders in placing.given.items():
            self.fleet.send(self.fleet.nodes[name], orders)

    def _place_held(self, placing: Placing) -> Iterator[CellResult]:
        """The same for the cells that had to wait for a node."""
        for need in list(self._held):
            orders = self._held[need]
            while orders and self._place(placing, orders[0], need):
                orders.popleft()
            if orders and self._nowhere(need):
                yield from (unprovisioned(order.cell, _no_node(need)) for order in orders)
                orders.clear()
            if not orders:
                del self._held[need]

    def _place(self, placing: Placing, order: Order, need: Need) -> bool:
        if need.spread:
            placed = self._place_apart(placing, order, need)
        else:
            placed = placing.give(order, need, time.monotonic()) is not None
        if not placed:
            return False
        self._open += 1
        self._count(running=1)
        return True

    def _place_apart(self, placing: Placing, order: Order, need: Need) -> bool:
        """Each rank on a node of its own, where so many have room."""
        nodes = placing.spread(order, need, time.monotonic())
        if nodes:
            self._spread[order.ticket] = nodes
            scenario, seed = self.work.scenarios[order.cell.scenario], self.work.plan.seed
            facts = tuple(node.facts for node in nodes)
            self.fleet.spread(SpreadOrder(order=order, scenario=scenario, seed=seed, nodes=facts))
        return bool(nodes)

    def _nowhere(self, need: Need) -> bool:
        nodes = tuple(self.fleet.nodes.values())
        if not nodes or self.fleet.hopeful:
            return False
        if need.spread:
            return not apart(need.of_ranks, nodes, lambda *_: True)
        return not any(node.can(need) for node in nodes)

    def _take(self, node: Node, event: OfCells | Lost) -> Iterator[CellResult]:
        """What an event means for the cells; news of an order that the node does not have is of an earlier run."""
        if isinstance(event, Lost):
            yield from self._begin_anew(node, event.why)
            return
        if event.ticket in self._spread:
            yield from self._take_apart(event)
            return
        placed = node.open.get(event.cell)
        if placed is None or placed.order.ticket != event.ticket:
            return
        if isinstance(event, Waiting):
            if node.waits(event.cell):
                self._count(running=-1, waiting=1)
        elif isinstance(event, Stuck):
            yield from self._begin_anew(node, self.fleet.lose(node, event.why).why)
        elif isinstance(event, Retried):
            placed.order = replace(placed.order, earlier=(*placed.order.earlier, event.attempt))
        else:
            self._drop(node, event.cell)
            yield self._judged(placed.order.cell, event)

    def _take_apart(self, event: OfCells) -> Iterator[CellResult]:
        """The same for a cell that several nodes have: an attempt that a machine spoiled is made anew on any nodes."""
        nodes = self._spread[event.ticket]
        if isinstance(event, Waiting):
            if sum(node.waits(event.cell) for node in nodes):  # each of them has its slot back
                self._count(running=-1, waiting=1)
            return
        assert isinstance(event, Finished)
        del self._spread[event.ticket]
        dropped = [placed for node in nodes if (placed := node.drop(event.cell)) is not None]
        self._open -= 1
        self._count(**{"waiting" if any(placed.waiting for placed in dropped) else "running": -1})
        cell = dropped[0].order.cell
        if event.attempts[-1].fault is None or len(event.attempts) >= ATTEMPTS:
            yield self._judged(cell, event)
        else:
            self._hold_anew(cell, event.attempts)

    def _drop(self, node: Node, cell: CellId) -> Placed | None:
        placed = node.drop(cell)
        if placed is not None:
            self._open -= 1
            self._count(**{"waiting" if placed.waiting else "running": -1})
        return placed

    def _begin_anew(self, node: Node, why: str) -> Iterator[CellResult]:
        """Every cell of a lost node gets an attempt that says so, and goes to another node, as often as any cell."""
        for cell_id in list(node.open):
            if node.open[cell_id].order.ticket in self._spread:
                continue  # its attempt ends with this fault by itself
            placed = self._drop(node, cell_id)
            assert placed is not None
            cell = placed.order.cell
            attempts = (*placed.order.earlier, _lost_attempt(placed, node, why))
            if len(attempts) >= ATTEMPTS:
                yield self._judged(cell, Finished(cell=cell.id, attempts=attempts, skip={}))
                continue
            self._hold_anew(cell, attempts)

    def _hold_anew(self, cell: Cell, earlier: tuple[Attempt, ...]) -> None:
        """The cell is the next one of its need."""
        need = Need.of(cell, alone=self.work.scenarios[cell.scenario].alone)
        self._held.setdefault(need, deque()).appendleft(Order(cell=cell, earlier=earlier, ticket=next(_TICKETS)))

    def _judged(self, cell: Cell, done: Finished) -> CellResult:
        versions = [self.work.versions[name] for name in cell.provided]
        shared = SharedInputs(seed=self.work.plan.seed, skip=done.skip)
        return judge(cell, self.work.scenarios[cell.scenario], versions, done.attempts, shared)

    def _count(self, *, done: int = 0, unrun: int = 0, running: int = 0, waiting: int = 0) -> None:
        self._tally.done += done
        self._tally.unrun += unrun
        self._tally.running += running
        self._tally.waiting += waiting
        self.work.observe(self._tally)


def _lost_attempt(placed: Placed, node: Node, why: str) -> Attempt:
    """The attempt that a node took with it: no rank of it says anything."""
    fault = f"node {node.facts.name} was lost: {why.splitlines()[0]}"
    skew = placed.order.cell.skew
    return Attempt(
        number=len(placed.order.earlier) + 1,
        ranks=tuple(RankFacts(rank=rank, declared=name, machine=fault) for rank, name in enumerate(skew)),
        seconds=time.monotonic() - placed.since,
        fault=fault,
    )


def _no_node(need: Need) -> EnvironmentFailure:
    names = sorted(need.versions)
    why = f"no node of the fleet has all of {', '.join(names)}"
    if need.spread:
        why = f"the fleet has no {len(need.spread)} nodes for ranks of {', '.join(need.spread)}"
    return EnvironmentFailure(version=names[0], reason=why)
