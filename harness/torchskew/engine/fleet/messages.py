"""What driver and nodes of a fleet hand each other; every record here is pickled by Ray between equal torchskews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt
from torchskew.model.ids import CellId
from torchskew.model.versions import Environment, EnvironmentFailure
from torchskew.planning.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node of the cluster as Ray knows it. name: for texts; labels, resources: what it was started with."""

    id: str
    name: str
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


News = Waiting | Finished | Stuck
