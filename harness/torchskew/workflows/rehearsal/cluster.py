"""The nodes of a rehearsal: each a started version of its own; the next ones are warmed up before they are needed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from torchskew.engine.agents import Agent
from torchskew.engine.waiting import results
from torchskew.errors import HarnessError, MachineError
from torchskew.model.versions import Environment
from torchskew.planning.scenario import Scenario
from torchskew.runtimes.base import Channel, Runtime
from torchskew.workflows.inputs import read_scenario
from torchskew.workflows.rehearsal import clocks
from torchskew.workflows.rehearsal.group import NodeSeat

INSIDE = Path(__file__).resolve().parents[2] / "inside"
# Imported in the agent, so that no forked rank has to: together 2 s a rank and start on 2.13. A first optimizer wants
# torch._dynamo; moving checkpoint plans among ranks wants NumPy. What a release lacks is passed over.
IMPORTS = ("numpy", "torch.distributed.checkpoint.state_dict", "torch.utils.data.distributed", "torch._dynamo")
# Each warm node costs memory; the plan's next change is enough to hide the start behind the training.
SPARES = 4
WORKERS = 2


def scenario() -> Scenario:
    """What runs inside a rank, as it travels."""
    return read_scenario(INSIDE / "rehearsal.py")


class Cluster:
    """Nodes by number; (node, version) pairs that the plan needs next are started ahead."""

    def __init__(
        self, runtime: Runtime, environments: Mapping[str, Environment], clock_offsets: Sequence[float] = ()
    ) -> None:
        """Start nothing yet; the runtime is open. clock_offsets: seconds by which each node's clock is off."""
        self._clock_offsets = tuple(clock_offsets)
        self.runtime, self.environments = runtime, environments
        self.nodes: dict[int, str] = {}
        self._agents: dict[tuple[int, str], Future[Agent]] = {}
        self._ending: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(WORKERS, "nodes")
        self._closers = ThreadPoolExecutor(WORKERS, "leaving nodes")
        self._lock = threading.Lock()
        self._count = 0
        self._channels: list[Channel] = []
        self._over = False
        self._wanted: set[tuple[int, str]] = set()

    def prefetch(self, soon: Iterable[tuple[int, str]], later: Iterable[tuple[int, str]] = ()) -> None:
        """Begin to start the next few; what is needed later is not closed when a node changes."""
        self._wanted = {*(wanted := list(dict.fromkeys(soon))), *later}
        for node, version in wanted[: SPARES + len(self.nodes)]:
            self._begin(node, version)

    def clock_offset(self, node: int) -> float:
        """By how many seconds a node's clock is off."""
        return self._clock_offsets[node] if self._clock_offsets else 0.0

    def agent(self, node: int, version: str) -> Agent:
        """The ready agent of a node as this version; MachineError when it can't start."""
        [agent] = results([self._begin(node, version)])
        if agent.dead is not None:
            with self._lock:
                del self._agents[node, version]
            self._leave(agent)
            [agent] = results([self._begin(node, version)])
        agent.wait_ready()
        return agent

    def seat(self, node: int, version: str | None = None) -> NodeSeat:
        """A place for a rank on a node, as the version it runs or as another."""
        name = version or self.nodes[node]
        return NodeSeat(node=node, version=name, agent=self.agent(node, name))

    def replace(self, node: int, version: str) -> str:
        """The node runs this version from now on; the old agent is closed. Returns what torch says of itself."""
        agent = self.agent(node, version)
        before = self.nodes.get(node)
        self.nodes[node] = version
        if before not in (None, version) and (node, before) not in self._wanted:
            self.drop(node, str(before))
        return agent.wait_ready().torch

    def drop(self, node: int, version: str) -> None:
        """Close an agent that is not needed now."""
        with self._lock:
            future = self._agents.pop((node, version), None)
        if future is not None:
            self._ending.append(self._closers.submit(lambda: self._close(future)))

    def versions(self) -> tuple[str, ...]:
        """The declared version of each node, in order."""
        return tuple(self.nodes[node] for node in sorted(self.nodes))

    def close(self) -> None:
        """Close every agent; MachineError with all problems."""
        self._pool.shutdown(wait=False, cancel_futures=True)  # what has not begun to start need not
        for node, version in list(self._agents):
            self.drop(node, version)
        problems = []
        for future in self._ending:
            try:
                future.result()
            except HarnessError as error:
                problems.append(str(error))
        self._pool.shutdown()  # a start under way ends by itself
        self._closers.shutdown()
        if problems:
            raise MachineError("\n".join(problems))

    def abandon(self) -> None:
        """End every node now and side by side, those that still start as well; nobody waits for a start.

        What stays is the runtime's to say: it closes the same containers and processes once more.
        """
        with self._lock:
            self._over, channels = True, list(self._channels)
        self._pool.shutdown(wait=False, cancel_futures=True)
        with ThreadPoolExecutor(max(1, len(channels)), "abandoned nodes") as pool:
            list(pool.map(_closed, channels))
        self._pool.shutdown()  # a start under way finds its node gone
        self._closers.shutdown()

    def _begin(self, node: int, version: str) -> Future[Agent]:
        with self._lock:
            if (node, version) not in self._agents:
                self._count += 1
                self._agents[node, version] = self._pool.submit(self._start, node, version, self._count)
            return self._agents[node, version]

    def _start(self, node: int, version: str, count: int) -> Agent:
        environment = self.environments[version]
        shifted = {**environment.env, **clocks.settings(self.clock_offset(node))}
        channel = self.runtime.start(replace(environment, env=shifted), count)
        with self._lock:
            self._channels.append(channel)
            over = self._over
        if over:
            channel.close()
            raise MachineError(f"node {node}: the rehearsal is over")
        agent = Agent(channel, f"node {node} ({version})", IMPORTS)
        agent.wait_ready()
        return agent

    def _leave(self, agent: Agent) -> None:
        self._ending.append(self._closers.submit(agent.close))

    def _close(self, future: Future[Agent]) -> None:
        """An agent that never started has nothing to close: its own error was raised where it was needed."""
        if not future.cancelled() and future.exception() is None:
            future.result().close()


def _closed(channel: Channel) -> bool:
    """Whether it could be closed."""
    try:
        channel.close()
    except HarnessError:
        return False
    return True
