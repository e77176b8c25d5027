"""The matrix: every cell of a declaration, run and judged; its steps are the tuple at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torchskew.declaration.declare import all_for_runtime, for_runtime
from torchskew.declaration.fields import Problems
from torchskew.declaration.fleet import asked_fleet
from torchskew.engine.ledger import Ledger
from torchskew.engine.progress import Watch
from torchskew.engine.session import Session
from torchskew.errors import ConfigError
from torchskew.model.cells import Cell
from torchskew.model.declared import Declaration, FleetSpec, MatrixSpec
from torchskew.model.outcomes import Guard, Placement, Store
from torchskew.model.reruns import Rerun
from torchskew.model.runtimes import RUNTIMES
from torchskew.model.versions import Version
from torchskew.planning import search
from torchskew.planning.plan import make_plan, matching, narrow, oldest_first, without_bridge, without_spread
from torchskew.workflows.cell_steps import (
    Divided,
    Planned,
    Ready,
    Results,
    RuntimeWish,
    Scenarios,
    begin_or_resume,
    check_output,
    choose_the_runtime,
    find_the_unmatched,
    finish_record,
    hold_against_the_baseline,
    in_order,
    interruptible,
    mark_the_shard,
    open_record,
    provision,
    recall,
    run_cells,
    stop_at_a_dry_run,
    sweep,
    with_own,
    write_the_reports,
)
from torchskew.workflows.inputs import read_declaration, read_scenarios
from torchskew.workflows.options import Options
from torchskew.workflows.records import part_of
from torchskew.workflows.steps import execute

_NO_PARTS = "--shard can't divide --pairs boundary: which cells run depends on the results of others. Use all pairs."


def read_the_declaration(options: Options) -> tuple[Declaration, Scenarios, RuntimeWish]:
    """Read torchskew.toml, its expectations and every scenario."""
    declaration = read_declaration(options.declaration)
    declared = next(iter(declaration.matrix.values())).runtime
    wish = RuntimeWish(
        name=options.runtime or declared,
        by="asked for" if options.runtime else "declared",
        versions=_used(declaration, options),
        fleet=asked_fleet(declaration.fleet, options.fleet),
    )
    return declaration, with_own(read_scenarios(), declaration), wish


def _used(declaration: Declaration, options: Options) -> Mapping[str, tuple[Version, ...]]:
    """The versions that each runtime would have to provide for the selected matrix."""
    specs = {name: _narrowed(spec, options, declaration) for name, spec in declaration.matrix.items()}
    return {name: tuple(declaration.versions[used] for used in spec.used) for name, spec in specs.items()}


def make_the_plan(
    options: Options, declaration: Declaration, scenarios: Scenarios, session: Session
) -> tuple[Planned, Divided]:
    """Declaration, options and scenarios become cells."""
    name = session.runtime.name
    spec = _narrowed(declaration.matrix[name], options, declaration)
    used = {version: declaration.versions[version] for version in spec.used}
    versions = all_for_runtime(used, name, Path(declaration.path).name)
    chosen_cells = make_plan(spec, versions, scenarios.by_name, name, options.seed)
    _check_placement(spec, asked_fleet(declaration.fleet, options.fleet), name)
    if options.shard and spec.pairs == "boundary":
        raise ConfigError(_NO_PARTS)
    plan, shard = part_of(narrow(chosen_cells, options.only), options.shard, options.balance)
    skews, names = {cell.skew for cell in plan.cells}, {cell.scenario for cell in plan.cells}
    session.watch.say(
        f"plan       {len(skews)} skews, {len(names)} scenarios, {len(plan.cells)} cells"
        f"{f' (shard {options.shard})' if shard else ''} · digest {plan.digest}"
    )
    if elsewhere := without_bridge(spec.store, spec.scenarios, scenarios.by_name):
        session.watch.say(f"store      no bridge for those that meet elsewhere: {', '.join(elsewhere)}")
    if together := without_spread(spec.placement, spec.scenarios, scenarios.by_name):
        session.watch.say(f"placement  together only, because ranks need one machine: {', '.join(together)}")
    planned = Planned(
        plan=plan,
        versions=versions,
        rerun=rerun(options, name),
        whole=(*_left_out(declaration, spec, scenarios, options, name), *chosen_cells.cells),
        expectations=declaration.expectations,
        order=oldest_first(versions) if spec.pairs == "boundary" else (),
    )
    return planned, Divided(shard=shard)


def _check_placement(spec: MatrixSpec, fleet: FleetSpec, runtime: str) -> None:
    if Placement.SPREAD not in spec.placement:
        return
    if not fleet.address:
        raise ConfigError('placement "spread" needs more than one machine. Give --fleet, or `address` in [fleet].')
    if RUNTIMES[runtime].own_network:
        why = f"ranks of {runtime} have a network of their own on each node, which the other nodes don't reach"
        raise ConfigError(f'placement "spread": {why}. Use --runtime venv.')


def _left_out(
    declaration: Declaration, spec: MatrixSpec, scenarios: Scenarios, options: Options, runtime: str
) -> tuple[Cell, ...]:
    """The declared cells that the options left out: only an expectation can speak of them, so without one none."""
    declared = declaration.matrix[runtime]
    if not declaration.expectations or spec == declared:
        return ()
    versions = {used: for_runtime(declaration.versions[used], runtime, Problems("")) for used in declared.used}
    return make_plan(declared, versions, scenarios.by_name, runtime, options.seed).cells


def _narrowed(spec: MatrixSpec, options: Options, declaration: Declaration) -> MatrixSpec:
    """The declared matrix with what the command line says over it."""
    if options.versions:
        chosen = tuple(matching(options.versions, declaration.versions, "version"))
        spec = replace(spec, versions=chosen, worlds=tuple(w for w in spec.worlds if set(w) <= set(chosen)))
    if options.scenarios:
        spec = replace(spec, scenarios=options.scenarios)
    if options.guard:
        spec = replace(spec, guard=tuple(Guard(name) for name in options.guard))
    if options.store:
        spec = replace(spec, store=tuple(Store(name) for name in options.store))
    if options.placement:
        spec = replace(spec, placement=tuple(Placement(name) for name in options.placement))
    return replace(
        spec,
        pairs=options.pairs or spec.pairs,
        world_sizes=options.world_sizes or spec.world_sizes,
        timeout=options.timeout or spec.timeout,
    )


def rerun(options: Options, runtime: str) -> Rerun:
    """The command that plans the same cells again on the same runtime, without what only narrowed or hurried it."""
    return (
        Rerun()
        .given("--declaration", options.own_declaration)
        .given("--runtime", [runtime])
        .given("--versions", options.versions)
        .given("--scenarios", options.scenarios)
        .given("--guard", options.guard)
        .given("--store", options.store)
        .given("--placement", options.placement)
        .given("--fleet", [options.fleet] if Placement.SPREAD in options.placement else [])
        .given("--pairs", [options.pairs])
        .given("--world-size", options.world_sizes)
        .given("--timeout", [f"{options.timeout:g}"] if options.timeout else [])
        .given("--seed", [options.seed] if options.seed else [])
        .given("--out", options.own_out)
    )


def run(options: Options, ready: Ready, session: Session, ledger: Ledger) -> Results:
    """Take over what did not change, run what is left."""
    with interruptible(ledger, ready.plan, f"`{options.name} --resume` runs the rest."):
        if ready.planned.order:
            for cells in _rounds(ready, ledger, session.watch):
                asked = replace(ready.plan, cells=cells)
                ledger.recall(cells, ready.provisioned, lambda _: options.cache)
                run_cells(session, ledger, asked)
        else:
            recall(ledger, ready, lambda _: options.cache, session.watch)
            run_cells(session, ledger, ready.plan)
    return in_order(ready.plan, ledger.results)


def _rounds(ready: Ready, ledger: Ledger, watch: Watch) -> Iterator[tuple[Cell, ...]]:
    """By bisection: the cells that what is known so far leaves open, again and again."""
    tables = search.tables(ready.plan.cells, ready.planned.order)
    for number, cells in enumerate(search.rounds(ready.plan.cells, tables, ledger.results, ledger.enter), 1):
        inferred = sum(bool(result.inferred_from) for result in ledger.results.values())
        watch.say(f"round {number:<4} {len(cells)} cells to run, {inferred} inferred so far")
        yield cells


MATRIX = (
    read_the_declaration,
    check_output,
    choose_the_runtime,
    sweep,
    make_the_plan,
    stop_at_a_dry_run,
    provision,
    open_record,
    begin_or_resume,
    mark_the_shard,
    find_the_unmatched,
    run,
    finish_record,
    hold_against_the_baseline,
    write_the_reports,
)


def run_matrix(options: Options, watch: Watch) -> int:
    """`torchskew matrix`; its exit code."""
    with ExitStack() as resources:
        return execute(MATRIX, {Options: options, Watch: watch, ExitStack: resources})
