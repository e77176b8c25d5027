"""Plans PyTorch's own tests: which releases have which, their cells and those that control them. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise

from torchskew.errors import ConfigError, NothingSelectedError
from torchskew.model.cells import Cell, Plan, Variant
from torchskew.model.declared import MatrixSpec
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Json, Outcome, Store, Verdict
from torchskew.model.results import CellResult
from torchskew.model.versions import Version
from torchskew.planning.plan import Skew, make_plan, plan_of, worlds
from torchskew.planning.scenario import Scenario

LIST = "suite_tests"
MEET = "rendezvous_file"
# Each suite by the name that people use, and the scenario that runs its tests.
SUITES: Mapping[str, str] = {"distributed": "suite", "rpc": "suite_rpc"}
PAIRS = ("all", "neighbours", "controls")
DEFAULT_WORLD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteTest:
    """One test. ranks: how many it is written for; 0: as many as it is given."""

    suite: str
    name: str
    ranks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What one release has. lacks: suite -> why it can't be started."""

    version: str
    tests: frozenset[SuiteTest]
    lacks: Mapping[str, str]

    def lack(self, test: SuiteTest) -> str | None:
        """Why this release can't run the test, or None."""
        if test in self.tests:
            return None
        return f"{self.version}: {self.lacks.get(test.suite) or f'its suite has no test {test.name}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSpec:
    """What to run. pairs: one of PAIRS; world_sizes: empty for what the tests are written for.

    stores: STOCK for a file that all ranks share, as the suites do, and BRIDGE.
    """

    versions: tuple[str, ...]
    suites: tuple[str, ...] = ("distributed",)
    tests: tuple[str, ...] = ()
    pairs: str = "all"
    world_sizes: tuple[int, ...] = ()
    timeout: float = 20.0
    stores: tuple[Store, ...] = (Store.STOCK,)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuitePlan:
    """The plan, and the results of cells that need not run."""

    plan: Plan
    lacking: tuple[CellResult, ...]


def read_listing(version: str, payload: Mapping[str, Json]) -> Listing:
    """What `suite_tests` reported of a release; ConfigError where it is no such report."""
    tests, lacks = payload.get("tests"), payload.get("lacks")
    if not isinstance(tests, list) or not isinstance(lacks, dict):
        raise ConfigError(f"{version}: its list of tests can't be read: {payload!r:.200}.")
    found = set()
    for entry in tests:
        match entry:
            case [str() as suite, str() as name, int() as ranks]:
                found.add(SuiteTest(suite=suite, name=name, ranks=ranks))
            case _:
                raise ConfigError(f"{version}: its list of tests can't be read at {entry!r:.200}.")
    return Listing(version=version, tests=frozenset(found), lacks={str(key): str(lacks[key]) for key in lacks})


def suite_plan(
    spec: SuiteSpec,
    listings: Sequence[Listing],
    scenarios: Mapping[str, Scenario],
    versions: Mapping[str, Version],
    place: tuple[str, int],
) -> SuitePlan:
    """Every cell, after the lists and the rendezvous that they need. place: the runtime's name and the seed.

    Raises:
        ConfigError: a pattern without a test. NothingSelectedError: no test fits a world.
    """
    chosen = _chosen(spec, listings)
    runtime, seed = place
    cells: dict[CellId, Cell] = {}
    for suite in spec.suites:
        name = SUITES[suite]
        if not set(spec.stores) & set(scenarios[name].stores):
            raise NothingSelectedError(f"suite {suite} can't meet at a bridge: its ranks meet over a file.")
        tests = [test for test in chosen if test.suite == suite]
        for size in _sizes(spec, suite, tests):
            fitting = tuple(_variant(test) for test in tests if test.ranks in (0, size))
            matrix = MatrixSpec(
                versions=spec.versions,
                pairs=tuple(skews(spec, size)),
                scenarios=("*",),
                timeout=spec.timeout,
                store=spec.stores,
            )
            used = {
                LIST: scenarios[LIST],
                MEET: scenarios[MEET],
                name: replace(scenarios[name], variants=fitting, world=(size, size)),
            }
            cells.update({cell.id: cell for cell in make_plan(matrix, versions, used, runtime, seed).cells})
    by_version = {listing.version: listing for listing in listings}
    known = {(SUITES[test.suite], test.name): test for test in chosen}
    lacking = (_lacking(cell, known.get((cell.scenario, _test_name(cell))), by_version) for cell in cells.values())
    plan = plan_of(sorted(cells.values(), key=lambda cell: len(cell.skew)), runtime, seed)
    return SuitePlan(plan=plan, lacking=tuple(result for result in lacking if result))


def _test_name(cell: Cell) -> str:
    return cell.variant.name if cell.variant else ""


def _variant(test: SuiteTest) -> Variant:
    return Variant(name=test.name, predicted=())


def _chosen(spec: SuiteSpec, listings: Sequence[Listing]) -> list[SuiteTest]:
    """Every test that a release has and a pattern matches, by name."""
    every = sorted(
        {test for listing in listings for test in listing.tests if test.suite in spec.suites},
        key=lambda test: (spec.suites.index(test.suite), test.name, test.ranks),
    )
    missing = [suite for suite in spec.suites if not any(test.suite == suite for test in every)]
    if missing:
        whys = [f"{one.version}: {one.lacks.get(suite, 'no such suite')}" for suite in missing for one in listings]
        raise NothingSelectedError(f"no release has the suite {', '.join(missing)}. {'; '.join(whys)}.")
    problems = [_unmatched(pattern, every) for pattern in spec.tests if not any(_is(test, pattern) for test in every)]
    if problems:
        raise ConfigError(*problems)
    return [test for test in every if not spec.tests or any(_is(test, pattern) for pattern in spec.tests)]


def _is(test: SuiteTest, pattern: str) -> bool:
    """A pattern may leave out the class of a test."""
    return fnmatchcase(test.name, pattern) or fnmatchcase(test.name.rpartition(".")[2], pattern)


def _unmatched(pattern: str, tests: Sequence[SuiteTest]) -> str:
    names = [form for test in tests for form in dict.fromkeys((test.name, test.name.rpartition(".")[2]))]
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
    nearest = f" Near: {', '.join(near)}." if near else ""
    return f"--tests {pattern!r} matches none of {len(tests)} tests of these releases.{nearest}"


def _sizes(spec: SuiteSpec, suite: str, tests: Sequence[SuiteTest]) -> Iterator[int]:
    """The sizes of the worlds of one suite; NothingSelectedError where no test is written for any that was asked."""
    written = sorted({test.ranks for test in tests})
    sizes = spec.world_sizes or tuple(size or DEFAULT_WORLD for size in written)
    fitting = [size for size in sizes if 0 in written or size in written]
    if not fitting:
        asked, have = ", ".join(map(str, sizes)), ", ".join(map(str, written))
        raise NothingSelectedError(f"--world-size {asked}: the tests chosen of suite {suite} are for {have} ranks.")
    yield from dict.fromkeys(fitting)


def skews(spec: SuiteSpec, size: int) -> Iterator[Skew]:
    """The controls, then each pair in both orders, with the odd release at every place of a larger world."""
    yield from ((name,) * size for name in spec.versions)
    for pair in _pairs(spec):
        yield from worlds(pair, size)


def _pairs(spec: SuiteSpec) -> Iterator[tuple[str, str]]:
    names = spec.versions
    if spec.pairs == "all":
        yield from ((host, joiner) for host in names for joiner in names if host != joiner)
    elif spec.pairs == "neighbours":
        near = [*pairwise(names), *((name, names[-1]) for name in names[:-2])]
        yield from (pair for a, b in near for pair in ((a, b), (b, a)))


def controls(cells: Sequence[Cell]) -> Mapping[CellId, tuple[CellId, ...]]:
    """For each mixed cell, the same test, store and size of the world with each of its releases alone."""
    alone = {(cell.name, cell.skew, cell.store): cell.id for cell in cells if is_control(cell)}
    found = {}
    for cell in cells:
        if not is_control(cell):
            ids = (alone.get((cell.name, (name,) * cell.world_size, cell.store)) for name in dict.fromkeys(cell.skew))
            found[cell.id] = tuple(one for one in ids if one)
    return found


def skipped_alone(cells: Sequence[Cell], known: Mapping[CellId, CellResult]) -> Iterator[CellResult]:
    """The results of mixed cells that need not run: with one of its releases alone the suite skips the test.

    What the suite skips depends on the release, the machine and the size of the world, not on the other ranks; a rank
    that ran such a test would wait for those that skip it.
    """
    by_id = {cell.id: cell for cell in cells}
    for cell_id, alone in controls(cells).items():
        results = [known[control] for control in alone if control in known]
        if cell_id in known or not results or len(results) < len(alone):
            continue
        skipped = [result for result in results if result.verdict is Verdict.UNSUPPORTED]
        if skipped:
            cell = by_id[cell_id]
            ranks = (Outcome.UNSUPPORTED,) * cell.world_size
            reason = skipped[0].reason
            yield CellResult(cell=cell, verdict=Verdict.UNSUPPORTED, outcomes=ranks, reason=reason, inferred_from=alone)


def is_control(cell: Cell) -> bool:
    """Whether one release is on all ranks."""
    return len(set(cell.skew)) == 1


def narrowed(planned: SuitePlan, only: Sequence[str]) -> SuitePlan:
    """The cells that some pattern matches, with their controls and what they need.

    Raises:
        NothingSelectedError: a pattern without a match.
    """
    if not only:
        return planned
    cells = planned.plan.cells
    unmatched = [pattern for pattern in only if not any(fnmatchcase(cell.id, pattern) for cell in cells)]
    if unmatched:
        raise NothingSelectedError(
            *(f"--only {pattern!r} matches none of {len(cells)} cells." for pattern in unmatched)
        )
    wanted = {cell.id for cell in cells if any(fnmatchcase(cell.id, pattern) for pattern in only)}
    wanted |= {control for cell, ids in controls(cells).items() if cell in wanted for control in ids}
    wanted |= {need for cell in cells if cell.id in wanted for need in cell.needs}
    plan = plan_of([cell for cell in cells if cell.id in wanted], planned.plan.runtime, planned.plan.seed)
    return replace(planned, plan=plan, lacking=tuple(one for one in planned.lacking if one.cell.id in wanted))


def _lacking(cell: Cell, test: SuiteTest | None, listings: Mapping[str, Listing]) -> CellResult | None:
    """The result of a cell one of whose releases lacks the test; None for one that can run."""
    if test is None:
        return None
    whys = [why for name in dict.fromkeys(cell.skew) if (why := listings[name].lack(test))]
    if not whys:
        return None
    ranks = (Outcome.UNSUPPORTED,) * cell.world_size
    return CellResult(cell=cell, verdict=Verdict.UNSUPPORTED, outcomes=ranks, reason="; ".join(whys))
