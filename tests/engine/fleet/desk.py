"""A cluster without Ray: its workers are objects of this process, asked by threads; nodes come and go on demand."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torchskew.engine.fleet.cluster import Answer, Lost, Refused
from torchskew.engine.fleet.fleet import Fleet
from torchskew.engine.fleet.messages import Greeting, NodeFacts
from torchskew.engine.fleet.worker import Worker
from torchskew.engine.machines import Work
from torchskew.errors import HarnessError
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import NO_FLEET, FleetSpec
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.planning.scenario import Scenario
from torchskew.runtimes.fake import FakeRuntime

from tests.conftest import Silent

PIP = (Source(kind=SourceKind.PIP, value="torch"),)
NAMES = ("1.0.0", "2.0.0")
MEET = Scenario(name="meet", promise="p", doc="d", source="", path="", judge=lambda reports, world: {})
ALONE = replace(MEET, name="alone", works=True, alone=True)
AFTER = replace(MEET, name="after", after=("meet",))
SCENARIOS = {each.name: each for each in (MEET, ALONE, AFTER)}


def version(name: str) -> Version:
    return Version(name=name, sources=PIP, torch=name, reports=name)


def cell(name: str = "meet", skew: tuple[str, ...] = NAMES, **fields: Any) -> Cell:
    return Cell(**{"scenario": name, "skew": skew, "runtime": "venv", "timeout": 5.0, **fields})


def node(name: str, cpu: float = 2.0, **labels: str) -> NodeFacts:
    return NodeFacts(id=name, name=name, address=f"10.0.0.{name}", labels=labels, resources={"CPU": cpu})


class LocalCluster:
    """runtimes: what each node's worker runs cells in. changed: what a node's greeting says otherwise."""

    def __init__(self, runtimes: Mapping[str, FakeRuntime], *facts: NodeFacts) -> None:
        self.runtimes = dict(runtimes)
        self.living = {each.id: each for each in facts or map(node, runtimes)}
        self.changed: dict[str, dict[str, Any]] = {}
        self.workers: dict[str, Worker] = {}
        self.sent: list[tuple[str, str]] = []
        self.hired: list[str] = []
        self._in: queue.SimpleQueue[Answer | Refused | Lost] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(256)

    def describe(self) -> str:
        return "a desk"

    def nodes(self) -> tuple[NodeFacts, ...]:
        return tuple(self.living.values())

    def hire(self, node: NodeFacts) -> None:
        self.hired.append(node.id)
        self.workers[node.id] = Worker(node.id, lambda _: self.runtimes[node.id])

    def ask(self, node: str, question: str, *given: object) -> None:
        self._pool.submit(self._answer, node, self.workers[node], question, given)

    def tell(self, node: str, what: str, *given: object) -> None:
        if what == "begin":
            self.sent += [(node, str(order.cell.id)) for order in given[0]]  # type: ignore[attr-defined]
            self.workers[node].begin(*given)  # type: ignore[arg-type]
        elif worker := self.workers.get(node):
            self._pool.submit(getattr(worker, what), *given)  # side by side and in any order, as over Ray

    def answers(self, seconds: float) -> Sequence[Answer | Refused | Lost]:
        found = []
        with suppress(queue.Empty):
            found.append(self._in.get(timeout=seconds))
            while True:
                found.append(self._in.get_nowait())
        return [each for each in found if isinstance(each, Lost) or each.node in self.workers]

    def dismiss(self, node: str) -> None:
        if worker := self.workers.pop(node, None):
            worker.release()

    def lose(self, node: str, *, stays: bool = False) -> None:
        """The node dies; with `stays` only its worker does."""
        if not stays:
            self.living.pop(node)
        worker = self.workers.pop(node)
        self._in.put(Lost(node=node, why="killed by the test"))
        threading.Thread(target=worker.release).start()

    def close(self) -> None:
        for name in list(self.workers):
            self.dismiss(name)
        self._pool.shutdown()

    def _answer(self, node: str, worker: Worker, question: str, given: Sequence[object]) -> None:
        try:
            value = getattr(worker, question)(*given)
        except HarnessError as error:
            self._tell(node, worker, Refused(node=node, question=question, why=str(error)))
            return
        if isinstance(value, Greeting):
            value = replace(value, **self.changed.get(node, {}))
        self._tell(node, worker, Answer(node=node, question=question, value=value))

    def _tell(self, node: str, worker: Worker, answer: Answer | Refused) -> None:
        if self.workers.get(node) is worker:
            self._in.put(answer)


def gathered(
    cluster: LocalCluster, spec: FleetSpec = NO_FLEET, *, jobs: int | None = 4, progress: Silent | None = None
) -> Fleet:
    """A fleet whose nodes take the fake runtime."""
    fleet = Fleet(cluster, spec, progress or Silent(), jobs)
    fleet.gather()
    fleet.use("venv")
    return fleet


def work(fleet: Fleet, *cells: Cell, names: Sequence[str] = NAMES, run_id: str = "fleet-run") -> Work:
    """Cells whose versions are provisioned."""
    versions = {name: version(name) for name in names}
    made = fleet.provision(tuple(versions.values()), Silent())
    return Work(
        run_id=run_id,
        plan=Plan(cells=cells, runtime="venv", seed=0, digest=""),
        scenarios=SCENARIOS,
        versions=versions,
        environments={name: each for name, each in made.items() if not isinstance(each, HarnessError)},
        observe=lambda tally: None,
    )
