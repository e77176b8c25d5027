"""What driver and nodes of a fleet hand each other; every record here is pickled by Ray between equal torchskews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt
from torchskew.model.ids import CellId
from torchskew.model.versions import Environment, EnvironmentFailure
from torchskew.planning.scenario import Scenario
from torchskew.runtimes.base import Folders


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node of the cluster as Ray knows it. name: for texts; labels, resources: what it was started with.

    address: at which the other nodes reach it.
    """

    id: str
    name: str
    address: str = "127.0.0.1"
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a worker says of itself first. code: digest of the code that decides what a rank sees.

    owner, place: its process, and where that name means something (runtimes.ownership).
    silent: runtime -> why it does not answer there, for those that don't. cpus: processors of the node.
    """

    torchskew: str
    python: str
    code: str
    owner: str
    place: str
    cpus: int
    silent: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """What provisioning made on one node, by version."""

    environments: Mapping[str, Environment]
    failures: Mapping[str, EnvironmentFailure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Briefing:
    """What a node needs before cells. scenarios: without their judges, which stay with the driver.

    imports: by kind of agent, what it imports before it forks ranks.
    """

    run_id: str
    seed: int
    scenarios: Mapping[str, Scenario]
    imports: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A cell to run. earlier: its attempts that were lost with other nodes.

    ticket: no two orders of a driver share one; news of it carries the same. An interrupted run may leave news of
    cells that the next run has as well.
    """

    cell: Cell
    earlier: tuple[Attempt, ...] = ()
    ticket: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Every rank of this cell merely waits from now on: its slot is free."""

    cell: CellId
    ticket: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A cell's attempts, earlier ones first. skip: case -> why, for what a version of the group lacks."""

    cell: CellId
    attempts: tuple[Attempt, ...]
    skip: Mapping[str, str]
    ticket: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """The node can't run this cell or any other. why: what its machine says."""

    cell: CellId
    why: str
    ticket: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """An attempt that the node's machine spoiled; another one follows there."""

    cell: CellId
    attempt: Attempt
    ticket: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRequest:
    """A line to an agent that the driver asks of a node. key: no two requests of a driver share one.

    version: the agent's. folders: what it sees of the node. address: under which its ranks are reached, unless
    interface (a name or a network) says which of the node's it is.
    """

    key: int
    version: str
    folders: Folders
    address: str
    interface: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOpened:
    """The agent is being started. host, share, rank_env: those of its channel, as other nodes see them."""

    key: int
    host: str
    share: str
    rank_env: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSpoke:
    """What the agent wrote: one line."""

    key: int
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLeased:
    """A port of the node that is the driver's until it says otherwise."""

    key: int
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEnded:
    """Nothing else comes for this key. why: what ended it, empty where the agent closed its output.

    errors: the end of the agent's standard error.
    """

    key: int
    why: str = ""
    errors: str = ""


Relayed = LineOpened | LineSpoke | PortLeased | LineEnded
News = Waiting | Finished | Stuck | Retried | Relayed
