"""What a scenario is, and what its judge is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from packaging.specifiers import SpecifierSet

from torchskew.model.cells import Variant
from torchskew.model.outcomes import Guard, Json, Kind, Placement, Policy, Store, Tier

Report = Mapping[str, Json] | None
# What a scenario does that does not say otherwise.
GUARDS = {Kind.GROUP: (Guard.OFF, Guard.ON), Kind.HANDOVER: (Guard.OFF,), Kind.SOLO: (Guard.OFF,)}
WORLDS: Mapping[Kind, tuple[int, int | None]] = {Kind.GROUP: (2, None), Kind.HANDOVER: (2, None), Kind.SOLO: (1, 1)}
RENDEZVOUS = ("tcp", "file", "store", "none")
# Ranks that meet over a file, or not at all, would pass a bridge by.
STORES = {"tcp": (Store.STOCK, Store.BRIDGE), "store": (Store.STOCK, Store.BRIDGE)}
# Ranks that meet over a file need one file system.
PLACEMENTS = dict.fromkeys(STORES, (Placement.TOGETHER, Placement.SPREAD))
TIERS = tuple(tier.value for tier in Tier)
# Settings that are read when Python, a shared library or torch is loaded. Ranks are forked after that.
_EARLY = ("PYTHON", "LD_", "OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_")
_EARLY_NAMES = frozenset({"TORCH_CPP_LOG_LEVEL", "TORCH_LOGS", "ATEN_CPU_CAPABILITY", "PYTORCH_JIT"})


def too_late(name: str) -> str:
    """Why a setting can't reach a forked rank any more, and the fix; empty where it can."""
    if name == "PYTHONPATH":
        return "which Python reads when it starts, and ranks are forked from a running one. Use pythonpath=[…]."
    if name.startswith(_EARLY) or name in _EARLY_NAMES:
        return "which is read before ranks are forked. Set it in the `env` of the version in torchskew.toml."
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a judge knows besides the reports. skip: pattern of cases -> why a version lacks them."""

    size: int
    skew: tuple[str, ...]
    params: Mapping[str, Json]
    skip: Mapping[str, str]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a judge says that has more to say than which ranks are wrong.

    wrong: why, by rank. note: what a reader of a cell that passed should know. undecided: why these reports, right as
    they are, decide nothing; the cell is UNKNOWN then.
    """

    wrong: Mapping[int, str] = field(default_factory=dict)
    note: str = ""
    undecided: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where the ranks of a user's own code run; all paths are absolute, of this machine.

    paths: folders that come first on sys.path. cwd: where ranks work, below the folder that they share unless absolute;
    None: wherever their agent is. files: other folders with code that they read. data: folders that they see under the
    same path and can't write to. ranks_per_node: so many ranks in a row are one node. keep: ranks of a group that
    failed stay alive until the session ends. content: digest of what these folders hold, where results are recorded.
    """

    paths: tuple[str, ...] = ()
    cwd: str | None = None
    files: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    ranks_per_node: int = 1
    keep: bool = False
    content: str = ""

    @property
    def code(self) -> tuple[str, ...]:
        """Every folder that a rank needs besides its data, for runtimes whose ranks don't see this machine's files."""
        beside = (self.cwd,) if self.cwd and self.cwd.startswith("/") else ()
        return tuple(dict.fromkeys([*self.paths, *self.files, *beside]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One promise. world: smallest and largest number of ranks (None: no limit).

    requires: packages beside torch, which a gate installs in the tiers of the scenario, and where it is asked for.
    after: scenarios whose failure for the same skew blocks this one. same: the same release on every rank.
    rendezvous: how its ranks meet, for the prediction. stores: which stores they can meet at.
    placements: where its ranks can be; those that share a folder, a clock or a machine's load are together.
    tiers: which parts of a gate run it.
    patience: its timeout in seconds is never shorter, because on a busy machine its work (not waiting) takes long.
    works: its ranks work all the time, so a cell of it counts as one of those that run at once until it ends.
    alone: no other cell works while one of it runs, because it measures.
    upgrade: it judges what came later against what was before, so a gate plans a release and then its candidate only.
    warm: modules that take seconds to import; the agent imports them once, before it forks ranks. agent: a name where
    its ranks need an agent of their own (what it imports changes the interpreter); scenarios that name it share it.
    place: where its ranks run. build: it needs a torch that was built; one that does not runs on a tree as well.
    """

    name: str
    promise: str
    doc: str
    source: str
    path: str
    kind: Kind = Kind.GROUP
    world: tuple[int, int | None] = (2, None)
    after: tuple[str, ...] = ()
    policy: Policy = Policy.RIGHT_OR_REFUSED
    variants: tuple[Variant | None, ...] = (None,)
    needs: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = (Guard.OFF, Guard.ON)
    same: bool = False
    applies: SpecifierSet = field(default_factory=SpecifierSet)
    rendezvous: str = "tcp"
    stores: tuple[Store, ...] = (Store.STOCK,)
    placements: tuple[Placement, ...] = (Placement.TOGETHER,)
    tiers: tuple[str, ...] = ("full",)
    patience: float = 0.0
    warm: tuple[str, ...] = ()
    agent: str = ""
    works: bool = False
    alone: bool = False
    upgrade: bool = False
    place: Surroundings = Surroundings()
    build: bool = True
    judge: Callable[[Sequence[Report], World], Mapping[int, str] | Opinion] = field(compare=False)

    def without_judge(self) -> Self:
        """For a machine that only runs it: a judge is made from the file's text and can't be handed on."""
        return replace(self, judge=_judged_elsewhere)


def _judged_elsewhere(reports: Sequence[Report], world: World) -> Mapping[int, str]:
    raise NotImplementedError(f"the reports of {len(reports)} of {world.size} ranks are judged by the driver")


def with_bounds(scenarios: Mapping[str, Scenario], bounds: Mapping[str, float]) -> Mapping[str, Scenario]:
    """The scenarios with other bounds for what they measure. bounds: name of a parameter -> its value."""
    return {name: _bounded(scenario, bounds) for name, scenario in scenarios.items()} if bounds else scenarios


def _bounded(scenario: Scenario, bounds: Mapping[str, float]) -> Scenario:
    variants = tuple(
        variant and replace(variant, params={name: bounds.get(name, old) for name, old in variant.params.items()})
        for variant in scenario.variants
    )
    return replace(scenario, variants=variants)
