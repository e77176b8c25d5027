"""The steps that every run of cells shares: choose a runtime, provision, predict, record, run, report."""

from __future__ import annotations

import datetime as dt
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torchskew
from torchskew.engine.fleet.fleet import Fleet
from torchskew.engine.fleet.ray_cluster import RayCluster
from torchskew.engine.ledger import Ledger
from torchskew.engine.progress import Watch
from torchskew.engine.session import ProvisionedVersions, Session
from torchskew.errors import InterruptedRunError, RecordError
from torchskew.judging.blame import of_part
from torchskew.judging.decide import decide, stale
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import NO_FLEET, Declaration, Expectation, FleetSpec
from torchskew.model.ids import CellId
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult, Decision
from torchskew.model.runs import Run, RunInfo, Shard, Unmatched
from torchskew.model.versions import Version
from torchskew.planning.plan import predicted
from torchskew.planning.scenario import Scenario
from torchskew.record.folder import check_record, check_writable
from torchskew.record.record import LATEST, Record
from torchskew.report import write_reports
from torchskew.report.text import render
from torchskew.runtimes.choice import choose
from torchskew.workflows.inputs import own_scenarios
from torchskew.workflows.options import Options
from torchskew.workflows.records import record_in
from torchskew.workflows.steps import Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenarios:
    """Every scenario that there is, by name. own: the names of the user's own."""

    by_name: Mapping[str, Scenario]
    own: frozenset[str] = frozenset()


def with_own(shipped: Mapping[str, Scenario], declaration: Declaration) -> Scenarios:
    """The scenarios that come with torchskew, and those of the folder that the declaration names."""
    own = own_scenarios(declaration, shipped)
    return Scenarios(by_name={**shipped, **own}, own=frozenset(own))


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeWish:
    """The runtime that was asked for. by: who named it; versions: those that the run may use, by runtime.

    fleet: the machines that cells run on.
    """

    name: str
    by: str
    versions: Mapping[str, tuple[Version, ...]]
    fleet: FleetSpec = NO_FLEET


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is to run. versions: as the runtime gets them. whole: every cell that an expectation may speak of.

    expectations: what the results are held against. rerun: the command that plans these cells again.
    order: the versions by release where bisection decides which cells run; empty where all of them do.
    until: the newest upload of a package that environments take (ISO 8601, UTC); empty: any.
    """

    plan: Plan
    versions: Mapping[str, Version]
    rerun: Rerun
    whole: tuple[Cell, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    order: tuple[str, ...] = ()
    until: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """shard: which part of the plan this run is, where one was asked for."""

    shard: Shard | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What can run now. plan: as planned, with what is predicted of every release; provisioned: the environments."""

    planned: Planned
    plan: Plan
    provisioned: ProvisionedVersions


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One result per cell that was reached, in the plan's order."""

    of_cells: tuple[CellResult, ...]


def check_output(options: Options) -> None:
    """Before anything is made: results can be recorded. A dry run writes nothing and needs no folder."""
    if not options.dry_run:
        check_writable(options.out)
        check_record(options.out)


def choose_the_runtime(options: Options, wish: RuntimeWish, watch: Watch, resources: ExitStack) -> Session:
    """Docker when a daemon answers and can provide every version, else venv, unless the user chose; say why.

    On a fleet, what answers is what answers on a node. A dry run starts no worker.
    """
    if wish.fleet.address and not options.dry_run:
        return resources.enter_context(_session_on_a_fleet(options, wish, watch, resources))
    chosen = choose(wish.name, wish.versions, wish.by)
    watch.say(f"{options.name} · {chosen.runtime.describe()} ({chosen.why}) · seed {options.seed}")
    return resources.enter_context(Session(chosen, watch, jobs=options.jobs))


def _session_on_a_fleet(options: Options, wish: RuntimeWish, watch: Watch, resources: ExitStack) -> Session:
    cluster = RayCluster(wish.fleet.address)
    resources.callback(cluster.close)
    fleet = Fleet(cluster, wish.fleet, watch, options.jobs)
    fleet.gather()
    chosen = choose(wish.name, wish.versions, wish.by, fleet.silence)
    fleet.use(chosen.runtime.name)
    watch.say(f"{options.name} · {fleet.describe()} ({chosen.why}) · seed {options.seed}")
    return Session(chosen, watch, machines=fleet)


def sweep(session: Session) -> None:
    """Remove what a killed run of this machine left behind, and nothing else."""
    session.sweep()


def stop_at_a_dry_run(options: Options, planned: Planned) -> Exit | None:
    """--dry-run ends here: it prints the plan, and has made and written nothing."""
    if not options.dry_run:
        return None
    for cell in planned.plan.cells:
        known = all(planned.versions[name].torch for name in cell.provided)
        nothing = "nothing" if known else "once its versions are provisioned"
        sys.stdout.write(f"{cell.id}   predicted {','.join(cell.predicted) or nothing}\n")
    return Exit(code=0)


def provision(planned: Planned, session: Session, scenarios: Scenarios) -> Ready:
    """Make or reuse every version's environment, then predict; a version that can't be made leaves cells UNKNOWN."""
    plan = provisioned(planned.plan, planned.versions, session, scenarios)
    return Ready(planned=planned, plan=plan, provisioned=session.provisioned)


def provisioned(plan: Plan, versions: Mapping[str, Version], session: Session, scenarios: Scenarios) -> Plan:
    """The plan, predicted once its versions are there; only now the release of an interpreter or image is known."""
    used = dict.fromkeys(name for cell in plan.cells for name in cell.provided)
    before = session.provisioned
    after = session.provision(versions[name] for name in used)
    for name, failure in after.failures.items():
        if name not in before.failures:
            session.watch.say(f"{failure}")
    nothing = "none could be made" if used else "none are needed"
    session.watch.say(f"versions   {after.notes(used) or nothing}")
    return predicted(plan, scenarios.by_name, after.versions)


def open_record(options: Options, resources: ExitStack) -> Record:
    """The record in the folder of results, until the workflow ends; made where there is none."""
    return resources.enter_context(record_in(options.out, create=True))


def begin_or_resume(options: Options, record: Record, ready: Ready, scenarios: Scenarios, session: Session) -> Ledger:
    """A new run; with --resume, the newest run of the same plan."""
    if not options.resume:
        info = new_run(options, ready, session)
        record.begin(info, ready.plan, ready.planned.expectations)
        return Ledger(record, info, scenarios.by_name)
    info = record.resume(LATEST, ready.plan)
    if changed := changed_environments(info, ready.provisioned):
        raise RecordError(
            f"Cannot resume run {info.run_id}: the environment of {changed} has changed since the run started. "
            "Start a new run; cells that did not change come from the cache."
        )
    ledger = Ledger(record, info, scenarios.by_name, results=record.results(info.run_id))
    session.watch.say(f"resumed    {info.run_id}: {len(ledger.results)} of {len(ready.plan.cells)} cells were done")
    return ledger


def find_the_unmatched(options: Options, ready: Ready, ledger: Ledger) -> Unmatched:
    """Which patterns of the baseline match no cell that they may speak of; the record notes it for later reports."""
    planned = ready.planned
    problems = stale(planned.expectations, planned.whole or ready.plan.cells, ready.plan.runtime)
    unmatched = Unmatched(problems=tuple(problems))
    if not options.resume:
        ledger.record.mark(ledger.info.run_id, unmatched)
    return unmatched


def mark_the_shard(options: Options, divided: Divided, ledger: Ledger) -> None:
    """The record notes which part of the plan this is, for `torchskew merge`."""
    if divided.shard is not None and not options.resume:
        ledger.record.mark(ledger.info.run_id, divided.shard)


def new_run(options: Options, ready: Ready, session: Session) -> RunInfo:
    """The head of a run that begins now."""
    return RunInfo(
        run_id=new_run_id(),
        kind=options.kind,
        command=options.command,
        rerun=ready.planned.rerun,
        seed=options.seed,
        torchskew=torchskew.__version__,
        runtime=session.describe(),
        runtime_why=session.why,
        plan_digest=ready.plan.digest,
        started=now(),
        environments={name: environment.identity for name, environment in ready.provisioned.environments.items()},
        until=ready.planned.until,
    )


def changed_environments(info: RunInfo, provisioned: ProvisionedVersions) -> str:
    """The versions whose environment is not the one that the run began with, for a text; empty: none."""
    return ", ".join(
        name
        for name, environment in provisioned.environments.items()
        if info.environments.get(name, environment.identity) != environment.identity
    )


def recall(ledger: Ledger, ready: Ready, reuse: Callable[[Cell], bool], watch: Watch) -> None:
    """Cells of which nothing changed since they last ran come from the record, with what their failures block."""
    cells = ready.plan.cells
    count = ledger.recall(cells, ready.provisioned, reuse) + ledger.block(cells)
    if count:
        every = "every cell" if count == len(cells) else f"{count} of {len(cells)} cells"
        watch.say(f"cache      {every} unchanged since an earlier run (--no-cache runs them again)")


def run_cells(session: Session, ledger: Ledger, plan: Plan) -> None:
    """Run the cells that are left; every finished one is in the record before the next is looked at."""
    provisioned = session.provisioned
    for result in session.run(ledger.info.run_id, plan, ledger.scenarios, ledger.results):
        ledger.enter(result, provisioned)


@contextmanager
def interruptible(ledger: Ledger, plan: Plan, advice: str) -> Iterator[None]:
    """Ctrl-C in the block says how much is in the record, and what runs the rest."""
    try:
        yield
    except KeyboardInterrupt:
        done = f"{len(ledger.results)} of {len(plan.cells)} cells are in the record"
        raise InterruptedRunError(f"interrupted: {done}; {advice}") from None


def in_order(plan: Plan, results: Mapping[CellId, CellResult]) -> Results:
    """The results in the plan's order, whatever order they came in."""
    return Results(of_cells=tuple(results[cell.id] for cell in plan.cells if cell.id in results))


def finish_record(ledger: Ledger, results: Results) -> None:
    """The run is complete: say when."""
    del results  # only that there are some: this step comes after the run
    ledger.record.finish(ledger.info.run_id, now())


def show(record: Record, run: Run, decision: Decision, options: Options) -> None:
    """Write every report of a run into its folder and print its text."""
    run_id = run.info.run_id
    written = write_reports(run, decision, options.out / run_id, record.printed(run_id))
    sys.stdout.write(render(run, decision, written=written, colour=options.colour) + "\n")


def finished_run(ledger: Ledger, ready: Ready, results: Results) -> Run:
    """The run as its reports show it, out of what is in memory."""
    return Run(
        info=replace(ledger.info, finished=now()),
        plan=ready.plan,
        results=results.of_cells,
        expectations=ready.planned.expectations,
    )


def hold_against_the_baseline(ready: Ready, divided: Divided, unmatched: Unmatched, results: Results) -> Decision:
    """Every planned cell against its expectation: one decision."""
    expectations = ready.planned.expectations
    decision = decide(ready.plan, results.of_cells, expectations, today=today(), unmatched=unmatched)
    return of_part(decision, divided.shard)


def write_the_reports(options: Options, ready: Ready, ledger: Ledger, results: Results, decision: Decision) -> Exit:
    """Text to the terminal, the rest into the run's folder."""
    show(ledger.record, finished_run(ledger, ready, results), decision, options)
    return Exit(code=decision.exit_code)


def new_run_id() -> str:
    """Sorts by time, and no two runs of any machines share one."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def now() -> str:
    """The time in ISO 8601, UTC, whole seconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def today() -> dt.date:
    """The day by which expectations end, UTC."""
    return dt.datetime.now(dt.UTC).date()
