"""PyTorch's own tests: the releases list theirs, the tests run mixed and alone; the steps are the tuple at the end."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.declaration.fleet import asked_fleet
from torchskew.declaration.suite import suite_versions, with_backend
from torchskew.engine.ledger import Ledger
from torchskew.engine.progress import Watch
from torchskew.engine.session import ProvisionedVersions, Session
from torchskew.errors import ConfigError, MachineError
from torchskew.judging.blame import of_part
from torchskew.judging.controls import against_controls
from torchskew.judging.decide import NOTHING
from torchskew.model.cells import Plan
from torchskew.model.declared import NO_FLEET, MatrixSpec
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Store, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult, Decision
from torchskew.model.runs import Run
from torchskew.model.versions import Version
from torchskew.planning.plan import make_plan
from torchskew.planning.scenario import Scenario
from torchskew.planning.suite import (
    LIST,
    MEET,
    SUITES,
    Listing,
    SuiteSpec,
    SuiteTest,
    controls,
    is_control,
    narrowed,
    read_listing,
    skipped_alone,
    suite_plan,
)
from torchskew.record.cache import key
from torchskew.record.record import Record
from torchskew.report import write_reports
from torchskew.report.columns import aligned
from torchskew.report.suite import render
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
    finish_record,
    finished_run,
    in_order,
    interruptible,
    mark_the_shard,
    new_run_id,
    open_record,
    provision,
    recall,
    run_cells,
    stop_at_a_dry_run,
    sweep,
    today,
)
from torchskew.workflows.inputs import read_baseline, read_declaration, read_scenarios
from torchskew.workflows.options import Options
from torchskew.workflows.records import part_of, record_in
from torchskew.workflows.steps import Exit, execute

BASELINE = "suite-baseline.toml"  # known breaks, beside the declaration; there may be none
RUNTIME = "venv"  # the suite's barrier names its files by process id, so all ranks need one machine
TIMEOUT = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRequest:
    """What was asked besides the options that every run of cells has. listing: only print the tests."""

    versions: tuple[str, ...]
    suites: tuple[str, ...] = ("distributed",)
    tests: tuple[str, ...] = ()
    pairs: str = "all"
    backend: str = "gloo"
    listing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteVersions:
    """The releases whose tests run, by name, in the order in which they were asked for."""

    by_name: Mapping[str, Version]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBefore:
    """The results that are known before the run: the lists, and cells of tests that a release lacks."""

    results: tuple[CellResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """What each release has, and the cells that said so."""

    listings: tuple[Listing, ...]
    results: tuple[CellResult, ...]


def read_the_request(options: Options, request: SuiteRequest) -> tuple[SuiteVersions, Scenarios, RuntimeWish]:
    """Every version that was named, with what the suites need beside torch."""
    declaration = read_declaration(options.declaration) if options.declaration.exists() else None
    declared = declaration.versions if declaration else {}
    runtime = options.runtime or RUNTIME
    problems = Problems("--versions")
    versions = {
        name: with_backend(for_runtime(version, runtime, problems, at=name), request.backend)
        for name, version in suite_versions(request.versions, declared).items()
    }
    if problems.texts:
        raise ConfigError(*problems.texts)
    fleet = asked_fleet(declaration.fleet if declaration else NO_FLEET, options.fleet)
    wish = RuntimeWish(name=runtime, by="asked for", versions={runtime: tuple(versions.values())}, fleet=fleet)
    return SuiteVersions(by_name=versions), Scenarios(by_name=_on_one_agent(read_scenarios())), wish


def _on_one_agent(scenarios: Mapping[str, Scenario]) -> Mapping[str, Scenario]:
    """The rendezvous on the suite's agent: an agent of its own imports torch for seconds in each release."""
    return {**scenarios, MEET: replace(scenarios[MEET], agent=scenarios[LIST].agent)}


def list_the_tests(options: Options, versions: SuiteVersions, scenarios: Scenarios, session: Session) -> Lists:
    """Ask each release for its tests; an unchanged release answered in an earlier run.

    Raises:
        MachineError: no release has an environment, or one of them could not be asked.
    """
    made = session.provision(versions.by_name.values())
    if not made.environments:
        raise MachineError("\n".join(str(failure) for failure in made.failures.values()))
    spec = MatrixSpec(versions=tuple(made.environments), pairs=(), timeout=options.timeout or TIMEOUT)
    only = {LIST: scenarios.by_name[LIST]}
    plan = make_plan(spec, made.versions, only, session.runtime.name, options.seed)
    known = {} if options.dry_run or not options.cache else _recorded(options, plan, only, made)
    asked = session.run(new_run_id(), plan, only, known) if len(known) < len(plan.cells) else ()
    results = {**known, **{result.cell.id: result for result in asked}}
    listings = tuple(_listing(results[cell.id]) for cell in plan.cells)
    every = frozenset(test for listing in listings for test in listing.tests)
    # Its cells are UNKNOWN, whichever tests it has.
    absent = (Listing(version=name, tests=every, lacks={}) for name in made.failures)
    return Lists(listings=(*listings, *absent), results=tuple(results.values()))


def _recorded(
    options: Options, plan: Plan, scenarios: Mapping[str, Scenario], made: ProvisionedVersions
) -> Mapping[CellId, CellResult]:
    """The lists that earlier runs in --out have recorded of these very environments."""
    with record_in(options.out, create=True) as record:
        keys = {cell: key(cell, scenarios[cell.scenario], made.environments, plan.seed) for cell in plan.cells}
        found = (record.cached(content, cell, bulk=True) for cell, content in keys.items())
        return {result.cell.id: result for result in found if result is not None}


def _listing(result: CellResult) -> Listing:
    [version] = result.cell.skew
    if result.verdict is Verdict.PASS:
        return read_listing(version, result.ranks[0].payload)
    if result.verdict is Verdict.UNSUPPORTED:
        return Listing(version=version, tests=frozenset(), lacks=dict.fromkeys(SUITES, result.reason))
    raise MachineError(f"{version} could not list its tests: {result.reason}")


def print_the_list(request: SuiteRequest, lists: Lists) -> Exit | None:
    """--list ends here: each test, the ranks it is written for, and the releases that have it."""
    if not request.listing:
        return None
    have: dict[SuiteTest, list[str]] = {}
    for listing in lists.listings:
        for test in listing.tests:
            if test.suite in request.suites:
                have.setdefault(test, []).append(listing.version)
    rows = [
        (test.suite, test.name, f"{test.ranks or 'any'} ranks", " ".join(releases))
        for test, releases in sorted(have.items(), key=lambda entry: (entry[0].suite, entry[0].name))
    ]
    sys.stdout.write("".join(f"{line}\n" for line in aligned(rows)))
    return Exit(code=0 if rows else NOTHING)


def plan_the_suite(
    options: Options, request: SuiteRequest, lists: Lists, scenarios: Scenarios, session: Session
) -> tuple[Planned, Divided, KnownBefore]:
    """Tests and releases become cells; those that a release has no test for have their result already."""
    names = tuple(listing.version for listing in lists.listings)
    versions = session.provisioned.versions
    spec = SuiteSpec(
        versions=tuple(name for name in versions if name in names),
        suites=request.suites,
        tests=request.tests,
        pairs=request.pairs,
        world_sizes=options.world_sizes,
        timeout=options.timeout or TIMEOUT,
        stores=tuple(map(Store, options.store)) or (Store.STOCK,),
    )
    place = (session.runtime.name, options.seed)
    planned = narrowed(suite_plan(spec, lists.listings, scenarios.by_name, versions, place), options.only)
    plan, shard = part_of(planned.plan, options.shard, options.balance, controls(planned.plan.cells))
    session.watch.say(_account(plan, planned.lacking, options.shard))
    baseline = options.declaration.with_name(BASELINE)
    return (
        Planned(
            plan=plan,
            versions=versions,
            rerun=rerun(options, request),
            whole=planned.plan.cells,
            expectations=read_baseline(baseline),
        ),
        Divided(shard=shard),
        KnownBefore(results=(*lists.results, *planned.lacking)),
    )


def _account(plan: Plan, lacking: Sequence[CellResult], shard: str | None) -> str:
    ids = {cell.id for cell in plan.cells}
    skews, lacks = {cell.skew for cell in plan.cells}, sum(result.cell.id in ids for result in lacking)
    count = f"{len(ids)} cells{f' (shard {shard})' if shard else ''}, {lacks} of them of tests that a release lacks"
    return f"plan       {len(skews)} skews, {count} · digest {plan.digest}"


def rerun(options: Options, request: SuiteRequest) -> Rerun:
    """The command that plans the same cells again, without what only narrowed or hurried it."""
    return (
        Rerun(words=("torchskew", "suite"))
        .given("--declaration", options.own_declaration)
        .given("--versions", request.versions)
        .given("--suite", request.suites if request.suites != SuiteRequest(versions=()).suites else [])
        .given("--pairs", [request.pairs] if request.pairs != "all" else [])
        .given("--world-size", options.world_sizes)
        .given("--store", options.store)
        .given("--backend", [request.backend] if request.backend != "gloo" else [])
        .given("--timeout", [f"{options.timeout:g}"] if options.timeout else [])
        .given("--runtime", [options.runtime] if options.runtime not in (None, RUNTIME) else [])
        .given("--out", options.own_out)
    )


def run_the_tests(options: Options, ready: Ready, before: KnownBefore, session: Session, ledger: Ledger) -> Results:
    """Take over what did not change and what is known already; run the controls, then what they don't skip."""
    with interruptible(ledger, ready.plan, f"`{options.name} --resume` runs the rest."):
        recall(ledger, ready, lambda _: options.cache, session.watch)
        planned = {cell.id for cell in ready.plan.cells}
        for result in before.results:
            if result.cell.id in planned and result.cell.id not in ledger.results:
                ledger.enter(result, session.provisioned if result.attempts else None)
        run_cells(session, ledger, replace(ready.plan, cells=tuple(filter(is_control, ready.plan.cells))))
        for result in skipped_alone(ready.plan.cells, ledger.results):
            ledger.enter(result)
        run_cells(session, ledger, ready.plan)
    return in_order(ready.plan, ledger.results)


def hold_against_the_controls(ready: Ready, divided: Divided, results: Results) -> Decision:
    """Only what fails mixed and in no control counts."""
    decision = against_controls(ready.plan, results.of_cells, ready.planned.expectations, today())
    return of_part(decision, divided.shard)


def report_the_suite(options: Options, ready: Ready, ledger: Ledger, results: Results, decision: Decision) -> Exit:
    """Reports into the run's folder, the summary of each pair to the terminal."""
    show_suite(ledger.record, finished_run(ledger, ready, results), decision, options)
    return Exit(code=decision.exit_code)


def show_suite(record: Record, run: Run, decision: Decision, options: Options) -> None:
    """Write every report of a run of the suites into its folder and print its summary."""
    written = write_reports(run, decision, options.out / run.info.run_id, record.printed(run.info.run_id))
    sys.stdout.write(render(run, decision, written) + "\n")


SUITE = (
    read_the_request,
    check_output,
    choose_the_runtime,
    sweep,
    list_the_tests,
    print_the_list,
    plan_the_suite,
    stop_at_a_dry_run,
    provision,
    open_record,
    begin_or_resume,
    mark_the_shard,
    run_the_tests,
    finish_record,
    hold_against_the_controls,
    report_the_suite,
)


def run_suite(request: SuiteRequest, options: Options, watch: Watch) -> int:
    """`torchskew suite`; its exit code."""
    with ExitStack() as resources:
        return execute(SUITE, {SuiteRequest: request, Options: options, Watch: watch, ExitStack: resources})
