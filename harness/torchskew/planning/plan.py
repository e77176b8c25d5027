"""Turns a declaration and scenarios into the ordered cells of a run. Pure: the same input gives the same plan."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise

from packaging.version import Version as Release

from torchskew.errors import ConfigError, NothingSelectedError
from torchskew.model.cells import Cell, Plan, Variant
from torchskew.model.declared import MatrixSpec
from torchskew.model.ids import CellId, Conditions
from torchskew.model.outcomes import Guard, Kind, Outcome, Placement, Store
from torchskew.model.versions import Version
from torchskew.planning.scenario import Scenario
from torchskew.releases import eras

Skew = tuple[str, ...]
# Waiting for a timeout of the code under test takes at most this much longer than the timeout: the store overshot by
# 30 % when measured, and a group may wait in the rendezvous and again in a collective.
HANG_FACTOR, HANG_GRACE = 2.0, 8.0
QUICK = 0.1  # seconds of a cell that waits for no timeout


def deadline(cell: Cell) -> float:
    """Seconds after which a rank of this cell that has not ended is a HANG."""
    return cell.timeout * HANG_FACTOR + HANG_GRACE


def predicted_seconds(cell: Cell) -> float:
    """Seconds that a cell is predicted to take; without a prediction it may hang, so those of a hang."""
    if not cell.predicted or Outcome.HANG in cell.predicted:
        return deadline(cell)
    return cell.timeout if Outcome.TIMEOUT in cell.predicted else QUICK


def make_plan(
    spec: MatrixSpec, versions: Mapping[str, Version], scenarios: Mapping[str, Scenario], runtime: str, seed: int = 0
) -> Plan:
    """Every cell that the declaration asks for, in order. versions: as the runtime gets them (declare.for_runtime).

    Raises:
        ConfigError: a pattern that matches nothing. NothingSelectedError: no scenario fits any skew.
    """
    names = matching(spec.scenarios, scenarios, "scenario")
    context = _Context(spec, versions, runtime)
    cells = [cell for skew in skews(spec) for name in names for cell in _cells(scenarios[name], skew, context)]
    if not cells:
        elsewhere = without_bridge(spec.store, names, scenarios)
        fix = f" {', '.join(elsewhere)}: no bridge, because its ranks meet elsewhere. Add stock to the stores."
        fix = fix if elsewhere else ""
        if together := without_spread(spec.placement, names, scenarios):
            fix += f" {', '.join(together)}: needs its ranks on one machine. Add together to the placements."
        trees = ", ".join(name for name in spec.used if name in versions and not versions[name].built)
        fix += f" {trees}: a source tree, in which only scenarios with BUILD = False run." if trees else ""
        raise NothingSelectedError(f"nothing selected: no scenario fits any skew of the declaration.{fix}")
    return plan_of(_ordered(cells, scenarios), runtime, seed)


def predicted(plan: Plan, scenarios: Mapping[str, Scenario], versions: Mapping[str, Version]) -> Plan:
    """The plan with a prediction for every cell whose releases are all known."""
    cells = tuple(
        replace(cell, predicted=_predict(scenarios[cell.scenario], cell.skew, _Conditions.of(cell), versions))
        if all(name in versions for name in cell.skew)
        else cell
        for cell in plan.cells
    )
    return replace(plan, cells=cells)


def narrow(plan: Plan, only: Iterable[str]) -> Plan:
    """The cells that some pattern matches; a pattern without a match is an error that names the nearest ids."""
    patterns = list(only)
    if not patterns:
        return plan
    problems = [_unmatched(p, plan.cells) for p in patterns if not any(fnmatchcase(c.id, p) for c in plan.cells)]
    if problems:
        raise NothingSelectedError(*problems)
    chosen = [cell for cell in plan.cells if any(fnmatchcase(cell.id, pattern) for pattern in patterns)]
    return plan_of(chosen, plan.runtime, plan.seed)


def plan_of(cells: Sequence[Cell], runtime: str, seed: int) -> Plan:
    """A plan whose cells need only cells of the same plan: a cell that is not selected can't block others."""
    ids = {cell.id for cell in cells}
    kept = tuple(replace(cell, needs=tuple(need for need in cell.needs if need in ids)) for cell in cells)
    lines = [json.dumps([c.id, c.timeout, c.policy, c.fault]) for c in kept]
    digest = hashlib.sha256("\n".join([str(seed), *lines]).encode()).hexdigest()[:16]
    return Plan(cells=kept, runtime=runtime, seed=seed, digest=digest)


def matching(patterns: Iterable[str], names: Iterable[str], what: str) -> list[str]:
    """The names that some pattern matches, in their own order; ConfigError for a pattern without a match."""
    known, wanted = list(names), list(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ConfigError(f"{what} pattern {pattern!r} matches nothing. Known: {', '.join(known)}.")
    return [name for name in known if any(fnmatchcase(name, pattern) for pattern in wanted)]


def skews(spec: MatrixSpec) -> list[Skew]:
    """Every assignment of versions to ranks, rank 0 first; single ranks come first."""
    solo: list[Skew] = [(name,) for name in spec.versions]
    if not isinstance(spec.pairs, str):
        return _unique(solo, spec.pairs, spec.worlds)
    pairs = _pairs(spec)
    every = [worlds(pair, size) for size in spec.world_sizes for pair in pairs]
    return _unique(solo, (skew for world in every for skew in world), spec.worlds)


def _unique(*groups: Iterable[Skew]) -> list[Skew]:
    return list(dict.fromkeys(skew for group in groups for skew in group))


def _pairs(spec: MatrixSpec) -> list[tuple[str, str]]:
    """Ordered pairs; "boundary" plans all of them, and bisection then decides which have to run."""
    names = spec.versions
    if spec.pairs == "neighbours":
        near = [pair for a, b in pairwise(names) for pair in ((a, b), (b, a))]
        return [(name, name) for name in names] + near
    return [(first, second) for first in names for second in names]


def oldest_first(versions: Mapping[str, Version]) -> tuple[str, ...]:
    """The versions by release, oldest first; ConfigError names those whose release is unknown."""
    unknown = ", ".join(name for name, version in versions.items() if version.torch is None)
    if unknown:
        raise ConfigError(f'pairs = "boundary" needs to know the release of {unknown}. Add torch = "X.Y.Z" to it.')
    return tuple(sorted(versions, key=lambda name: Release(str(versions[name].torch))))


def worlds(pair: tuple[str, str], size: int) -> list[Skew]:
    """The worlds of one size for a pair: the pair itself, or one odd rank at each position."""
    first, second = pair
    if size == 2:
        return [pair]
    if first == second:
        return [(first,) * size]
    return [tuple(second if rank == odd else first for rank in range(size)) for odd in range(size)]


@dataclass(frozen=True, slots=True)
class _Context:
    spec: MatrixSpec
    versions: Mapping[str, Version]
    runtime: str


@dataclass(frozen=True, slots=True)
class _Conditions:
    """What tells the cells of one scenario and skew apart."""

    variant: Variant | None
    named: Conditions

    @classmethod
    def of(cls, cell: Cell) -> _Conditions:
        return cls(cell.variant, cell.conditions)


def _cells(scenario: Scenario, skew: Skew, context: _Context) -> list[Cell]:
    smallest, largest = scenario.world
    if not smallest <= len(skew) <= (largest or len(skew)) or (len(skew) == 1) != (scenario.kind is Kind.SOLO):
        return []
    if scenario.same and len(set(skew)) > 1:
        return []
    if scenario.build and not all(context.versions[name].built for name in skew):
        return []
    return [
        _cell(scenario, skew, _Conditions(variant, Conditions(guard=guard, store=store, placement=placement)), context)
        for variant in scenario.variants
        for guard in scenario.guards
        if guard in context.spec.guard or (guard in (Guard.HOST, Guard.JOINERS) and Guard.ON in context.spec.guard)
        for store in _stores(scenario, guard)
        if store in context.spec.store
        for placement in placements_of(scenario)
        if placement in context.spec.placement
    ]


def _stores(scenario: Scenario, guard: Guard) -> tuple[Store, ...]:
    """The guard looks for the store that rank 0 hosts, and refuses the mixes that a bridge is for."""
    return scenario.stores if guard is Guard.OFF else (Store.STOCK,)


def placements_of(scenario: Scenario) -> tuple[Placement, ...]:
    """Where its ranks can be. A cell that measures has one machine for itself, and only groups can be spread."""
    apart = scenario.kind is Kind.GROUP and not scenario.alone
    return scenario.placements if apart else (Placement.TOGETHER,)


def without_bridge(
    stores: Iterable[Store], patterns: Iterable[str], scenarios: Mapping[str, Scenario]
) -> tuple[str, ...]:
    """The scenarios, by name, whose groups a plan with bridges leaves without one; () where it has no bridge."""
    if Store.BRIDGE not in stores:
        return ()
    groups = (scenarios[name] for name in matching(patterns, scenarios, "scenario"))
    return tuple(
        each.name
        for each in groups
        if each.kind is Kind.GROUP and not any(Store.BRIDGE in _stores(each, guard) for guard in each.guards)
    )


def without_spread(
    placements: Iterable[Placement], patterns: Iterable[str], scenarios: Mapping[str, Scenario]
) -> tuple[str, ...]:
    """The scenarios, by name, whose groups a plan of spread ranks leaves together; () where it spreads none."""
    if Placement.SPREAD not in placements:
        return ()
    groups = (scenarios[name] for name in matching(patterns, scenarios, "scenario"))
    return tuple(
        each.name for each in groups if each.kind is Kind.GROUP and Placement.SPREAD not in placements_of(each)
    )


def _cell(scenario: Scenario, skew: Skew, conditions: _Conditions, context: _Context) -> Cell:
    named = conditions.named
    return Cell(
        scenario=scenario.name,
        skew=skew,
        runtime=context.runtime,
        kind=scenario.kind,
        variant=conditions.variant,
        policy=scenario.policy,
        timeout=max(context.spec.timeout, scenario.patience),
        predicted=_predict(scenario, skew, conditions, context.versions),
        guard=named.guard,
        store=named.store,
        placement=named.placement,
        needs=tuple(CellId.of(after, skew, context.runtime, named) for after in scenario.after),
    )


def _predict(
    scenario: Scenario, skew: Skew, conditions: _Conditions, versions: Mapping[str, Version]
) -> tuple[Outcome, ...]:
    variant = conditions.variant
    declared = [versions[name] for name in skew]
    if lacking(scenario, declared):
        return (Outcome.UNSUPPORTED,) * len(skew)
    if variant and variant.predicted is not None:
        return variant.predicted if len(variant.predicted) == len(skew) else ()
    every, rank_env = (variant.env, variant.rank_env) if variant else ({}, {})
    situation = eras.Situation(
        torch=tuple(version.torch for version in declared),
        env=tuple({**version.env, **every, **rank_env.get(rank, {})} for rank, version in enumerate(declared)),
        rendezvous=scenario.rendezvous,
        guard=conditions.named.guard,
        store=conditions.named.store,
        kind=scenario.kind,
        scenario=f"{scenario.name}.{variant.name}" if variant else scenario.name,
        python=tuple(version.python for version in declared),
        numpy=tuple(version.numpy for version in declared),
    )
    return eras.predict(situation)


def lacking(scenario: Scenario, versions: Iterable[Version]) -> str | None:
    """Why the scenario does not apply to one of these versions, or None."""
    for version in versions:
        release = version.torch and Release(version.torch).base_version
        if release and not scenario.applies.contains(release, prereleases=True):
            return f"{version.name}: {scenario.name} applies to releases {scenario.applies}"
    return None


def _ordered(cells: list[Cell], scenarios: Mapping[str, Scenario]) -> list[Cell]:
    """Small worlds first, then cells without needs, then by scenario: the order of every report."""
    for cell in cells:
        for after in scenarios[cell.scenario].after:
            if after not in scenarios:
                raise ConfigError(f"{scenarios[cell.scenario].path}: AFTER names {after!r}, which is no scenario.")
    order = {name: index for index, name in enumerate(scenarios)}
    return sorted(cells, key=lambda cell: (len(cell.skew), bool(cell.needs), order[cell.scenario]))


def _unmatched(pattern: str, cells: Sequence[Cell]) -> str:
    near = difflib.get_close_matches(pattern, [cell.id for cell in cells], n=3, cutoff=0.4)
    nearest = f" Near: {', '.join(near)}." if near else ""
    return (
        f"--only {pattern!r} matches none of {len(cells)} cells.{nearest} The same command with --dry-run lists them."
    )
