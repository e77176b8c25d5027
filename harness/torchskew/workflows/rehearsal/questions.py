"""Questions to nodes beside the job: are you well, can you read this, does a collective add up, do bytes arrive."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Mapping
from typing import Any

from torchskew.engine.ports import Ports
from torchskew.model.outcomes import Json, Outcome
from torchskew.workflows.rehearsal.cluster import INSIDE, Cluster, scenario
from torchskew.workflows.rehearsal.group import Group, Seat
from torchskew.workflows.rehearsal.model import Commit, Spec, Step

# What the code under test may take beyond its own timeout: twice that, once in the rendezvous, once in a collective.
FACTOR, GRACE = 2.0, 3.0
# A step log of one rank is read up to here; 10000 steps of the default job are 2.4 MB.
MOST_LOG = 4 << 20
DEFAULT_SCRIPT = INSIDE / "training_job.py"
_PLACES = itertools.count(1)


class Questions:
    """Asks the nodes of a cluster. guard: the policy that guards follow; place: the job's folder in the share."""

    def __init__(self, spec: Spec, cluster: Cluster) -> None:
        """Ask nothing yet."""
        self.spec, self.cluster = spec, cluster
        self.ports, self.scenario = Ports(), scenario()
        self.script = spec.script or DEFAULT_SCRIPT.read_text()
        self.name = spec.script_name or DEFAULT_SCRIPT.name
        self.guard = "exact" if spec.policy == "refuse" else "era"
        # Several rehearsals may follow each other on one cluster, and must not see each other's checkpoints.
        self.place = f"job-{next(_PLACES)}"

    def healthy(self) -> Json:
        """A trivial all_reduce over all nodes, beside the job: how many cases were right, or what went wrong."""
        group = self._group()
        seats = [self.cluster.seat(node) for node in range(self.spec.nodes)]
        try:
            group.start(seats, lambda _: {"do": "all_reduce"}, guard=None)
            group.settle(self._patience())
            outcomes = group.outcomes()
            told = [one.payload for one in group.facts()]
        finally:
            group.close()
        if set(outcomes) != {Outcome.OK} or any(one.get("wrong") for one in told):
            return {"healthy": False, "outcomes": list(outcomes)}
        return {"healthy": True, "cases": told[0].get("cases")}

    def probe(self, step: Step) -> tuple[tuple[Outcome, ...], dict[str, Json]]:
        """all_reduce over all nodes in the step's order, with the versions of the step, guarded."""
        group = self._group()
        began = time.monotonic()
        try:
            seats = [self.cluster.seat(node, step.versions[node]) for node in step.order]
            group.start(seats, lambda _: {"do": "all_reduce"}, guard=self.guard)
            group.settle(self._patience())
            outcomes, facts = group.outcomes(), group.facts()
        finally:
            group.close()
        wrong: list[Json] = []
        for one in facts:
            found = one.payload.get("wrong")
            wrong += [f"rank {one.rank}: {each}" for each in found] if isinstance(found, list) else []
        told: dict[str, Json] = {"outcomes": list(outcomes), "wrong": wrong, "seconds": time.monotonic() - began}
        told["cases"] = facts[0].payload.get("cases")
        told["errors"] = [one.error.text if one.error else None for one in facts]
        told["after"] = [one.error_after for one in facts]
        return outcomes, told

    def read(self, node: int, commit: Commit) -> dict[str, Any]:
        """A node's release reads a checkpoint alone; the hash that was written stands beside."""
        seat = self.cluster.seat(node)
        params = {
            "do": "read",
            "script": self.script,
            "name": self.name,
            "checkpoints": f"{seat.agent.channel.share}/rehearsal/{self.place}/checkpoints",
            "checkpoint": commit.name,
            "formats": list(self.spec.formats),
            "world": self.spec.nodes,
        }
        found = self.ask(seat, params)
        return {"checkpoint": commit.name, "written": commit.hash, "by": seat.version, **found}

    def ask(self, seat: Seat, params: Mapping[str, Any]) -> dict[str, Any]:
        """One question to one node; AgentError (of the group) when it can't answer."""
        group = self._group()
        try:
            group.start([seat], lambda _: params, guard=None)
            group.settle(self._patience())
            return dict(group.payload())
        finally:
            group.close()

    def collect(self, seat: Seat, logs: str, checkpoints: str) -> tuple[dict[str, str], frozenset[str]]:
        """The step logs in a folder by file name, and the names of committed checkpoints.

        Raises:
            AgentError: the node can't answer.
        """
        read: dict[str, bytes] = {}
        more = True
        while more:
            done = {name: len(data) for name, data in read.items()}
            params = {"do": "collect", "logs": logs, "checkpoints": checkpoints, "most": MOST_LOG, "done": done}
            found = self.ask(seat, params)
            for name, data in found["logs"].items():
                read[name] = read.get(name, b"") + base64.b64decode(data)
            more = bool(found["more"])
        texts = {name: data.decode(errors="replace") for name, data in read.items()}
        return texts, frozenset(found["checkpoints"])

    def crossing(self, source: int, sink: int, size: int, seconds: float) -> float | None:
        """Seconds that size bytes take from one node to another; None when they don't arrive in time."""
        server, client = self._group(), self._group()
        client.port = server.port
        try:
            server.start([self.cluster.seat(sink)], lambda _: {"do": "serve", "seconds": seconds}, guard=None)
            server.wait(GRACE, lambda: server.told("listening"))
            host = self.cluster.seat(sink).agent.channel.host
            params = {"do": "send", "to": host, "bytes": size, "seconds": seconds}
            client.start([self.cluster.seat(source)], lambda _: params, guard=None)
            client.settle(seconds + GRACE)
            told = client.payload()
        finally:
            client.close()
            server.close()
        return float(told["seconds"]) if told.get("arrived") else None

    def _group(self) -> Group:
        return Group(self.scenario, self.ports, self.spec.timeout, self.spec.seed)

    def _patience(self) -> float:
        return self.spec.timeout * FACTOR + GRACE
