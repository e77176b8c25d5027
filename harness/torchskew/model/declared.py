"""What torchskew.toml and the baseline beside it say, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchskew.model.outcomes import Guard, Outcome, Placement, Store, Verdict
from torchskew.model.versions import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A verdict declared in advance for the cells a pattern matches, with its reason.

    outcomes: when given, the class of each rank must match as well. flaky: the cells are known to show
    more than one verdict; until is required then, a failure is reported and does not gate.
    """

    cells: str
    verdict: Verdict
    reason: str
    outcomes: tuple[Outcome, ...] | None = None
    link: str | None = None
    until: str | None = None
    flaky: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixSpec:
    """What to combine. pairs: "all", "boundary", "neighbours", or explicit ordered skews; worlds: skews besides."""

    versions: tuple[str, ...]
    runtime: str = "auto"
    pairs: str | tuple[tuple[str, ...], ...] = "all"
    world_sizes: tuple[int, ...] = (2,)
    worlds: tuple[tuple[str, ...], ...] = ()
    scenarios: tuple[str, ...] = ("*",)
    guard: tuple[Guard, ...] = (Guard.OFF,)
    store: tuple[Store, ...] = (Store.STOCK,)
    placement: tuple[Placement, ...] = (Placement.TOGETHER,)
    timeout: float = 10.0

    @property
    def used(self) -> tuple[str, ...]:
        """Every version that the matrix combines, in the order in which it is first named."""
        listed = () if isinstance(self.pairs, str) else self.pairs
        return tuple(dict.fromkeys([*self.versions, *(name for skew in (*listed, *self.worlds) for name in skew)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksTable:
    """[ranks]: what every rank of a user's own code gets. Folders are absolute.

    pythonpath: folders that come first on sys.path. warm: modules that each version imports once, before it forks
    ranks. data: folders that ranks see under the same path and can't write to.
    """

    pythonpath: tuple[str, ...] = ()
    warm: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNeed:
    """What a node must have to run some versions. versions: a pattern over their names.

    labels: with these values; resources: at least so much of each, as Ray counts them.
    """

    versions: str
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)

    def met_by(self, labels: Mapping[str, str], resources: Mapping[str, float]) -> bool:
        """Whether a node with these labels and resources has it all."""
        labelled = all(labels.get(name) == value for name, value in self.labels.items())
        return labelled and all(resources.get(name, 0) >= least for name, least in self.resources.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """[fleet]: the machines that cells run on. address: of a Ray cluster, auto, or local:N; empty: this machine.

    jobs: cells that work at once on each node; None: what suits the node.
    interface: by which ranks on different nodes reach each other, a name or a network; empty: the node's own address.
    """

    address: str = ""
    jobs: int | None = None
    interface: str = ""
    needs: tuple[NodeNeed, ...] = ()


NO_FLEET = FleetSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A whole torchskew.toml with the expectations beside it. matrix: one per runtime name.

    scenarios: the folder of the user's own scenarios, absolute; empty where there is none.
    """

    path: str
    versions: Mapping[str, Version]
    matrix: Mapping[str, MatrixSpec]
    expectations: tuple[Expectation, ...] = ()
    ranks: RanksTable = RanksTable()
    scenarios: str = ""
    fleet: FleetSpec = NO_FLEET

    @property
    def by_runtime(self) -> Mapping[str, tuple[Version, ...]]:
        """The versions that each runtime's matrix uses, by the runtime's name."""
        return {name: tuple(self.versions[used] for used in spec.used) for name, spec in self.matrix.items()}
