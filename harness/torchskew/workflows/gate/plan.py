"""The gate's plan: the candidate against its releases, or the shard of it that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torchskew.declaration.candidate import BASE, releases_against
from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.declaration.local import package_name
from torchskew.engine.session import Session
from torchskew.errors import ConfigError
from torchskew.model.cells import Plan
from torchskew.model.declared import Declaration
from torchskew.model.outcomes import Guard, Store, Tier
from torchskew.model.runs import Selection, Shard
from torchskew.model.runtimes import RUNTIMES, provides
from torchskew.model.versions import Version
from torchskew.planning.gate import GateSpec, gate_plan, library_plan, of_tier, with_needed
from torchskew.planning.plan import narrow, without_bridge
from torchskew.planning.scenario import Scenario
from torchskew.workflows.cell_steps import Planned, Scenarios
from torchskew.workflows.gate.request import GateInputs, Request, rerun
from torchskew.workflows.options import Options
from torchskew.workflows.records import part_of


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """What the plan is about. shard: which part of it this run is, where one was asked for.

    selection: what a green run is the measure for; None where only some cells were asked for.
    """

    spec: GateSpec
    selection: Selection | None
    shard: Shard | None = None


def plan_the_gate(
    options: Options, inputs: GateInputs, scenarios: Scenarios, session: Session
) -> tuple[GatePlan, Planned]:
    """Candidate, releases and scenarios become cells."""
    request, runtime = inputs.request, session.runtime.name
    usable, against = _releases(inputs, runtime)
    versions = {**usable, **_subjects(inputs, runtime)}
    spec = _spec(options, inputs, against, runtime)
    known = _of_library(scenarios, inputs.declaration, request) if request.of_library else scenarios.by_name

    def planned(spec: GateSpec, versions: Mapping[str, Version] = versions) -> Plan:
        if request.of_library:
            return library_plan(spec, inputs.declaration.matrix[runtime], versions, known, (runtime, options.seed))
        return gate_plan(spec, versions, known, runtime, options.seed)

    plan, shard = part_of(narrow(planned(spec), options.only), request.shard, request.balance)
    every = shard.cells if shard else len(plan.cells)
    widest = replace(spec, against=tuple(usable), tier=Tier.FULL, scenarios=("*",), guard=(Guard.OFF, Guard.ON))
    whole = planned(replace(widest, store=tuple(Store)), _as_if_built(versions))
    of = f"shard {request.shard} of {every} cells, " if shard else ""
    held = [*against, *(f"the keys in {path.name}" for path in request.snapshots)]
    built = all(version.built for version in inputs.subjects.values())
    extent = f"tier {spec.tier}" if built else "what needs no build"
    about = f"{request.subject} against {', '.join(held)} · {extent}"
    repeat, cells = request.repeat, len(plan.cells)
    times = f", each {repeat} times: {cells * repeat} runs" if repeat > 1 else ""
    session.watch.say(f"plan       {about} · {of}{cells} cells{times} · digest {plan.digest}")
    if elsewhere := without_bridge(spec.store, spec.scenarios, of_tier(known, spec.tier)):
        session.watch.say(f"store      no bridge for those that meet elsewhere: {', '.join(elsewhere)}")
    return (
        GatePlan(spec=spec, selection=_selection(options, spec, request, runtime), shard=shard),
        Planned(
            plan=plan,
            versions=versions,
            rerun=rerun(request, options),
            whole=(*whole.cells, *plan.cells),
            expectations=inputs.expectations,
        ),
    )


def _as_if_built(versions: Mapping[str, Version]) -> Mapping[str, Version]:
    """The versions, source trees as what will be built of them: a baseline speaks of that as well."""
    return {name: each if each.built else replace(each, sources=()) for name, each in versions.items()}


def _spec(options: Options, inputs: GateInputs, against: tuple[str, ...], runtime: str) -> GateSpec:
    return GateSpec(
        against=against,
        tier=inputs.request.tier or Tier.FULL,
        base=BASE in inputs.versions,
        scenarios=options.scenarios or ("*",),
        guard=tuple(Guard(guard) for guard in options.guard) or (Guard.OFF,),
        store=inputs.request.store or (Store.STOCK,),
        timeout=options.timeout or inputs.declaration.matrix[runtime].timeout,
    )


def _subjects(inputs: GateInputs, runtime: str) -> Mapping[str, Version]:
    """Candidate and base as this runtime gets them."""
    problems = Problems(Path(inputs.declaration.path).name)
    by_name = {
        name: for_runtime(version, runtime, problems, at=f"--{name}") for name, version in inputs.subjects.items()
    }
    if problems.texts:
        raise ConfigError(*problems.texts)
    return by_name


def _releases(inputs: GateInputs, runtime: str) -> tuple[Mapping[str, Version], tuple[str, ...]]:
    """The declared versions as this runtime gets them, and the names of those that the candidate is held against."""
    request, declared = inputs.request, inputs.releases
    problems = Problems(Path(inputs.declaration.path).name)
    can = {name: version for name, version in declared.items() if provides(RUNTIMES[runtime], version)}
    usable = {name: for_runtime(version, runtime, problems) for name, version in can.items()}
    for name in request.against:
        if name in declared and name not in usable:
            for_runtime(declared[name], runtime, problems)
    if problems.texts:
        raise ConfigError(*problems.texts)
    listed = {name: usable[name] for name in inputs.declaration.matrix[runtime].versions if name in usable}
    named = request.against or request.last is not None
    if request.snapshots and not named:  # the files stand for their releases
        return usable, ()
    return usable, releases_against(usable if named else listed, request.against, request.last)


def _of_library(scenarios: Scenarios, declaration: Declaration, request: Request) -> Mapping[str, Scenario]:
    """The user's own scenarios, and those that must pass before them."""
    if not scenarios.own:
        fix = 'Write some, and name their folder: [scenarios] path = "scenarios".'
        raise ConfigError(
            f"{Path(declaration.path).name}: {request.subject} has no scenarios of its own to be held against. {fix}"
        )
    return with_needed(scenarios.own, scenarios.by_name)


def _selection(options: Options, spec: GateSpec, request: Request, runtime: str) -> Selection | None:
    """What a green run is the measure for: the same releases, tier and conditions."""
    if options.only or options.scenarios:
        return None
    return Selection(
        runtime=runtime,
        against=spec.against,
        tier=spec.tier,
        guard=spec.guard,
        store=spec.store,
        base=spec.base,
        package=package_name(request.package) if request.package else "",
    )
