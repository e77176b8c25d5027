"""Plans a gate: the candidate with itself and with each release in both orders, and each release with itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from torchskew.declaration.candidate import BASE, CANDIDATE
from torchskew.errors import NothingSelectedError
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import MatrixSpec
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Guard, Placement, Store, Tier
from torchskew.model.versions import Version
from torchskew.planning.plan import Skew, make_plan, plan_of
from torchskew.planning.scenario import Scenario

# A tier of one minute has no time for worlds of three.
THREE_FROM = frozenset({Tier.CRITICAL, Tier.FULL})


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """What a gate combines. against: declared releases; base: whether a second subject runs beside the candidate."""

    against: tuple[str, ...]
    tier: Tier = Tier.FULL
    base: bool = False
    scenarios: tuple[str, ...] = ("*",)
    guard: tuple[Guard, ...] = (Guard.OFF,)
    store: tuple[Store, ...] = (Store.STOCK,)
    timeout: float = 10.0

    @property
    def subjects(self) -> tuple[str, ...]:
        """The versions that are compared with the releases."""
        return (CANDIDATE, BASE) if self.base else (CANDIDATE,)


def gate_plan(
    spec: GateSpec, versions: Mapping[str, Version], scenarios: Mapping[str, Scenario], runtime: str, seed: int
) -> Plan:
    """Every cell of the gate, each cell of the candidate next to the base's. versions: as the runtime gets them.

    A candidate without a build is tried in what needs none, whatever the tier, and nothing else runs.

    Raises:
        NothingSelectedError: no scenario of the tier fits.
    """
    built = all(versions[subject].built for subject in spec.subjects)
    chosen = of_tier(scenarios, spec.tier) if built else {n: each for n, each in scenarios.items() if not each.build}
    if not chosen:
        raise NothingSelectedError(f"nothing selected: no scenario is in tier {spec.tier}.")
    matrix = MatrixSpec(
        versions=(*spec.subjects, *spec.against),
        pairs=tuple(gate_skews(spec)),
        scenarios=spec.scenarios,
        guard=spec.guard,
        store=spec.store,
        timeout=spec.timeout,
    )
    plan = make_plan(matrix, versions, chosen, runtime, seed)
    kept = [cell for cell in plan.cells if not chosen[cell.scenario].upgrade or _is_upgrade(cell)]
    if not kept:
        names = ", ".join(dict.fromkeys(cell.scenario for cell in plan.cells))
        raise NothingSelectedError(f"nothing selected: {names} judges a release and then the candidate. Add --against.")
    return plan_of(kept, runtime, seed)


def _is_upgrade(cell: Cell) -> bool:
    """Whether it goes from a release to a subject of the gate."""
    return len(cell.skew) == 2 and [name in (CANDIDATE, BASE) for name in cell.skew] == [False, True]


def of_tier(scenarios: Mapping[str, Scenario], tier: Tier) -> Mapping[str, Scenario]:
    """The scenarios of a tier, with those that must pass before them; the tier full has every scenario."""
    if tier is Tier.FULL:
        return scenarios
    return with_needed({name for name, scenario in scenarios.items() if tier in scenario.tiers}, scenarios)


def with_needed(chosen: Iterable[str], scenarios: Mapping[str, Scenario]) -> Mapping[str, Scenario]:
    """These scenarios, with those that must pass before them."""
    names = set(chosen)
    while more := {after for name in names for after in scenarios[name].after if after in scenarios} - names:
        names |= more
    return {name: scenario for name, scenario in scenarios.items() if name in names}


def library_plan(
    spec: GateSpec,
    declared: MatrixSpec,
    versions: Mapping[str, Version],
    scenarios: Mapping[str, Scenario],
    place: tuple[str, int],
) -> Plan:
    """Every cell of a library's gate: the declared pairs and worlds, of the releases that it is held against.

    The library is in every environment, so there is no cell without the candidate. place: the runtime and the seed.

    Raises:
        NothingSelectedError: no scenario of the tier fits.
    """
    chosen = of_tier(scenarios, spec.tier)
    if not chosen:
        raise NothingSelectedError(f"nothing selected: no scenario of the library is in tier {spec.tier}.")
    pairs = declared.pairs if isinstance(declared.pairs, str) else _within(declared.pairs, spec.against)
    matrix = replace(
        declared,
        versions=spec.against,
        # Bisection infers what it does not run; a gate decides on what ran.
        pairs="all" if pairs == "boundary" else pairs,
        worlds=_within(declared.worlds, spec.against),
        scenarios=spec.scenarios,
        guard=spec.guard,
        store=spec.store,
        placement=(Placement.TOGETHER,),
        timeout=spec.timeout,
    )
    return make_plan(matrix, versions, chosen, *place)


def _within(skews: Iterable[Skew], names: Iterable[str]) -> tuple[Skew, ...]:
    return tuple(skew for skew in skews if set(skew) <= set(names))


def gate_skews(spec: GateSpec) -> Iterator[Skew]:
    """Controls, each subject with itself and with each release in both orders, and worlds of three with an odd rank."""
    for release in spec.against:
        yield (release, release)
    for subject in spec.subjects:
        yield (subject, subject)
    for release in spec.against:
        yield from ((subject, release) for subject in spec.subjects)
        yield from ((release, subject) for subject in spec.subjects)
    if spec.tier not in THREE_FROM:
        return
    for release in spec.against:
        yield (release,) * 3
        yield from ((subject, release, release) for subject in spec.subjects)
        yield from ((release, release, subject) for subject in spec.subjects)


def is_control(cell: Cell) -> bool:
    """Whether neither candidate nor base takes part, so that a failure can't be their fault."""
    return not {CANDIDATE, BASE}.intersection(cell.skew)


def controls(cells: tuple[Cell, ...]) -> Mapping[CellId, tuple[CellId, ...]]:
    """For each cell of a subject, the ids of its controls: the same scenario and conditions, one release only."""
    alone = {(*_conditions(cell), cell.skew[0], len(cell.skew)): cell.id for cell in cells if is_control(cell)}
    controls_of = {}
    for cell in cells:
        if not is_control(cell):
            releases = [name for name in dict.fromkeys(cell.skew) if name not in (CANDIDATE, BASE)]
            ids = (alone.get((*_conditions(cell), name, len(cell.skew))) for name in releases)
            controls_of[cell.id] = tuple(control for control in ids if control)
    return controls_of


def feature_controls(cells: tuple[Cell, ...]) -> Mapping[CellId, tuple[CellId, ...]]:
    """For each cell of the candidate, the controls that show which features it should have.

    They are those of the releases beside it; a cell without such releases has the controls of every release.
    """
    beside = controls(cells)
    every: dict[tuple[object, ...], tuple[CellId, ...]] = {}
    for cell in filter(is_control, cells):
        place = (*_conditions(cell), cell.world_size)
        every[place] = (*every.get(place, ()), cell.id)
    return {
        cell.id: beside[cell.id] or every.get((*_conditions(cell), cell.world_size), ())
        for cell in cells
        if CANDIDATE in cell.skew
    }


def bases(cells: tuple[Cell, ...]) -> Mapping[CellId, CellId]:
    """For each cell of the candidate, the id of the base's cell that differs only in the subject."""
    known = {(*_conditions(cell), cell.skew): cell.id for cell in cells}
    twins = {}
    for cell in cells:
        twin = tuple(BASE if name == CANDIDATE else name for name in cell.skew)
        if CANDIDATE in cell.skew and (other := known.get((*_conditions(cell), twin))):
            twins[cell.id] = other
    return twins


def _conditions(cell: Cell) -> tuple[object, ...]:
    return (cell.name, cell.conditions, cell.fault, cell.runtime)
