"""Questions to nodes beside the job: are you well, can you read this, does a collective add up, do bytes arrive."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torchskew.engine.events import Milestone
from torchskew.engine.ports import Ports
from torchskew.errors import AgentError
from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Outcome
from torchskew.model.rehearsal import MixedPolicy, RehearsalSpec
from torchskew.workflows.rehearsal.causes import ending
from torchskew.workflows.rehearsal.cluster import INSIDE, Cluster, scenario
from torchskew.workflows.rehearsal.contract import Launch, settings
from torchskew.workflows.rehearsal.group import NodeGroup, NodeSeat
from torchskew.workflows.rehearsal.observed import (
    ClockReading,
    CollectiveEvidence,
    Commit,
    Draws,
    FormatReading,
    Health,
    Reading,
)

# What the code under test may take beyond its own timeout: twice that, once in the rendezvous, once in a collective.
FACTOR, GRACE = 2.0, 3.0
# A step log of one rank is read up to here; 10000 steps of the default job are 2.4 MB.
MOST_LOG = 4 << 20
DEFAULT_SCRIPT = INSIDE / "training_job.py"
_PLACES = itertools.count(1)


class Questions:
    """Asks the nodes of a cluster.

    guard: the policy that guards follow; bridged: groups over all nodes meet at a bridge, for now; place: the job's
    folder in the share.
    """

    def __init__(self, spec: RehearsalSpec, cluster: Cluster) -> None:
        """Ask nothing yet."""
        self.spec, self.cluster = spec, cluster
        self.ports, self.scenario = Ports(), scenario()
        self.script = spec.script.text if spec.script else DEFAULT_SCRIPT.read_text()
        self.name = spec.script.name if spec.script else DEFAULT_SCRIPT.name
        self.guard = "exact" if spec.policy is MixedPolicy.REFUSE else "era"
        self.bridged = spec.strategy.bridged
        # Several rehearsals may follow each other on one cluster, and must not see each other's checkpoints.
        self.place = f"job-{next(_PLACES)}"

    def healthy(self) -> Health:
        """A small all_reduce over all nodes, beside the job."""
        group = self._group()
        seats = [self.cluster.seat(node) for node in range(self.spec.nodes)]
        try:
            group.start_all(seats, lambda _: {"do": "all_reduce"}, guard=None, bridged=self.bridged)
            group.end_within(self._patience())
            outcomes, facts = group.outcomes(), group.facts()
        finally:
            group.close()
        if set(outcomes) != {Outcome.OK} or any(fact.payload.get("wrong") for fact in facts):
            return Health(healthy=False, outcomes=outcomes)
        return Health(healthy=True, cases=_count(facts[0]))

    def collective(self, order: Sequence[int], versions: Sequence[str]) -> CollectiveEvidence:
        """all_reduce over all nodes, guarded or at a bridge. order: the nodes by rank; versions: of each node."""
        group = self._group()
        began = time.monotonic()
        try:
            seats = [self.cluster.seat(node, versions[node]) for node in order]
            group.start_all(seats, lambda _: {"do": "all_reduce"}, guard=self.guard, bridged=self.bridged)
            group.end_within(self._patience())
            outcomes, facts = group.outcomes(), group.facts()
        finally:
            group.close()
        return CollectiveEvidence(
            outcomes=outcomes,
            wrong=tuple(text for fact in facts for text in _wrong(fact)),
            cases=_count(facts[0]),
            seconds=time.monotonic() - began,
            errors=tuple(fact.error.text if fact.error else None for fact in facts),
            error_after=tuple(fact.error_after for fact in facts),
        )

    def read(self, seat: NodeSeat, commit: Commit, place: str = "") -> Reading:
        """A node's release reads a checkpoint alone; what the script's reader fails with is part of the answer.

        place: of a control, whose checkpoint it is.

        Raises:
            AgentError: the node can't answer, which is not the script's doing.
        """
        share = f"{seat.agent.channel.share}/rehearsal/{self.place}{place}"
        launch = Launch(
            folder="read", hold=None, formats=self.spec.formats, resume=commit, pace=0.0, until=commit.step
        )  # fmt: skip
        params = {
            "do": "read",
            "script": self.script,
            "name": self.name,
            "settings": settings(self.spec, launch, share, generation=0),
            "hold": "",
            "log": f"{share}/read/rank-0.jsonl",
            "world": self.spec.nodes,
        }
        return reading(self._answer(seat, params), commit, seat.version)

    def clock(self, seat: NodeSeat) -> ClockReading:
        """A node's clock; AgentError when it can't answer."""
        before = time.time()
        at = float(self.ask(seat, {"do": "clock"})["at"])
        return ClockReading(node=seat.node, version=seat.version, low=at - time.time(), high=at - before)

    def draws(self, seat: NodeSeat) -> Draws:
        """What one seed gives on a node's release; AgentError when it can't answer."""
        answer = self.ask(seat, {"do": "draws"})
        return Draws(samplers=_texts(answer.get("sampler")), layers=_texts(answer.get("layer")))

    def _answer(self, seat: NodeSeat, params: Mapping[str, Any]) -> RankFacts:
        """What became of one rank; AgentError where the machine kept it from answering."""
        group = self._group()
        try:
            group.start_all([seat], lambda _: params, guard=None)
            group.end_within(self._patience())
            facts = group.facts()[0]
        finally:
            group.close()
        if facts.machine is not None:
            raise AgentError(f"{seat.agent.name}: {facts.machine}")
        return facts

    def ask(self, seat: NodeSeat, params: Mapping[str, Any]) -> dict[str, Any]:
        """One question to one node; AgentError (of the group) when it can't answer."""
        group = self._group()
        try:
            group.start_all([seat], lambda _: params, guard=None)
            group.end_within(self._patience())
            return dict(group.payload())
        finally:
            group.close()

    def collect(self, seat: NodeSeat, logs: str, checkpoints: str) -> tuple[dict[str, str], frozenset[str]]:
        """The step logs in a folder by file name, and the names of committed checkpoints.

        Raises:
            AgentError: the node can't answer.
        """
        read: dict[str, bytes] = {}
        more = True
        while more:
            done = {name: len(data) for name, data in read.items()}
            params = {"do": "collect", "logs": logs, "checkpoints": checkpoints, "most": MOST_LOG, "done": done}
            answer = self.ask(seat, params)
            for name, data in answer["logs"].items():
                read[name] = read.get(name, b"") + base64.b64decode(data)
            more = bool(answer["more"])
        texts = {name: data.decode(errors="replace") for name, data in read.items()}
        return texts, frozenset(answer["checkpoints"])

    def crossing(self, source: int, sink: int, size: int, seconds: float) -> float | None:
        """Seconds that size bytes take from one node to another; None when they don't arrive in time."""
        server, client = self._group(), self._group()
        client.port = server.port
        try:
            server.start_all([self.cluster.seat(sink)], lambda _: {"do": "serve", "seconds": seconds}, guard=None)
            server.wait_until(GRACE, lambda: server.all_reached(Milestone.LISTENING))
            host = self.cluster.seat(sink).agent.channel.host
            params = {"do": "send", "to": host, "bytes": size, "seconds": seconds}
            client.start_all([self.cluster.seat(source)], lambda _: params, guard=None)
            client.end_within(seconds + GRACE)
            answer = client.payload()
        finally:
            client.close()
            server.close()
        return float(answer["seconds"]) if answer.get("arrived") else None

    def _group(self) -> NodeGroup:
        return NodeGroup(self.scenario, self.ports, self.spec.timeout, self.spec.seed)

    def _patience(self) -> float:
        return self.spec.timeout * FACTOR + GRACE


# What comes out of a rank is not trusted: these take what they can read, and nothing else.


def _count(fact: RankFacts) -> int | None:
    cases = fact.payload.get("cases")
    return cases if isinstance(cases, int) and not isinstance(cases, bool) else None


def _wrong(fact: RankFacts) -> list[str]:
    wrong = fact.payload.get("wrong")
    return [f"rank {fact.rank}: {each}" for each in wrong] if isinstance(wrong, list) else []


def reading(facts: RankFacts, commit: Commit, by: str) -> Reading:
    """What a rank that read a checkpoint alone answered. by: the version that read."""
    read = Reading(checkpoint=commit.name, by=by, writer=commit.by, written=commit.hash)
    if not facts.finished:
        return replace(read, error=ending(facts))
    answer = facts.payload
    formats, unchanged = answer.get("formats"), answer.get("unchanged")
    return replace(
        read,
        unchanged=unchanged if isinstance(unchanged, bool) else None,
        formats={str(name): format_reading(got, commit.hash) for name, got in formats.items()}
        if isinstance(formats, dict)
        else {},
        error=_text(answer.get("error")),
        no_reader=_text(answer.get("no_reader")),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(value: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def format_reading(answer: object, written: str | None) -> FormatReading:
    """What a rank answered about one format of a checkpoint; an answer of another shape is an error.

    written: the hash that was saved.
    """
    if not isinstance(answer, dict):
        return FormatReading(error="no answer")
    if answer.get("error") is not None:
        partial = _text(answer.get("partial"))
        return FormatReading(error=str(answer["error"]), hash=_hash(answer, written), partial=partial)
    if answer.get("lacks") is not None:
        return FormatReading(missing=str(answer["lacks"]))
    return FormatReading(hash=_hash(answer, written))


def _hash(answer: Mapping[str, object], written: str | None) -> str | None:
    """None where the reader says nothing about a hash; an empty one is not the one that was written."""
    if "hash" not in answer or answer["hash"] == written:
        return written if "hash" in answer else None
    return str(answer["hash"])
