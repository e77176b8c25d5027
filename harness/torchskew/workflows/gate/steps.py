"""The gate's first steps: what was asked, the candidate, its releases and baseline become a plan."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from torchskew.declaration.candidate import BASE, CANDIDATE, read_candidate, releases_against, with_packages
from torchskew.declaration.declare import check_requirement, for_runtime
from torchskew.declaration.fields import Problems, Table, parse
from torchskew.engine.provision import provision_all
from torchskew.errors import ConfigError, ProvisionError
from torchskew.judging.judge import public
from torchskew.model.cells import Plan
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Guard
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult
from torchskew.model.runs import RunKind
from torchskew.model.runtimes import RUNTIMES, choices, provides, sole_provider
from torchskew.model.versions import SourceKind, Version
from torchskew.planning.gate import GateSpec, gate_plan
from torchskew.planning.plan import narrow
from torchskew.planning.scenario import TIERS
from torchskew.planning.shard import Shard, parse_shard, split
from torchskew.record.record import Record
from torchskew.workflows.inputs import read_declaration, read_document, read_expectations, read_scenarios
from torchskew.workflows.matrix import Options, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked the gate; None means: as the declaration's [gate] says, else the default.

    requires: packages beside torch, as asked; beside: those that [gate] names where nobody asked.
    """

    candidate: str = ""
    torch: str | None = None
    base: str | None = None
    against: tuple[str, ...] = ()
    last: int | None = None
    baseline: Path | None = None
    tier: str | None = None
    runtime: str | None = None
    repeat: int = 1
    shard: str | None = None
    balance: Path | None = None
    update_baseline: bool = False
    requires: tuple[str, ...] = ()
    index: str | None = None
    beside: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The candidate as the last line names it."""
        return f"candidate {self.candidate}"


@dataclass(slots=True, kw_only=True)
class GateWork(Work):
    """What the gate's steps have made so far."""

    kind: ClassVar[RunKind] = RunKind.GATE
    request: Request
    spec: GateSpec = field(init=False)
    baseline: Path = field(init=False)
    shard: Shard | None = None
    repetitions: list[Mapping[CellId, CellResult]] = field(default_factory=list)


def read_the_gate(work: GateWork) -> None:
    """The declaration with its [gate], the candidate, the baseline and every scenario."""
    path, request = work.options.declaration, work.request
    work.declaration = replace(read_declaration(path), expectations=())
    work.scenarios = read_scenarios()
    request = work.request = _with_defaults(request, path)
    if request.repeat > 1 and work.options.resume:
        raise ConfigError("--repeat starts every cell afresh, so it can't be combined with --resume. Drop one.")
    subjects = {CANDIDATE: read_candidate(request.candidate, torch=request.torch, index=request.index)}
    if request.base:
        subjects[BASE] = read_candidate(request.base, BASE)
    versions = {**work.declaration.versions, **subjects}
    work.versions = {name: with_packages(one, request.beside) for name, one in versions.items()}
    work.baseline = request.baseline or path.with_name("baseline.toml")
    if request.baseline and not request.baseline.exists() and not request.update_baseline:
        raise ConfigError(f"--baseline {request.baseline}: there is no such file. --update-baseline begins one.")
    work.declaration = replace(work.declaration, expectations=read_expectations(work.baseline))
    # Somebody may be working on an interpreter's packages: the identity of its libraries does not tell.
    work.fresh = frozenset(name for name, one in subjects.items() if one.sources[0].kind is SourceKind.INTERPRETER)
    decided = sole_provider(list(subjects.values()))
    work.options = replace(
        work.options,
        runtime=work.options.runtime or decided or request.runtime,
        runtime_by="asked for" if work.options.runtime else "the candidate needs it" if decided else "declared",
        cache=work.options.cache and request.repeat == 1,
    )


def _with_defaults(request: Request, path: Path) -> Request:
    """What the command line left open comes from [gate]."""
    problems = Problems(path.name)
    table = Table(problems, "gate", Table(problems, "", parse(read_document(path))).get("gate", dict, {}))
    table.unknown(["candidate", "against", "baseline", "tier", "runtime", "requires"])
    runtime = table.choice("runtime", str, choices(), "") or None
    candidate = request.candidate or table.get("candidate", str, "")
    if not candidate and not problems.found:
        problems.add("gate", 'names no candidate. Give one: --candidate pip:torch==2.15.0, or candidate = "…" there.')
    written = table.get("baseline", str, "")
    tier = request.tier or table.choice("tier", str, TIERS, "full")
    against = request.against or (table.texts("against", ()) if request.last is None else ())
    packages = request.requires or table.texts("requires", ())
    for problem in filter(None, (check_requirement(text, torch=False) for text in packages)):
        problems.add("--requires" if request.requires else "gate.requires", problem)
    if problems.found:
        raise ConfigError(*problems.found)
    beside = path.with_name(written) if written else None
    known = request.baseline or beside
    made = replace(request, candidate=candidate, tier=tier, against=against, baseline=known)
    return replace(made, runtime=runtime, beside=packages)


def provision_the_subjects(work: GateWork) -> None:
    """The candidate first: what it reports tells its release, which the predictions need. A dry run makes nothing."""
    problems = Problems(Path(work.declaration.path).name)
    names = [name for name in (CANDIDATE, BASE) if name in work.versions]
    made = {name: for_runtime(work.versions[name], work.runtime.name, problems) for name in names}
    if problems.found:
        raise ConfigError(*(problem.replace("versions.", "--") for problem in problems.found))
    versions = dict(work.versions)
    found = {} if work.options.dry_run else provision_all(work.runtime, list(made.values()), work.watch)
    for name, version in made.items():
        environment = found.get(name)
        reports = None if environment is None or isinstance(environment, ProvisionError) else environment.reports
        versions[name] = replace(version, torch=version.torch or (public(reports) if reports else None))
    work.versions = versions


def plan_the_gate(work: GateWork) -> None:
    """Candidate, releases and scenarios become cells; --dry-run ends here."""
    request, options, name = work.request, work.options, work.runtime.name
    usable, chosen = _releases(work)
    work.versions = {**usable, **{n: work.versions[n] for n in (CANDIDATE, BASE) if n in work.versions}}
    work.spec = GateSpec(
        against=chosen,
        tier=request.tier or "full",
        base=request.base is not None,
        scenarios=options.scenarios or ("*",),
        guard=tuple(Guard(guard) for guard in options.guard) or (Guard.OFF,),
        timeout=options.timeout or work.declaration.matrix[name].timeout,
    )
    work.whole = _widest(work, tuple(usable))
    plan = gate_plan(work.spec, work.versions, work.scenarios, name, options.seed)
    work.plan = _part(work, narrow(plan, options.only))
    work.rerun = rerun(request, options)
    cells = len(work.plan.cells)
    of = f"shard {request.shard} of {len(plan.cells)} cells, " if work.shard else ""
    against = f"{request.subject} against {', '.join(chosen)} · tier {work.spec.tier}"
    times = f", each {request.repeat} times: {cells * request.repeat} runs" if request.repeat > 1 else ""
    work.watch.say(f"plan       {against} · {of}{cells} cells{times} · digest {work.plan.digest}")
    if options.dry_run:
        sys.stdout.writelines(
            f"{one.id}   predicted {','.join(one.predicted) or 'nothing'}\n" for one in work.plan.cells
        )
        work.exit_code = 0


def _releases(work: GateWork) -> tuple[Mapping[str, Version], tuple[str, ...]]:
    """The declared versions as this runtime gets them, and the names of those that the candidate is held against."""
    request, name = work.request, work.runtime.name
    declared = {n: work.versions[n] for n in work.declaration.versions}
    problems = Problems(Path(work.declaration.path).name)
    known = {n: v for n, v in declared.items() if provides(RUNTIMES[name], v)}
    usable = {n: for_runtime(version, name, problems) for n, version in known.items()}
    for asked in request.against:
        if asked in declared and asked not in usable:
            for_runtime(declared[asked], name, problems)
    if problems.found:
        raise ConfigError(*problems.found)
    listed = {n: usable[n] for n in work.declaration.matrix[name].versions if n in usable}
    named = request.against or request.last is not None
    return usable, releases_against(usable if named else listed, request.against, request.last)


def _widest(work: GateWork, every: tuple[str, ...]) -> Plan:
    """Every cell that a baseline may speak of: each declared release, tier and guard."""
    spec = replace(work.spec, against=every, tier="full", scenarios=("*",), guard=(Guard.OFF, Guard.ON))
    return gate_plan(spec, work.versions, work.scenarios, work.runtime.name, work.options.seed)


def _part(work: GateWork, plan: Plan) -> Plan:
    """The shard of the plan that was asked for. Its balance comes from a record that every shard is given alike.

    Never from the record in --out: that differs from machine to machine, and grows while a shard is resumed.
    """
    if work.request.shard is None:
        return plan
    index, count = parse_shard(work.request.shard)
    durations: Mapping[CellId, float] = {}
    if work.request.balance is not None:
        with Record.open(work.request.balance / "record.sqlite", create=False) as record:
            durations = record.durations()
    part, work.shard = split(plan, durations, index, count)
    return part


def rerun(request: Request, options: Options) -> Rerun:
    """The command that plans the same cells again, without what only narrowed or hurried it."""
    again = (
        Rerun(words=("torchskew", "gate"))
        .given("--declaration", [options.declaration] if options.declaration != Options().declaration else [])
        .given("--tier", [request.tier])
        .given("--baseline", [request.baseline])
        .given("--candidate", [request.candidate])
        .given("--torch", [request.torch])
        .given("--index", [request.index])
        .given("--base", [request.base])
        .given("--against", [",".join(request.against)])
    )
    for package in request.requires:
        again = again.with_option("--requires", package)
    return (
        again.given("--runtime", [options.runtime])
        .given("--guard", options.guard)
        .given("--timeout", [f"{options.timeout:g}"] if options.timeout else [])
    )
