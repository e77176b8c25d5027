"""Attempts at cells whose ranks are on several nodes: each is a thread of the driver, with agents behind workers."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from torchskew.engine.agents import Agents
from torchskew.engine.attempt import CellAttempt
from torchskew.engine.fleet.messages import (
    Finished,
    LineEnded,
    LineOpened,
    LineRequest,
    LineSpoke,
    NodeFacts,
    Order,
    PortLeased,
    Relayed,
    Waiting,
)
from torchskew.engine.trial import ATTEMPTS
from torchskew.errors import AgentError, MachineError
from torchskew.model.versions import Environment
from torchskew.planning.scenario import Scenario
from torchskew.runtimes.base import NO_FOLDERS, Folders

# A node starts a process, or looks for a port; a machine with much to do takes long to answer.
ASKED_SECONDS = 60.0
_KEYS, _RANKS = itertools.count(1), itertools.count(1)


class Tell(Protocol):
    """Tells a node's worker something that needs no answer; called from any thread."""

    def __call__(self, node: str, what: str, *given: object) -> None:
        """Do so; nothing where the node has no worker any more."""


class NodeLink:
    """One node as the driver's attempts use it: its agents and its ports. What its worker says comes to `hear`."""

    replicas = False  # a node has one rank of a cell
    sees_files = True  # only a runtime of local processes reaches other machines

    def __init__(self, node: NodeFacts, tell: Tell, interface: str) -> None:
        """interface: by which other nodes reach its ranks; empty: the node's own address."""
        self._node, self._tell, self._interface = node, tell, interface
        self._boxes: dict[int, queue.SimpleQueue[Relayed]] = {}
        self._ended = ""
        self._lock = threading.Lock()
        self.agents = Agents(self)

    def start(self, environment: Environment, replica: int, folders: Folders = NO_FOLDERS) -> LineChannel:
        """An agent on the node.

        Raises:
            AgentError: the node can't start it, does not answer, or is lost.
        """
        del replica
        request = LineRequest(
            key=next(_KEYS),
            version=environment.version,
            folders=folders,
            address=self._node.address,
            interface=self._interface,
        )
        box = self._box(request.key)
        opened = self._answer(box, "open_line", request)
        if not isinstance(opened, LineOpened):
            raise AgentError(f"{self._node.name}: {opened}")
        return LineChannel(self, opened, box)

    @contextmanager
    def lease(self) -> Iterator[int]:
        """A port of the node; see `Leases`. Raises AgentError where it has none, or is lost."""
        key = next(_KEYS)
        leased = self._answer(self._box(key), "lease_port", key)
        try:
            if not isinstance(leased, PortLeased):
                raise AgentError(f"{self._node.name}: {leased}")
            yield leased.port
        finally:
            self.forget(key)
            self.tell("give_port_back", key)

    def tell(self, what: str, *given: object) -> None:
        """Tell the node's worker."""
        self._tell(self._node.id, what, *given)

    def place(self) -> str:
        """The node's name, for texts."""
        return self._node.name

    def hear(self, news: Relayed) -> None:
        """Hand on what the worker said; what nobody waits for any more is dropped."""
        if box := self._boxes.get(news.key):
            box.put(news)

    def forget(self, key: int) -> None:
        """Nobody waits for this key any more."""
        with self._lock:
            self._boxes.pop(key, None)

    def end(self, why: str) -> None:
        """Nothing else comes from this node: whoever waits for it hears why."""
        with self._lock:
            self._ended = why
            boxes = dict(self._boxes)
        for key, box in boxes.items():
            box.put(LineEnded(key=key, why=why))
        self.agents.close()

    def _box(self, key: int) -> queue.SimpleQueue[Relayed]:
        with self._lock:
            if self._ended:
                raise AgentError(self._ended)
            return self._boxes.setdefault(key, queue.SimpleQueue())

    def _answer(self, box: queue.SimpleQueue[Relayed], what: str, given: object) -> Relayed:
        self.tell(what, given)
        try:
            return box.get(timeout=ASKED_SECONDS)
        except queue.Empty:
            raise AgentError(f"{self._node.name}: no answer to {what} in {ASKED_SECONDS:.0f} s") from None


class LineChannel:
    """An agent on another machine as a channel. host, share, rank_env: see `Channel`."""

    def __init__(self, link: NodeLink, opened: LineOpened, box: queue.SimpleQueue[Relayed]) -> None:
        """box: where what the agent writes comes in."""
        self.host, self.share, self.rank_env = opened.host, opened.share, opened.rank_env
        self._link, self._key, self._box = link, opened.key, box
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._ended: LineEnded | None = None

    def send(self, line: bytes) -> None:
        """One line, on its way to the node; AgentError when the agent is known to be gone."""
        if self._ended is not None:
            raise AgentError(self._ended.why or f"the agent on {self._link.place()} is gone")
        with self._lock:
            self._link.tell("write_line", self._key, next(self._numbers), line)

    def lines(self) -> Iterator[bytes]:
        """What the agent writes, until it ends. MachineError says why, where it did not end by itself."""
        while True:
            match self._box.get():
                case LineSpoke(text=text):
                    yield text
                case LineEnded() as ended:
                    self._ended = ended
                    self._link.forget(self._key)
                    if ended.why:
                        raise MachineError(ended.why)
                    return

    def errors(self) -> str:
        """The end of its standard error, which the node hands on when the agent has ended."""
        return self._ended.errors if self._ended is not None else f"(the agent on {self._link.place()} still has it)"

    def look_inside(self, pid: int) -> str:
        """On the node itself."""
        return f"on {self._link.place()}: py-spy dump --pid {pid}"

    def close(self) -> None:
        """Tell the node to end it, and listen no longer; what does not end is reported by the node's `release`."""
        self._link.tell("hang_up", self._key)
        self._box.put(LineEnded(key=self._key))


@dataclass(frozen=True, slots=True)
class _Crew:
    """The agents of one attempt, by rank: each on a node of its own."""

    links: Sequence[NodeLink]

    @property
    def see_files(self) -> bool:
        return all(link.sees_files for link in self.links)

    def of(self, rank: int) -> Agents:
        return self.links[rank].agents

    def new_id(self) -> str:
        return f"spread-{next(_RANKS)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadOrder:
    """An attempt at a cell that several nodes run. nodes: by rank."""

    order: Order
    scenario: Scenario
    seed: int
    nodes: tuple[NodeFacts, ...]


class Spreading:
    """The attempts of one driver. Only the thread that drives the fleet calls this."""

    def __init__(self, tell: Tell, interface: str) -> None:
        """Link no node yet. interface: by which ranks reach each other; empty: each node's own address."""
        self._tell, self._interface = tell, interface
        self._links: dict[str, NodeLink] = {}
        self._environments: Mapping[str, Environment] = {}
        self._imports: Mapping[str, tuple[str, ...]] = {}
        self._events: queue.SimpleQueue[Finished | Waiting | BaseException] = queue.SimpleQueue()
        self._open = 0

    @property
    def open(self) -> bool:
        """Whether an attempt is in progress."""
        return self._open > 0

    def brief(self, environments: Mapping[str, Environment], imports: Mapping[str, tuple[str, ...]]) -> None:
        """What the attempts of the next run need; see `Briefing`."""
        self._environments, self._imports = environments, imports
        for link in self._links.values():
            self._prepare(link)

    def begin(self, asked: SpreadOrder) -> None:
        """Start an attempt."""
        links = tuple(map(self._link, asked.nodes))
        self._open += 1
        threading.Thread(
            target=_attempted, args=(asked, links, self._events), name=asked.order.cell.id, daemon=True
        ).start()

    def hear(self, node: str, news: Relayed) -> None:
        """Hand on what a node's worker says to an attempt."""
        if link := self._links.get(node):
            link.hear(news)

    def events(self) -> Iterator[Finished | Waiting]:
        """What has become of attempts since the last call; what is a defect of ours is raised."""
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, BaseException):
                raise event
            self._open -= isinstance(event, Finished)
            yield event

    def lose(self, node: str, why: str) -> None:
        """A node is gone: attempts that have a rank there end with its fault."""
        if link := self._links.pop(node, None):
            link.end(why)

    def abandon(self) -> None:
        """The run ends: what is in progress ends unheard. Agents stay warm where nothing is."""
        if self.open:
            self.close()

    def close(self) -> None:
        """End every attempt and every agent."""
        for node in list(self._links):
            self.lose(node, "the run has ended")
        self._events = queue.SimpleQueue()
        self._open = 0

    def _link(self, node: NodeFacts) -> NodeLink:
        link = self._links.get(node.id)
        if link is None:
            link = self._links[node.id] = NodeLink(node, self._tell, self._interface)
            self._prepare(link)
        return link

    def _prepare(self, link: NodeLink) -> None:
        link.agents.provide(self._environments)
        link.agents.warm((), self._imports)


def _attempted(
    asked: SpreadOrder, links: Sequence[NodeLink], events: queue.SimpleQueue[Finished | Waiting | BaseException]
) -> None:
    """One attempt. Another one is a new order, which may get other nodes."""
    order, cell = asked.order, asked.order.cell
    number = len(order.earlier) + 1
    attempt = CellAttempt(
        cell=cell,
        scenario=asked.scenario,
        agents=_Crew(links),
        ports=links[0],
        seed=asked.seed,
        number=number,
        waits=lambda: events.put(Waiting(cell=cell.id, ticket=order.ticket)),
        alone=number == ATTEMPTS,
    )
    try:
        done = attempt.run()
        if done.fault is not None:
            done = replace(done, fault=f"ranks on {', '.join(node.name for node in asked.nodes)}: {done.fault}")
        attempts = (*order.earlier, done)
        events.put(Finished(cell=cell.id, attempts=attempts, skip=attempt.skip, ticket=order.ticket))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that drives the fleet, which raises it
        events.put(error)
