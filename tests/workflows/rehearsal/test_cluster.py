"""Nodes that end: all side by side, the ones that still start as well, and nothing is started afterwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping

import pytest
from torchskew.errors import HarnessError, MachineError
from torchskew.inside.protocol import PROTOCOL
from torchskew.model.versions import Environment
from torchskew.workflows.rehearsal.cluster import Cluster

from tests.patience import PATIENCE

TOGETHER = 6
READY = {"event": "ready", "protocol": PROTOCOL, "torch": "2.6.0", "host": "h", "pid": 1, "python": "3.11"}
ENVIRONMENTS = {"a": Environment(version="a", runtime="fake", identity="x", handle="x")}


class Node:
    """A channel that is ready at once or never, and that closes only when as many others close as well."""

    host, share = "h", "/share"
    rank_env: Mapping[str, str] = {}

    def __init__(self, *, ready: bool, together: threading.Barrier) -> None:
        self.ready, self.together, self.gone = ready, together, threading.Event()

    def send(self, line: bytes) -> None:
        del line

    def lines(self) -> Iterator[bytes]:
        if self.ready:
            yield json.dumps(READY).encode()
        self.gone.wait(PATIENCE)

    def errors(self) -> str:
        return ""

    def close(self) -> None:
        if not self.gone.is_set():
            self.gone.set()
            self.together.wait(PATIENCE)


class Nodes:
    """A runtime that starts such nodes; the last ones never become ready."""

    def __init__(self, ready: int) -> None:
        self.ready, self.started = ready, []
        self.together = threading.Barrier(TOGETHER)
        self.more = threading.Condition()

    def start(self, environment: Environment, replica: int) -> Node:
        del environment, replica
        with self.more:
            self.started.append(Node(ready=len(self.started) < self.ready, together=self.together))
            self.more.notify_all()
            return self.started[-1]

    def wait_for(self, count: int) -> None:
        with self.more:
            assert self.more.wait_for(lambda: len(self.started) >= count, 10)


def test_abandoned_nodes_end_side_by_side_and_so_do_those_that_still_start() -> None:
    runtime = Nodes(ready=TOGETHER - 2)
    cluster = Cluster(runtime, ENVIRONMENTS)
    for node in range(TOGETHER - 2):
        cluster.replace(node, "a")
    cluster.prefetch([(node, "a") for node in range(TOGETHER)])
    runtime.wait_for(TOGETHER)
    cluster.abandon()  # each end waits for the others: one after another would break the barrier
    assert not runtime.together.broken
    assert all(node.gone.is_set() for node in runtime.started)


def test_a_node_that_starts_after_the_end_is_closed_at_once() -> None:
    runtime = Nodes(ready=1)
    runtime.together = threading.Barrier(1)
    cluster = Cluster(runtime, ENVIRONMENTS)
    cluster.abandon()
    with pytest.raises(MachineError, match="the rehearsal is over"):
        cluster._start(0, "a", 1)  # the pool is closed; a start that had begun comes here
    assert runtime.started[0].gone.is_set()


def test_a_node_that_can_not_be_closed_does_not_keep_the_others() -> None:
    runtime = Nodes(ready=2)
    runtime.together = threading.Barrier(1)
    cluster = Cluster(runtime, ENVIRONMENTS)
    for node in range(2):
        cluster.replace(node, "a")

    def stays() -> None:
        raise HarnessError("it stays")

    runtime.started[0].close = stays  # type: ignore[method-assign]
    cluster.abandon()
    assert runtime.started[1].gone.is_set()
    runtime.started[0].gone.set()
