"""The unit that is planned, run, judged and recorded, and the ordered plan of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchskew.model.ids import CellId, Conditions
from torchskew.model.outcomes import Guard, Json, Kind, Outcome, Placement, Policy, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One case of a scenario: its name, parameters for the rank function, settings per rank.

    env: settings for every rank; rank_env: by rank; predicted: outcomes per rank where the scenario knows.
    """

    name: str
    params: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    rank_env: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    predicted: tuple[Outcome, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """scenario x skew x conditions: the unit that is planned, run, judged and recorded.

    skew: declared version names, rank 0 first. needs: ids of cells whose failure blocks this one.
    environments: names of the provisioned environments by rank, where they are not the versions' own.
    id: what names the cell in patterns, reports and the record; it follows from the other fields.
    """

    scenario: str
    skew: tuple[str, ...]
    runtime: str
    kind: Kind = Kind.GROUP
    variant: Variant | None = None
    guard: Guard = Guard.OFF
    store: Store = Store.STOCK
    placement: Placement = Placement.TOGETHER
    policy: Policy = Policy.RIGHT_OR_REFUSED
    timeout: float = 10.0
    fault: str | None = None
    predicted: tuple[Outcome, ...] = ()
    needs: tuple[CellId, ...] = ()
    environments: tuple[str, ...] = ()
    id: CellId = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the id once: a decision asks for it once per cell and expectation."""
        object.__setattr__(self, "id", CellId.of(self.name, self.skew, self.runtime, self.conditions))

    @property
    def conditions(self) -> Conditions:
        """What its id names beside scenario, skew and runtime."""
        return Conditions(guard=self.guard, store=self.store, placement=self.placement)

    @property
    def name(self) -> str:
        """The scenario with its variant."""
        return f"{self.scenario}.{self.variant.name}" if self.variant and self.variant.name else self.scenario

    @property
    def provided(self) -> tuple[str, ...]:
        """The name of the environment that each rank runs in, rank 0 first."""
        return self.environments or self.skew

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return len(self.skew)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHead:
    """What a plan is besides its cells. digest names the plan: same declaration and seed, same digest."""

    runtime: str
    seed: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(PlanHead):
    """The ordered cells of a run."""

    cells: tuple[Cell, ...]
