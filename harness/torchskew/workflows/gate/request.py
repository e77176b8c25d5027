"""What a person asks the gate: candidate, releases and baseline; [gate] fills in what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from torchskew.declaration.candidate import BASE, CANDIDATE, read_candidate, with_candidate, with_packages
from torchskew.declaration.declare import check_requirement
from torchskew.declaration.fleet import asked_fleet
from torchskew.declaration.gate import GateTable, read_gate
from torchskew.declaration.local import located, package_name
from torchskew.errors import ConfigError
from torchskew.model.declared import Declaration, Expectation
from torchskew.model.outcomes import Store, Tier
from torchskew.model.reruns import Rerun
from torchskew.model.runtimes import choices, sole_provider
from torchskew.model.versions import SourceKind, Version
from torchskew.planning.scenario import Scenario, with_bounds
from torchskew.planning.snapshot import KEYS, from_text, held_against
from torchskew.runtimes.venv.projects import project_name
from torchskew.workflows.cell_steps import RuntimeWish, Scenarios, with_own
from torchskew.workflows.inputs import GATE_BASELINE, read_baseline, read_declaration, read_document, read_scenarios
from torchskew.workflows.options import Options

_NO_SNAPSHOT = "gate.snapshots or --against-snapshot names it; `torchskew gate --snapshot FILE` writes one."


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked on the command line; None or empty means: as [gate] says, else the default.

    package: a library beside torch. Without a candidate, it is what the gate decides on. snapshots: files with the
    state-dict keys of releases; write_snapshot: where those of the candidate go.
    """

    candidate: str = ""
    package: str = ""
    torch: str | None = None
    base: str | None = None
    against: tuple[str, ...] = ()
    last: int | None = None
    baseline: Path | None = None
    tier: Tier | None = None
    store: tuple[Store, ...] = ()
    repeat: int = 1
    shard: str | None = None
    balance: Path | None = None
    update_baseline: bool = False
    requires: tuple[str, ...] = ()
    index: str | None = None
    snapshots: tuple[Path, ...] = ()
    write_snapshot: Path | None = None

    @property
    def subject(self) -> str:
        """The candidate as the last line names it."""
        beside = f" with {self.package}" if self.package else ""
        return f"package {self.package}" if self.of_library else f"candidate {self.candidate}{beside}"

    @property
    def of_library(self) -> bool:
        """Whether the gate decides on a library over the releases, and not on a torch beside them."""
        return bool(self.package) and not self.candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class GateInputs:
    """Everything that the gate is about. request: with what [gate] says.

    versions: the declared ones, the candidate and the base, by name. fresh: those of which no earlier result counts.
    """

    request: Request
    declaration: Declaration
    versions: Mapping[str, Version]
    baseline: Path
    expectations: tuple[Expectation, ...]
    fresh: frozenset[str]

    @property
    def subjects(self) -> Mapping[str, Version]:
        """What is held against the releases: the candidate and, where one was asked for, the base."""
        return {name: self.versions[name] for name in (CANDIDATE, BASE) if name in self.versions}

    @property
    def releases(self) -> Mapping[str, Version]:
        """The declared versions."""
        return {name: self.versions[name] for name in self.declaration.versions}


def read_the_request(options: Options, request: Request) -> tuple[GateInputs, Scenarios, RuntimeWish]:
    """The declaration with its [gate], the candidate, the baseline and every scenario."""
    path = options.declaration
    declaration, table = (
        read_declaration(path),
        read_gate(replace(read_document(path), path=str(path.absolute())), choices()),
    )
    if request.repeat > 1 and options.resume:
        raise ConfigError("--repeat runs every cell anew, so it excludes --resume. Remove one of them.")
    if request.update_baseline and request.shard:
        raise ConfigError(
            "--update-baseline needs the decision over the whole plan, and --shard runs a part of it. Remove one."
        )
    known = _completed(request, table, path)
    subjects = _subjects(known)
    versions = {**declaration.versions, **subjects}
    shipped = with_bounds(with_snapshots(read_scenarios(), known.snapshots), table.bounds)
    scenarios = with_own(shipped, declaration)
    packages = _with_those_of_scenarios(_packages(request, table), options, scenarios, known.tier)
    baseline = known.baseline or path.with_name(GATE_BASELINE)
    if known.baseline and not baseline.exists() and not known.update_baseline:
        raise ConfigError(f"--baseline {baseline}: there is no such file. --update-baseline writes a new one.")
    inputs = GateInputs(
        request=known,
        declaration=replace(declaration, expectations=()),
        versions={
            name: with_candidate(with_packages(version, packages), known.package, project_name)
            for name, version in versions.items()
        },
        baseline=baseline,
        expectations=read_baseline(baseline),
        # Somebody may be changing an interpreter's packages: its libraries are not part of its identity.
        fresh=frozenset(
            name for name, subject in subjects.items() if subject.sources[0].kind is SourceKind.INTERPRETER
        ),
    )
    return inputs, scenarios, _runtime(options, inputs, table)


def with_snapshots(scenarios: Mapping[str, Scenario], paths: Sequence[Path]) -> Mapping[str, Scenario]:
    """The scenarios, and the one that compares a version with the snapshots of keys in these files."""
    if not paths:
        return scenarios
    texts = [(path, read_document(path, _NO_SNAPSHOT).text) for path in paths]
    held = held_against(scenarios[KEYS], [from_text(text, str(path)) for path, text in texts])
    return {**scenarios, held.name: held}


def _completed(request: Request, table: GateTable, path: Path) -> Request:
    """The request with what the command line left open."""
    problems = [
        f"--requires {problem}" for text in request.requires if (problem := check_requirement(text, torch=False))
    ]
    if request.package and (problem := check_requirement(request.package, torch=False)):
        problems.append(f"--candidate-package {problem}")
    # What the command line names is the candidate: a package there is not held beside the torch of [gate].
    candidate = request.candidate or ("" if request.package else table.candidate)
    package = located(request.package, str(Path.cwd())) if request.package else table.package
    if not candidate and not package:
        names = (
            'Give one: --candidate pip:torch==2.15.0 or --candidate-package dist/mylib.whl, or candidate = "…" there.'
        )
        problems.append(f"{path.name}: gate names no candidate. {names}")
    if problems:
        raise ConfigError(*problems)
    return replace(
        request,
        candidate=candidate,
        package=package,
        tier=request.tier or table.tier or Tier.FULL,
        store=request.store or table.store,
        against=request.against or (table.against if request.last is None else ()),
        snapshots=request.snapshots or tuple(path.parent / name for name in table.snapshots),
        baseline=request.baseline or (path.parent / table.baseline if table.baseline else None),
    )


def _packages(request: Request, table: GateTable) -> tuple[str, ...]:
    """What is installed beside torch everywhere; what the command line names is relative to where it was typed."""
    return tuple(located(text, str(Path.cwd())) for text in request.requires) or table.requires


def _with_those_of_scenarios(
    packages: tuple[str, ...], options: Options, scenarios: Scenarios, tier: Tier | None
) -> tuple[str, ...]:
    """These packages, and what the scenarios require that --scenarios or --only names; without either, the tier's."""
    patterns = [*options.scenarios, *(pattern.split("/")[0].split(".")[0] for pattern in options.only)]
    named = [
        scenario
        for name, scenario in scenarios.by_name.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns if pattern != "*")
        or (not patterns and tier in scenario.tiers)
    ]
    known = {package_name(text) for text in packages}
    more = dict.fromkeys(text for scenario in named for text in scenario.requires if package_name(text) not in known)
    return (*packages, *more)


def _subjects(request: Request) -> Mapping[str, Version]:
    if request.of_library:
        if given := [name for name in ("torch", "base", "index") if getattr(request, name)]:
            raise ConfigError(
                f"--{given[0]} is about a candidate torch, and --candidate-package is the candidate here."
            )
        return {}
    subjects = {CANDIDATE: read_candidate(request.candidate, torch=request.torch, index=request.index)}
    return {**subjects, BASE: read_candidate(request.base, BASE)} if request.base else subjects


def _runtime(options: Options, inputs: GateInputs, table: GateTable) -> RuntimeWish:
    """The one that was asked for; the only one that can provide the candidate and the base; the declared one."""
    subjects = tuple(inputs.subjects.values())
    declared = table.runtime or next(iter(inputs.declaration.matrix.values())).runtime
    decided = sole_provider(subjects) if subjects else None
    return RuntimeWish(
        name=options.runtime or decided or declared,
        by="asked for" if options.runtime else "the candidate needs it" if decided else "declared",
        versions=dict.fromkeys(inputs.declaration.matrix, subjects),
        fleet=asked_fleet(inputs.declaration.fleet, options.fleet),
    )


def rerun(request: Request, options: Options) -> Rerun:
    """The command that plans the same cells again, without what only narrowed or hurried it."""
    command = (
        Rerun(words=("torchskew", "gate"))
        .given("--declaration", options.own_declaration)
        .given("--tier", [request.tier])
        .given("--baseline", [request.baseline])
        .given("--candidate-package", [request.package])
        .given("--candidate", [request.candidate])
        .given("--torch", [request.torch])
        .given("--index", [request.index])
        .given("--base", [request.base])
        .given("--against", [",".join(request.against)])
    )
    for snapshot in request.snapshots:
        command = command.with_option("--against-snapshot", str(snapshot))
    for package in request.requires:
        command = command.with_option("--requires", package)
    return (
        command.given("--runtime", [options.runtime])
        .given("--guard", options.guard)
        .given("--store", request.store)
        .given("--timeout", [f"{options.timeout:g}"] if options.timeout else [])
    )
