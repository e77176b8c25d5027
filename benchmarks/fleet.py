"""A fleet: what the driver costs per cell, alone with 200 nodes of words, and over Ray with scripted releases.

    python -m benchmarks.fleet [--cells 100000] [--nodes 200] [--ray-nodes 3] [--ray-cells 3000]

Alone: every cell is answered at once, so all the time is the driver's: schedule, placing, judging. Over Ray: real
workers on local nodes whose ranks answer at once; beside it the same cells by one engine in this process. The
difference is what a cell costs over Ray. Then cells that only wait, on one of the nodes and on all of them.
Aims: 2000 cells/s, a driver under 300 MB, at most 5 ms a cell over Ray, three nodes in 0.45 of one node's time.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torchskew
from torchskew.engine.fleet.cluster import Answer
from torchskew.engine.fleet.fleet import Fleet
from torchskew.engine.fleet.messages import Finished, Greeting, NodeFacts, Order, Provided
from torchskew.engine.fleet.ray_cluster import RayCluster, local_nodes
from torchskew.engine.machines import Machines, ThisMachine, Work
from torchskew.engine.progress import Silent
from torchskew.model.cells import Cell, Plan, Variant
from torchskew.model.declared import NO_FLEET
from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.outcomes import Phase, Verdict
from torchskew.model.versions import Environment, Source, SourceKind, Version
from torchskew.planning.scenario import Scenario
from torchskew.record.code_digest import digest_of_code
from torchskew.runtimes.fake import FakeRuntime, right

NAMES = ("1.0.0", "2.0.0")
SOURCES = (Source(kind=SourceKind.PIP, value="torch"),)
VERSIONS = {name: Version(name=name, sources=SOURCES, torch=name, reports=name) for name in NAMES}
MEET = Scenario(name="meet", promise="p", doc="d", source="", path="", judge=lambda *_: {})
JOBS = 16


def scripted(name: str) -> FakeRuntime:
    """What every worker takes."""
    del name
    return FakeRuntime()


def sleeping(name: str) -> FakeRuntime:
    """The same, where each of a cell's two ranks takes a quarter of a second, in which it does nothing."""
    del name

    def rank(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        time.sleep(0.25)
        return right(version, job)

    return FakeRuntime(rank)


class Echo:
    """A cluster in which every cell has passed as soon as it is sent."""

    def __init__(self, nodes: int) -> None:
        self._nodes = tuple(NodeFacts(id=f"n{each}", name=f"n{each}", resources={"CPU": 16.0}) for each in range(nodes))
        self._answers: dict[str, list[Answer]] = {}
        self._news: dict[str, list[Finished]] = {}
        self._asked: set[str] = set()

    def describe(self) -> str:
        return "words"

    def nodes(self) -> tuple[NodeFacts, ...]:
        return self._nodes

    def hire(self, node: NodeFacts) -> None:
        self._news[node.id] = []

    def ask(self, node: str, question: str, *_: object) -> None:
        if question == "news":
            self._asked.add(node)
            return
        made = {name: Environment(version=name, runtime="venv", identity=name, handle="") for name in NAMES}
        values = {
            "greet": Greeting(
                torchskew=torchskew.__version__,
                python="",
                code=digest_of_code(),
                owner="",
                place="",
                cpus=16,
                silent={},
            ),
            "provide": Provided(environments=made, failures={}),
        }
        self._answers.setdefault(node, []).append(Answer(node=node, question=question, value=values.get(question, "")))

    def tell(self, node: str, what: str, *given: object) -> None:
        assert what == "begin"
        orders: Sequence[Order] = given[0]  # type: ignore[assignment]
        self._news[node] += [passed(order) for order in orders]

    def answers(self, seconds: float) -> Sequence[Answer]:
        del seconds
        found = [answer for answers in self._answers.values() for answer in answers]
        self._answers.clear()
        for node in [node for node in self._asked if self._news[node]]:
            found.append(Answer(node=node, question="news", value=tuple(self._news[node])))
            self._news[node] = []
            self._asked.discard(node)
        return found

    def dismiss(self, node: str) -> None:
        """Nothing runs there."""

    def close(self) -> None:
        """Nothing was opened."""


def passed(order: Order) -> Finished:
    ranks = tuple(
        RankFacts(rank=rank, declared=name, torch=name, phase=Phase.DONE, finished=True, exit=0)
        for rank, name in enumerate(order.cell.skew)
    )
    attempts = (Attempt(number=1, ranks=ranks, seconds=0.01),)
    return Finished(cell=order.cell.id, attempts=attempts, skip={}, ticket=order.ticket)


def work(count: int) -> Work:
    cells = tuple(
        Cell(scenario="meet", skew=NAMES, runtime="venv", variant=Variant(name=str(number))) for number in range(count)
    )
    made = {name: Environment(version=name, runtime="venv", identity=f"fake-{name}", handle="") for name in NAMES}
    return Work(
        run_id=f"benchmark-{time.time_ns()}",
        plan=Plan(cells=cells, runtime="venv", seed=0, digest=""),
        scenarios={"meet": MEET},
        versions=VERSIONS,
        environments=made,
        observe=lambda _: None,
    )


def seconds(machines: Machines, count: int) -> float:
    """Seconds for so many cells, all of which pass."""
    given = work(count)
    begun = time.monotonic()
    verdicts = [result.verdict for result in machines.run(given, {})]
    taken = time.monotonic() - begun
    assert verdicts == [Verdict.PASS] * count
    return taken


def gathered(cluster: object) -> Fleet:
    fleet = Fleet(cluster, NO_FLEET, Silent(), JOBS)  # type: ignore[arg-type]
    fleet.gather()
    fleet.use("venv")
    fleet.provision(tuple(VERSIONS.values()), Silent())
    return fleet


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def over_ray(address: str, nodes: int, count: int) -> None:
    """The same cells over Ray and in one process."""
    cluster, here = RayCluster(address, scripted), ThisMachine(FakeRuntime(), JOBS)
    try:
        fleet = gathered(cluster)
        for machines in (fleet, here):  # the first cells start agents
            seconds(machines, 200)
        over, alone = (seconds(machines, count) for machines in (fleet, here))
        for machines in (fleet, here):
            machines.release()
    finally:
        cluster.close()
    print(f"over Ray       {count} cells on {nodes} local nodes: {count / over:.0f} cells/s")
    print(f"in one process {count / alone:.0f} cells/s")
    print(f"over Ray, more {1000 * (over - alone) / count:.2f} ms a cell (aim: at most 5)")


class First(RayCluster):
    """The first node of a cluster alone."""

    def nodes(self) -> tuple[NodeFacts, ...]:
        return super().nodes()[:1]


def side_by_side(address: str, nodes: int) -> None:
    """Cells that sleep half a second in their slots, on one node and on all of them."""
    taken = []
    for kind in (First, RayCluster):
        cluster = kind(address, sleeping)
        try:
            fleet = gathered(cluster)
            seconds(fleet, 2 * JOBS * nodes)
            taken.append(seconds(fleet, 20 * JOBS))
            fleet.release()
        finally:
            cluster.close()
    one, all_ = taken
    print(
        f"cells that wait {20 * JOBS} of 0.5 s, {JOBS} slots a node: {one:.1f} s on one node, {all_:.1f} s on {nodes}"
    )
    print(f"               {all_ / one:.2f} of one node's time (aim for three: at most 0.45)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--ray-nodes", type=int, default=3)
    parser.add_argument("--ray-cells", type=int, default=3000)
    given = parser.parse_args()
    before = megabytes()
    taken = seconds(gathered(Echo(given.nodes)), given.cells)
    pace = f"{given.cells / taken:.0f} cells/s (aim: 2000)"
    print(f"driver alone   {given.cells} cells on {given.nodes} nodes in {taken:.1f} s: {pace}")
    print(f"               {megabytes():.0f} MB at most, {before:.0f} MB before the first cell (aim: under 300)")
    with local_nodes(given.ray_nodes) as address:
        over_ray(address, given.ray_nodes, given.ray_cells)
        side_by_side(address, given.ray_nodes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
