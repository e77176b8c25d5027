"""The nodes of a Ray cluster: the only module that knows Ray."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from torchskew.engine.fleet.cluster import Answer, Lost, Refused
from torchskew.engine.fleet.messages import NodeFacts
from torchskew.engine.fleet.worker import MakeRuntime, Worker
from torchskew.errors import ConfigError, HarnessError, MachineError
from torchskew.runtimes import ownership, processes, runtime

LOCAL = re.compile(r"local:([1-9]\d?)")
_HOW = "Install it in the environment of torchskew, here and on every node: pip install 'torchskew[fleet]'."
# One worker answers several questions at once: news is waited for while others are asked.
_THREADS = 8
_MOST_OF_A_REASON = 300  # characters; Ray adds what else might have happened
_REACH_SECONDS = 10.0
_STORE_BYTES = 80 << 20  # what goes through Ray is small; this is the least that it takes
# Nodes on one machine have no network between them: one that refuses four calls in 2 s is dead. One that is only slow,
# because the machine has much to do, has longer.
_LOCAL_SETTINGS = {
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 20000,
    "health_check_failure_threshold": 4,
    "agent_register_timeout_ms": 180000,
    "worker_register_timeout_seconds": 180,
}
_START_SECONDS = 180.0  # Ray's own 30 s are too few for three nodes on a machine with much to do
_RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
# What Ray sets in the environment of whoever imports or starts it; whoever runs torchskew gets theirs back.
_VARIABLES = (_RECONNECT, "RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED", "RAY_CLIENT_MODE", "PYTHONBREAKPOINT")


class RayCluster:
    """A connection to a Ray cluster as the driver of one job. Only one at a time in a process."""

    def __init__(self, address: str, make: MakeRuntime = runtime) -> None:
        """Connect. address: host:port, auto, or local:N, which starts N nodes on this machine until `close`.

        Raises:
            ConfigError: Ray is missing or differs from the cluster's; MachineError: no cluster answers there.
        """
        self._address, self._make = address, make
        self._workers: dict[str, Any] = {}
        self._open: dict[Any, tuple[str, str]] = {}
        self._in: list[Answer | Refused | Lost] = []
        self._names: dict[str, str] = {}
        with ExitStack() as opening:
            local = LOCAL.fullmatch(address)
            where = opening.enter_context(local_nodes(int(local[1]))) if local else address
            if not local:
                _reach(address)
            opening.enter_context(_own_settings())
            self._ray = _connected(where, address)
            opening.callback(self._ray.shutdown)
            self._opened = opening.pop_all()

    def describe(self) -> str:
        """Ray's release and the address."""
        return f"Ray {self._ray.__version__} at {self._address}"

    def nodes(self) -> tuple[NodeFacts, ...]:
        """Living nodes in the order in which Ray lists them; several on one host get their id as well."""
        living = sorted((each for each in self._ray.nodes() if each["Alive"]), key=lambda each: str(each["NodeName"]))
        names = [str(each["NodeName"]) for each in living]
        return tuple(
            NodeFacts(
                id=each["NodeID"],
                address=str(each["NodeManagerAddress"]),
                name=name if names.count(name) == 1 else f"{name}/{each['NodeID'][:6]}",
                labels=dict(each.get("Labels") or {}),
                resources=dict(each.get("Resources") or {}),
            )
            for name, each in zip(names, living, strict=True)
        )

    def hire(self, node: NodeFacts) -> None:
        """An actor that holds no resources of Ray's: slots are counted by the driver."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        actor = self._ray.remote(Worker).options(num_cpus=0, max_concurrency=_THREADS, scheduling_strategy=there)
        self._names[node.id] = node.name
        self._workers[node.id] = actor.remote(node.id[:8], self._make)

    def ask(self, node: str, question: str, *given: object) -> None:
        """A call of an actor's method, whose answer is awaited; a node whose worker is gone is lost."""
        worker = self._workers.get(node)
        if worker is None:
            self._in.append(Lost(node=node, why="it has no worker any more"))
        else:
            self._open[getattr(worker, question).remote(*given)] = (node, question)

    def tell(self, node: str, what: str, *given: object) -> None:
        """A call whose answer nobody awaits; that the worker is gone is seen by the calls that are awaited."""
        if (worker := self._workers.get(node)) is not None:
            getattr(worker, what).remote(*given)

    def answers(self, seconds: float) -> Sequence[Answer | Refused | Lost]:
        """What calls returned or raised. What is cut short by Ctrl-C, the next call returns."""
        if self._open and not self._in:
            references = list(self._open)
            ready, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
            if ready and len(references) > 1:
                ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
            for reference in ready:
                if reference in self._open:  # else its worker was lost with an earlier answer of the same batch
                    self._in.append(self._answer(reference))
        elif not self._in:
            threading.Event().wait(min(seconds, 0.1))
        taken, self._in = self._in, []
        return taken

    def dismiss(self, node: str) -> None:
        """The actor's process is killed; what its versions run in ends with it."""
        self._forget(node)
        self._in = [answer for answer in self._in if answer.node != node]
        if (worker := self._workers.pop(node, None)) is not None:
            self._ray.kill(worker)

    def close(self) -> None:
        """Kill every actor, disconnect, and end the nodes that were started here."""
        for node in list(self._workers):
            self.dismiss(node)
        self._opened.close()

    def _answer(self, reference: Any) -> Answer | Refused | Lost:
        """It is open until its answer is here."""
        node, question = self._open[reference]
        answer = self._got(reference, node, question)
        self._open.pop(reference, None)
        return answer

    def _got(self, reference: Any, node: str, question: str) -> Answer | Refused | Lost:
        from ray.exceptions import RayActorError, RayError, RayTaskError

        try:
            return Answer(node=node, question=question, value=self._ray.get(reference))
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, HarnessError | OSError) else error
            return Refused(node=node, question=question, why=str(cause))
        except RayActorError as error:
            self._forget(node)
            return Lost(node=node, why=_in_one_line(str(error), _MOST_OF_A_REASON))
        except RayError as error:
            self._forget(node)
            return Lost(node=node, why=f"{type(error).__name__}: {_in_one_line(str(error), _MOST_OF_A_REASON)}")

    def _forget(self, node: str) -> None:
        self._open = {reference: asked for reference, asked in self._open.items() if asked[0] != node}


def _reach(address: str) -> None:
    """Something listens at this address, which Ray itself looks for during minutes; `auto` is Ray's to find."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
    except OSError as error:
        fix = "Start a cluster there with `ray start --head`, or use --fleet local:3."
        raise MachineError(f"--fleet {address}: nothing answers there: {error.strerror or error}. {fix}") from error


def _connected(where: str, address: str) -> Any:
    """Ray's module, connected."""
    ray = _imported()
    if address.startswith("ray://"):
        raise ConfigError(f"--fleet {address}: a Ray client can't drive a fleet. Name the cluster itself, HOST:6379.")
    try:
        with _own_sigterm():
            ray.init(address=where, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except ConnectionError as error:
        fix = "Start one with `ray start --head`, or use --fleet local:3."
        raise MachineError(f"--fleet {address}: no Ray cluster answers: {_in_one_line(str(error))}. {fix}") from error
    except (RuntimeError, ValueError) as error:
        # Ray compares its own release and Python's with the cluster's before it connects, and says all four.
        fix = "Use the same releases of Ray and Python here as on the nodes."
        raise ConfigError(f"--fleet {address}: {_in_one_line(str(error))} {fix}") from error
    # Ray prints the end of a dead node's log to standard output, in the middle of a report; no setting stops that.
    if hasattr(ray._private.worker, "print_to_stdstream"):  # noqa: SLF001 - the same
        ray._private.worker.print_to_stdstream = lambda *_, **__: None  # noqa: SLF001 - the same
    return ray


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"--fleet needs Ray, which can't be imported here ({error}). {_HOW}") from error
    return ray


@contextmanager
def _own_settings() -> Iterator[None]:
    """What Ray sets in the environment does not outlive the block."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts or connects; here it ends a run as Ctrl-C does."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def local_nodes(count: int) -> Iterator[str]:
    """The address of a cluster with so many nodes on this machine, which end with the block or with this process."""
    _imported()
    logging.getLogger("ray").setLevel(logging.ERROR)
    from ray.cluster_utils import Cluster

    with _own_settings(), ownership.short_folder() as folder:
        os.environ["RAY_TMPDIR"] = str(folder)
        os.environ.setdefault(_RECONNECT, "20")  # so long Ray's agents outlive a killed driver
        (folder / "ray").mkdir()
        cluster = Cluster()
        try:
            with _own_sigterm(), _patiently():
                _add_nodes(cluster, count)
            yield cluster.address
        finally:
            cluster.shutdown()


def _add_nodes(cluster: Any, count: int) -> None:
    cpus = max(1, (os.cpu_count() or 1) // count)
    each = {"num_cpus": cpus, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    before = processes.descendants(os.getpid())
    try:
        first = {"_system_config": _LOCAL_SETTINGS, "no_monitor": True, "include_log_monitor": False}
        cluster.add_node(node_name="node-1", **first, **each)
        for number in range(2, count + 1):
            cluster.add_node(node_name=f"node-{number}", wait=False, **each)
        cluster.wait_for_nodes(_START_SECONDS)
    except Exception as error:
        for pid in set(processes.descendants(os.getpid())) - set(before):  # of the node that Ray gave up
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        why = f"{type(error).__name__}: {_in_one_line(str(error))}"
        raise MachineError(f"--fleet local:{count}: the nodes can't be started here: {why}") from error


@contextmanager
def _patiently() -> Iterator[None]:
    """In the block, a node of this machine has three minutes to start instead of half a one."""
    from ray._private import services

    given = services.get_node

    def get_node(*args: Any, **more: Any) -> Any:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                return given(*args, **more)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.1)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = given


def _in_one_line(text: str, most: int = 2000) -> str:
    return " ".join(text.split())[:most]
