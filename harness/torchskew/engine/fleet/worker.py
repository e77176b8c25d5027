"""The worker on one node: a runtime, its environments and warm agents; runs the cells that the driver sends it.

It knows nothing of Ray: the methods here are what a node actor answers to, each from a thread of Ray's.
"""

from __future__ import annotations

import os
import platform
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import torchskew
from torchskew.engine.agents import Agents
from torchskew.engine.fleet.messages import (
    Briefing,
    Finished,
    Greeting,
    LineEnded,
    LineRequest,
    News,
    Order,
    Provided,
    Retried,
    Stuck,
    Waiting,
)
from torchskew.engine.fleet.relay import Relay
from torchskew.engine.machines import ThisMachine
from torchskew.engine.ports import Ports
from torchskew.engine.progress import Silent
from torchskew.engine.run import FREE_BYTES, available_bytes
from torchskew.engine.trial import Trial
from torchskew.errors import HarnessError, MachineError, ProvisionError
from torchskew.model.runtimes import RUNTIMES
from torchskew.model.versions import Environment, EnvironmentFailure, Version
from torchskew.record.code_digest import digest_of_code
from torchskew.runtimes import ownership, runtime
from torchskew.runtimes.base import Runtime

# A driver that asks for nothing so long is gone, or can't reach the node any more.
LEASE_SECONDS = 120.0
_MOST_NEWS = 1000
_DYING_SECONDS = 5.0  # a worker whose raylet is gone ends by itself, a moment later
_KILLED_SECONDS = 10.0

MakeRuntime = Callable[[str], Runtime]


class Worker:
    """One node's worker. Every method may be called from any thread."""

    def __init__(self, node: str, make: MakeRuntime = runtime, lease: float = LEASE_SECONDS) -> None:
        """node: a word that no other node's worker of the run has. make: a runtime by its name. lease: seconds."""
        self._node, self._make = node, make
        self._machine: ThisMachine | None = None
        self._environments: dict[str, Environment] = {}
        self._briefing: Briefing | None = None
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._running = 0
        self._ports = Ports()
        self._relay = Relay(self._news.put, self._ports)
        self._lock = threading.Lock()
        self._lease = _Lease(lease, self._end)
        threading.Thread(target=self._begin_orders, name="orders", daemon=True).start()

    def greet(self) -> Greeting:
        """Who answers here, and which runtimes don't."""
        with self._lease.held():
            silent = {name: why for name in RUNTIMES if (why := self._make(name).answers())}
            return Greeting(
                torchskew=torchskew.__version__,
                python=platform.python_version(),
                code=digest_of_code(),
                owner=ownership.owner(),
                place=ownership.place(),
                cpus=os.cpu_count() or 1,
                silent=silent,
            )

    def use(self, name: str) -> str:
        """Take this runtime from now on; what it says of itself."""
        with self._lease.held():
            self._machine = ThisMachine(self._make(name))
            return self._machine.describe()

    def sweep(self) -> tuple[str, ...]:
        """Remove what dead owners left on this node; a line for each thing removed."""
        with self._lease.held():
            return self._machine.sweep() if self._machine is not None else ()

    def bury(self, owners: Sequence[str]) -> tuple[str, ...]:
        """End workers of this host that were lost, where they have not ended yet, and remove what they left."""
        with self._lease.held():
            others = [owner for owner in owners if owner != ownership.owner()]
            for owner in _still_alive(others, _DYING_SECONDS):
                with suppress(ProcessLookupError):
                    os.kill(int(owner.partition(":")[0]), signal.SIGKILL)
            _still_alive(others, _KILLED_SECONDS)  # what a living owner has is not swept
        return self.sweep()

    def provide(self, versions: Sequence[Version]) -> Provided:
        """Make or reuse the environment of each version."""
        with self._lease.held():
            outcomes = self._here().provision(versions, Silent())
            grants = {version.name: version.grants for version in versions}
            environments: dict[str, Environment] = {}
            failures: dict[str, EnvironmentFailure] = {}
            for name, outcome in outcomes.items():
                if isinstance(outcome, ProvisionError):
                    failures[name] = EnvironmentFailure(version=name, reason=str(outcome))
                else:
                    environments[name] = replace(outcome, grants=grants[name])
            self._environments.update(environments)
            return Provided(environments=environments, failures=failures)

    def brief(self, briefing: Briefing) -> None:
        """Get ready for cells."""
        with self._lease.held():
            self._briefing = briefing
            agents = self._agents(briefing)
            agents.forget_made()
            agents.warm((), briefing.imports)

    def begin(self, orders: Sequence[Order]) -> None:
        """Start these cells; what becomes of them is news. Never raises."""
        for order in orders:
            self._orders.put(order)

    def news(self, seconds: float) -> tuple[News, ...]:
        """What happened since the last call; waits at most so long for the first of it."""
        with self._lease.held():
            news: list[News] = []
            with suppress(queue.Empty):
                news.append(self._news.get(timeout=seconds))
                while len(news) < _MOST_NEWS:
                    news.append(self._news.get_nowait())
            return tuple(news)

    def open_line(self, request: LineRequest) -> None:
        """Start an agent for ranks of cells that several nodes run. What becomes of it is news. Never raises."""
        briefing = self._briefing
        if briefing is None:
            self._news.put(LineEnded(key=request.key, why="the run has ended on this node"))
            return
        run_id, version, folders = self._run_id(briefing), request.version, request.folders
        self._relay.open(request, lambda: self._here().start(run_id, self._environments, version, folders))

    def write_line(self, key: int, number: int, text: bytes) -> None:
        """A line for such an agent. Never raises."""
        self._relay.write(key, number, text)

    def hang_up(self, key: int) -> None:
        """End such an agent. Never raises."""
        self._relay.hang_up(key)

    def lease_port(self, key: int) -> None:
        """Hold a port of this node. Never raises."""
        self._relay.lease(key)

    def give_port_back(self, key: int) -> None:
        """Hold it no longer. Never raises."""
        self._relay.give_back(key)

    def release(self) -> None:
        """End every agent and rank, and remove what the run shared on this node."""
        with self._lease.held():
            self._end()

    def _end(self) -> None:
        self._briefing = None
        self._relay.end()
        if self._machine is not None:
            self._machine.release()

    def _here(self) -> ThisMachine:
        if self._machine is None:
            raise MachineError("this node was given no runtime yet")
        return self._machine

    def _agents(self, briefing: Briefing) -> Agents:
        return self._here().agents(self._run_id(briefing), self._environments)

    def _run_id(self, briefing: Briefing) -> str:
        """Several nodes may be on one host, and each needs a folder of its own."""
        return f"{briefing.run_id}.{self._node}"

    def _begin_orders(self) -> None:
        """Start the cells in their order, each as soon as memory is there."""
        while True:
            order = self._orders.get()
            while available_bytes() < FREE_BYTES and self._running > 0:
                time.sleep(0.1)
            with self._lock:
                self._running += 1
            threading.Thread(target=self._run, args=(order,), name=order.cell.id, daemon=True).start()

    def _run(self, order: Order) -> None:
        try:
            news: News = self._tried(order)
        except Exception as error:  # noqa: BLE001 - told to the driver, which goes on without this node
            why = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
            news = Stuck(cell=order.cell.id, why=why, ticket=order.ticket)
        with self._lock:
            self._running -= 1
        self._news.put(news)

    def _tried(self, order: Order) -> Finished:
        briefing, cell = self._briefing, order.cell
        if briefing is None:
            raise MachineError("the run has ended on this node")
        trial = Trial(
            cell=cell,
            scenario=briefing.scenarios[cell.scenario],
            agents=self._agents(briefing),
            ports=self._ports,
            seed=briefing.seed,
            waits=lambda: self._news.put(Waiting(cell=cell.id, ticket=order.ticket)),
            earlier=order.earlier,
            again=lambda attempt: self._news.put(Retried(cell=cell.id, attempt=attempt, ticket=order.ticket)),
        )
        attempts = trial.run()
        return Finished(cell=cell.id, attempts=attempts, skip=trial.skip, ticket=order.ticket)


def _still_alive(owners: Sequence[str], seconds: float) -> list[str]:
    """Those that have not ended by themselves after so long."""
    until = time.monotonic() + seconds
    while (living := [owner for owner in owners if ownership.alive(owner)]) and time.monotonic() < until:
        time.sleep(0.05)
    return living


class _Lease:
    """Ends what a worker holds once its driver has asked for nothing for too long."""

    def __init__(self, seconds: float, end: Callable[[], None]) -> None:
        self._seconds, self._end = seconds, end
        self._lock = threading.Lock()
        self._calls, self._last, self._lapsed = 0, time.monotonic(), False
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The driver waits for an answer in the block.

        Raises:
            MachineError: the lease has run out before, or whatever goes wrong in the block: a worker says nothing else.
        """
        with self._lock:
            if self._lapsed:
                raise MachineError(f"its lease ran out: the driver asked for nothing for {self._seconds:.0f} s")
            self._calls += 1
        try:
            yield
        except HarnessError as error:
            raise MachineError(str(error)) from error
        except Exception as error:
            raise MachineError(f"{type(error).__name__}: {error}") from error
        finally:
            with self._lock:
                self._calls -= 1
                self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._lapsed:
            time.sleep(self._seconds / 10)
            with self._lock:
                self._lapsed = self._calls == 0 and time.monotonic() - self._last > self._seconds
        self._end()
