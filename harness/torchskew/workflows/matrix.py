"""The visible tuples of steps: the only file that knows their order."""

from __future__ import annotations

import datetime as dt
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torchskew
from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.agents import Agents
from torchskew.engine.progress import Watch
from torchskew.engine.provision import provision_all
from torchskew.engine.run import Engine, default_jobs, unknown
from torchskew.errors import ConfigError, InterruptedRunError, ProvisionError, RecordError
from torchskew.judging.decide import decide
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Declaration, Expectation, MatrixSpec
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Guard
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult, Decision
from torchskew.model.runs import RunInfo, RunKind
from torchskew.model.versions import Environment, Version
from torchskew.planning import search
from torchskew.planning.plan import in_order, make_plan, matching, narrow
from torchskew.planning.scenario import Scenario
from torchskew.planning.schedule import blocked
from torchskew.record.cache import key
from torchskew.record.record import LATEST, Record
from torchskew.runtimes import ownership
from torchskew.runtimes.base import Runtime
from torchskew.runtimes.choice import choose
from torchskew.workflows import inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person asked for on the command line; None means: as declared.

    runtime_by: who named the runtime.
    """

    declaration: Path = Path("torchskew.toml")
    out: Path = Path("out")
    runtime: str | None = None
    runtime_by: str = "asked for"
    versions: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    pairs: str | None = None
    world_sizes: tuple[int, ...] = ()
    timeout: float | None = None
    seed: int = 0
    jobs: int | None = None
    dry_run: bool = False
    resume: bool = False
    cache: bool = True
    colour: bool = False
    command: str = "torchskew matrix"

    @property
    def name(self) -> str:
        """The command without its options."""
        return " ".join(self.command.split()[:2])


@dataclass(slots=True, kw_only=True)
class Work:
    """What the steps have made so far; each step reads what earlier ones left and adds its own."""

    kind: ClassVar[RunKind] = RunKind.MATRIX
    options: Options
    watch: Watch
    stack: ExitStack
    declaration: Declaration = field(init=False)
    scenarios: Mapping[str, Scenario] = field(init=False)
    runtime: Runtime = field(init=False)
    why: str = field(init=False)
    versions: Mapping[str, Version] = field(init=False)
    whole: Plan = field(init=False)
    plan: Plan = field(init=False)
    order: tuple[str, ...] = ()  # the versions by release, where bisection decides which cells run
    environments: dict[str, Environment] = field(default_factory=dict)
    broken: dict[str, ProvisionError] = field(default_factory=dict)
    record: Record = field(init=False)
    info: RunInfo = field(init=False)
    results: dict[CellId, CellResult] = field(default_factory=dict)
    repetition: int = 0
    fresh: frozenset[str] = frozenset()  # versions of which no earlier result is reused
    rerun: Rerun = field(default_factory=Rerun)
    decision: Decision = field(init=False)
    exit_code: int | None = None


def read_declaration(work: Work) -> None:
    """Read torchskew.toml, its expectations and every scenario."""
    work.declaration = inputs.read_declaration(work.options.declaration)
    work.scenarios = inputs.read_scenarios()


def choose_runtime(work: Work) -> None:
    """The runtime that was asked for or declared, else one that can provide every version; say which and why."""
    asked = work.options.runtime or next(iter(work.declaration.matrix.values())).runtime
    chosen = choose(asked, _wanted(work), work.options.runtime_by if work.options.runtime else "declared")
    work.runtime, work.why = chosen.runtime, chosen.why
    work.watch.say(f"{work.options.name} · {work.runtime.describe()} ({work.why}) · seed {work.options.seed}")


def _wanted(work: Work) -> Mapping[str, Sequence[Version]]:
    """The versions that each runtime would have to provide for the selected matrix."""
    declared = work.declaration
    specs = {name: _narrowed(spec, work.options, declared) for name, spec in declared.matrix.items()}
    return {name: [declared.versions[used] for used in spec.used] for name, spec in specs.items()}


def sweep(work: Work) -> None:
    """Remove what a killed run of this machine left behind, and nothing else."""
    for line in work.runtime.sweep():
        work.watch.say(f"swept      {line}")


def make_the_plan(work: Work) -> None:
    """Declaration, options and scenarios become cells; --dry-run ends here."""
    options, name = work.options, work.runtime.name
    spec = _narrowed(work.declaration.matrix[name], options, work.declaration)
    problems = Problems(Path(work.declaration.path).name)
    work.versions = {n: for_runtime(work.declaration.versions[n], name, problems) for n in spec.used}
    if problems.found:
        raise ConfigError(*problems.found)
    work.order = in_order(work.versions) if spec.pairs == "boundary" else ()
    chosen = make_plan(spec, work.versions, work.scenarios, name, options.seed)
    work.plan = narrow(chosen, options.only)
    work.whole = _whole(work, chosen)
    work.rerun = rerun(options, name)
    skews = len({cell.skew for cell in work.plan.cells})
    names = len({cell.scenario for cell in work.plan.cells})
    cells = len(work.plan.cells)
    work.watch.say(f"plan       {skews} skews, {names} scenarios, {cells} cells · digest {work.plan.digest}")
    if options.dry_run:
        sys.stdout.writelines(
            f"{cell.id}   predicted {','.join(cell.predicted) or 'nothing'}\n" for cell in work.plan.cells
        )
        work.exit_code = 0


def rerun(options: Options, runtime: str) -> Rerun:
    """The command that plans the same cells again on the same runtime, without what only narrowed or hurried it."""
    plain = Options()
    return (
        Rerun()
        .given("--declaration", [options.declaration] if options.declaration != plain.declaration else [])
        .given("--runtime", [runtime])
        .given("--versions", options.versions)
        .given("--scenarios", options.scenarios)
        .given("--guard", options.guard)
        .given("--pairs", [options.pairs])
        .given("--world-size", options.world_sizes)
        .given("--timeout", [f"{options.timeout:g}"] if options.timeout else [])
        .given("--seed", [options.seed] if options.seed else [])
        .given("--out", [options.out] if options.out != plain.out else [])
    )


def _whole(work: Work, chosen: Plan) -> Plan:
    """Every cell that an expectation may speak of: those declared, and those that the options made."""
    spec, name = work.declaration.matrix[work.runtime.name], work.runtime.name
    versions = {n: for_runtime(work.declaration.versions[n], name, Problems("")) for n in spec.used}
    declared = make_plan(spec, versions, work.scenarios, name, work.options.seed)
    return replace(declared, cells=(*declared.cells, *chosen.cells))


def _narrowed(spec: MatrixSpec, options: Options, declaration: Declaration) -> MatrixSpec:
    """The declared matrix with what the command line says over it."""
    if options.versions:
        chosen = tuple(matching(options.versions, declaration.versions, "version"))
        spec = replace(spec, versions=chosen, worlds=tuple(w for w in spec.worlds if set(w) <= set(chosen)))
    if options.scenarios:
        spec = replace(spec, scenarios=options.scenarios)
    if options.guard:
        spec = replace(spec, guard=tuple(Guard(name) for name in options.guard))
    return replace(
        spec,
        pairs=options.pairs or spec.pairs,
        world_sizes=options.world_sizes or spec.world_sizes,
        timeout=options.timeout or spec.timeout,
    )


def provision(work: Work) -> None:
    """Make or reuse every version's environment; a version that can't be made leaves its cells UNKNOWN."""
    used = dict.fromkeys(name for cell in work.plan.cells for name in cell.skew)
    made = provision_all(work.runtime, [work.versions[name] for name in used], work.watch)
    for name, outcome in made.items():
        if isinstance(outcome, ProvisionError):
            work.broken[name] = outcome
            work.watch.say(f"no {name}: {outcome}")
        else:
            work.environments[name] = outcome
    notes = " · ".join(f"{env.version} {env.note or env.identity[:12]}" for env in work.environments.values())
    work.watch.say(f"versions   {notes or 'none could be made'}")


def begin_record(work: Work) -> None:
    """Open the record; --resume takes up the newest run of the same plan, else a new run begins."""
    open_record(work)
    if work.options.resume:
        work.info = _resumable(work)
        work.results.update({result.cell.id: result for result in work.record.results(work.info.run_id)})
        done, planned = len(work.results), len(work.plan.cells)
        work.watch.say(f"resumed    {work.info.run_id}: {done} of {planned} cells were done")
        return
    begin_run(work, work.declaration.expectations)


def open_record(work: Work) -> None:
    """Open the record in the folder of results until the work ends; begin one where there is none."""
    work.options.out.mkdir(parents=True, exist_ok=True)
    work.record = work.stack.enter_context(Record.open(work.options.out / "record.sqlite"))


def begin_run(work: Work, expectations: Sequence[Expectation] = ()) -> None:
    """Write a new run of the plan into the record, with the environments that are there so far."""
    work.info = RunInfo(
        run_id=new_run_id(),
        kind=work.kind,
        command=work.options.command,
        seed=work.options.seed,
        torchskew=torchskew.__version__,
        runtime=work.runtime.describe(),
        runtime_why=work.why,
        plan_digest=work.plan.digest,
        started=now(),
        environments={name: env.identity for name, env in work.environments.items()},
        rerun=work.rerun,
    )
    work.record.begin(work.info, work.plan, expectations)


def _resumable(work: Work) -> RunInfo:
    info = work.record.resume(LATEST, work.plan)
    changed = [n for n, env in work.environments.items() if info.environments.get(n, env.identity) != env.identity]
    if changed:
        raise RecordError(
            f"run {info.run_id} can't be resumed: the environment of {', '.join(changed)} is another one now. "
            "Start a new run; cells that did not change come from the cache."
        )
    return info


def recall(work: Work) -> None:
    """Cells of which nothing changed since they last ran come from the record; broken versions' cells are UNKNOWN."""
    if work.order:  # each round recalls its own
        return
    before = len(work.results)
    _recall(work, work.plan.cells)
    for result in blocked(work.plan.cells, work.results):
        _keep(work, result)
    recalled = sum(result.cached for result in list(work.results.values())[before:])
    if recalled:
        every = "every cell" if recalled == len(work.plan.cells) else f"{recalled} of {len(work.plan.cells)} cells"
        work.watch.say(f"cache      {every} unchanged since an earlier run (--no-cache runs them again)")


def _recall(work: Work, cells: Sequence[Cell]) -> None:
    for cell in cells:
        if cell.id in work.results:
            continue
        if missing := next((name for name in cell.skew if name in work.broken), None):
            _keep(work, unknown(cell, f"no environment for {missing}: {work.broken[missing]}"))
            continue
        reuse = work.options.cache and not work.fresh.intersection(cell.skew)
        found = work.record.cached(_key(work, cell)) if reuse else None
        if found is not None:
            _keep(work, replace(found, cell=cell, cached=True))


def _key(work: Work, cell: Cell) -> str:
    return key(cell, work.scenarios[cell.scenario], work.environments, work.plan.seed)


def _keep(work: Work, result: CellResult) -> None:
    # What comes back has no logs and payloads: those are in the record, and would fill the memory of a large run.
    work.results[result.cell.id] = work.record.write(work.info.run_id, result, repeat=work.repetition)


def run(work: Work) -> None:
    """Run the cells that are left; every finished one is in the record before the next is looked at."""
    if all(cell.id in work.results for cell in work.plan.cells):
        return
    run_scope = work.stack.enter_context(ownership.opened(work.info.run_id))
    with ExitStack() as stack:
        stack.callback(work.runtime.close)
        work.runtime.open(run_scope)
        agents = Agents(work.runtime, work.environments)
        stack.callback(agents.close)
        try:
            for cells in _rounds(work):
                _run_cells(work, agents, cells)
        except KeyboardInterrupt:
            done = f"{len(work.results)} of {len(work.plan.cells)} cells are in the record"
            raise InterruptedRunError(f"interrupted: {done}; `{work.options.name} --resume` runs the rest.") from None


def _rounds(work: Work) -> Iterator[tuple[Cell, ...]]:
    """All cells at once, or, where bisection decides, those that what is known so far leaves open, again and again."""
    if not work.order:
        yield work.plan.cells
        return
    found = search.tables(work.plan.cells, work.order)
    rounds = search.rounds(work.plan.cells, found, work.results, lambda result: _keep(work, result))
    for number, cells in enumerate(rounds, 1):
        follows = sum(bool(result.inferred_from) for result in work.results.values())
        work.watch.say(f"round {number:<4} {len(cells)} cells to run, {follows} inferred so far")
        _recall(work, cells)
        yield cells


def _run_cells(work: Work, agents: Agents, cells: tuple[Cell, ...]) -> None:
    engine = Engine(
        plan=replace(work.plan, cells=cells),
        scenarios=work.scenarios,
        versions=work.versions,
        agents=agents,
        jobs=work.options.jobs or default_jobs(),
        observe=work.watch.cells,
    )
    for result in engine.run(dict(work.results)):
        ran = result.verdict.value not in ("BLOCKED", "UNKNOWN")
        _keep(work, replace(result, key=_key(work, result.cell)) if ran else result)


def finish_record(work: Work) -> None:
    """The run is complete: say when."""
    work.record.finish(work.info.run_id, now())


def hold_against_baseline(work: Work) -> None:
    """Every planned cell against its expectation: one decision."""
    today = dt.datetime.now(dt.UTC).date()
    work.decision = decide(
        work.plan,
        list(work.results.values()),
        work.declaration.expectations,
        today=today,
        whole=work.whole.cells,
    )


def write_the_reports(work: Work) -> None:
    """Text to the terminal, the rest into the run's folder."""
    show(work.record, work.info.run_id, work.decision, work.options)
    work.exit_code = work.decision.exit_code


def show(record: Record, run_id: str, decision: Decision, options: Options) -> None:
    """Write every report of a recorded run and print its text."""
    from torchskew.report import write_reports
    from torchskew.report.text import render

    run_ = record.load(run_id)
    written = write_reports(run_, decision, options.out / run_id, record.printed(run_id))
    sys.stdout.write(render(run_, decision, written=written, colour=options.colour) + "\n")


MATRIX: tuple[Callable[[Work], None], ...] = (
    read_declaration,
    choose_runtime,
    sweep,
    make_the_plan,
    provision,
    begin_record,
    recall,
    run,
    finish_record,
    hold_against_baseline,
    write_the_reports,
)


def execute(steps: tuple[Callable[[Work], None], ...], options: Options, watch: Watch) -> int:
    """Run the steps until one sets the exit code."""
    with ExitStack() as stack:
        work = Work(options=options, watch=watch, stack=stack)
        for step in steps:
            step(work)
            if work.exit_code is not None:
                return work.exit_code
    raise AssertionError("the last step sets the exit code")


def new_run_id() -> str:
    """Sorts by time, and no two runs of any machines share one."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def now() -> str:
    """The time in ISO 8601, UTC, whole seconds."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
