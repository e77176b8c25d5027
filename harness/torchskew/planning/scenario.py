"""What a scenario is, and what its judge is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.specifiers import SpecifierSet

from torchskew.model.cells import Variant
from torchskew.model.outcomes import Guard, Json, Kind, Policy, Tier

Report = Mapping[str, Json] | None
# What a scenario does that does not say otherwise.
GUARDS = {Kind.GROUP: (Guard.OFF, Guard.ON), Kind.HANDOVER: (Guard.OFF,), Kind.SOLO: (Guard.OFF,)}
WORLDS: Mapping[Kind, tuple[int, int | None]] = {Kind.GROUP: (2, None), Kind.HANDOVER: (2, None), Kind.SOLO: (1, 1)}
RENDEZVOUS = ("tcp", "file", "store", "none")
TIERS = tuple(tier.value for tier in Tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a judge knows besides the reports. skip: pattern of cases -> why a version lacks them."""

    size: int
    skew: tuple[str, ...]
    params: Mapping[str, Json]
    skip: Mapping[str, str]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One promise. world: smallest and largest number of ranks (None: no limit).

    after: scenarios whose failure for the same skew blocks this one. same: the same release on every rank.
    rendezvous: how its ranks meet, for the prediction. tiers: which parts of a gate run it.
    patience: its timeout in seconds is never shorter, because on a busy machine its work (not waiting) takes long.
    warm: modules that take seconds to import; the agent imports them once, before it forks ranks. agent: a name where
    its ranks need an agent of their own (what it imports changes the interpreter); scenarios that name it share it.
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
    guards: tuple[Guard, ...] = (Guard.OFF, Guard.ON)
    same: bool = False
    applies: SpecifierSet = field(default_factory=SpecifierSet)
    rendezvous: str = "tcp"
    tiers: tuple[str, ...] = ("full",)
    patience: float = 0.0
    warm: tuple[str, ...] = ()
    agent: str = ""
    judge: Callable[[Sequence[Report], World], Mapping[int, str]] = field(compare=False)
