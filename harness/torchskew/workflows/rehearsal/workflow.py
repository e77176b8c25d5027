"""The steps of `torchskew rehearse`, as the tuple at the end: each takes what it needs and returns what it made."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from torchskew import faults
from torchskew.declaration.fields import Problems, Table, parse
from torchskew.declaration.rehearsal import RehearsalRequest, for_rehearsal, requested, versions_of
from torchskew.engine.progress import Watch
from torchskew.engine.session import Session
from torchskew.errors import ConfigError, HarnessError, InterruptedRunError, ProvisionError
from torchskew.model.outcomes import Verdict
from torchskew.model.rehearsal import StrategyKind
from torchskew.model.runtimes import choices
from torchskew.model.versions import Environment, Version
from torchskew.record.folder import check_writable
from torchskew.runtimes import ownership
from torchskew.runtimes.base import Runtime
from torchskew.runtimes.choice import choose, for_every
from torchskew.workflows.cell_steps import new_run_id
from torchskew.workflows.inputs import read_declaration, read_document
from torchskew.workflows.rehearsal import archive, clocks, plan_file, reports, schedules, shrink
from torchskew.workflows.rehearsal.archive import ArchivedRehearsal
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.conduct import Conductor
from torchskew.workflows.rehearsal.invariants import training
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import Observation
from torchskew.workflows.rehearsal.plan import with_digest
from torchskew.workflows.rehearsal.plan_text import headline, tree
from torchskew.workflows.rehearsal.planned import RehearsalPlan
from torchskew.workflows.rehearsal.reports import JudgedRehearsal
from torchskew.workflows.rehearsal.validity import first_problem
from torchskew.workflows.steps import Exit, execute

# What needs the controls: shrinking runs them only where one of these failed.
CONTROLLED = frozenset({training.R3.name, training.R4.name})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person asked for. fields: those of [rehearsal] that the command line gave.

    plan: a saved plan to carry out again; save_plan: where to save the plan that was made.
    """

    declaration: Path = Path("torchskew.toml")
    out: Path = Path("out")
    fields: Mapping[str, object] = field(default_factory=dict)
    plan: Path | None = None
    save_plan: Path | None = None
    dry_run: bool = False
    shrink: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to rehearse: specs that become plans, or a saved plan."""

    asked: RehearsalRequest
    saved: RehearsalPlan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BothVersions:
    """The two versions by name, each with the one source that the runtime uses."""

    by_name: Mapping[str, Version]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """One plan per strategy, in the order they are carried out."""

    plans: tuple[RehearsalPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """What nodes are started from: the runtime, and each version's environment. known: the versions as they are."""

    runtime: Runtime
    environments: Mapping[str, Environment]
    known: Mapping[str, Version] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPlans:
    """The plans that are carried out: those that were printed, or made again because the releases are known now."""

    plans: tuple[RehearsalPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The folder of this run; each strategy has a folder in it, and where there are several seeds, each of those."""

    path: Path
    seeded: bool = False

    def of(self, plan: RehearsalPlan) -> Path:
        """The folder of one plan."""
        strategy = plan.spec.strategy
        grouped = strategy.kind is StrategyKind.GROUP
        name = f"{strategy.kind}-{strategy.size}" if grouped else str(strategy.kind)
        return self.path / (f"{name}-seed-{plan.spec.seed}" if self.seeded else name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsals:
    """Every rehearsal that was carried out, judged."""

    judged: tuple[JudgedRehearsal, ...]


def read_request(options: Options, watch: Watch) -> Request:
    """[rehearsal] of the declaration overridden by the command line, or a saved plan, which states everything."""
    path = options.declaration
    declared = read_declaration(path).versions if path.exists() else {}
    if options.plan is not None:
        saved = saved_plan(options.plan, options.fields, watch)
        versions = versions_of(saved.spec, declared)
        return Request(asked=RehearsalRequest(runtime=saved.spec.runtime, specs=(), versions=versions), saved=saved)
    problems = Problems(path.name)
    document = parse(read_document(path)) if path.exists() else {}
    table = Table(problems, "rehearsal", Table(problems, "", document).get("rehearsal", dict, {}))
    return Request(asked=requested(table, options.fields, declared, _read_text))


def _read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def saved_plan(path: Path, fields: Mapping[str, object], watch: Watch) -> RehearsalPlan:
    """A plan from its file, ready to be carried out again.

    Raises:
        ConfigError: it can't be read or carried out, or an option conflicts with it.
    """
    try:
        plan = plan_file.load(_read_text(str(path)), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}.") from None
    if fields:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in fields)
        raise ConfigError(f"--plan fixes the whole rehearsal, so {named} would be ignored. Remove one of them.")
    if plan.spec.runtime not in choices():
        names = ", ".join(choices())
        raise ConfigError(f"{path}: spec.runtime must be one of {names}, got {plan.spec.runtime!r}.")
    if len(plan.clock_offsets) not in (0, plan.spec.nodes):
        raise ConfigError(f"{path}: clock_offsets must hold one number for each of {plan.spec.nodes} nodes, or none.")
    if why := first_problem(plan.steps, plan.spec):
        raise ConfigError(f"{path}: can't be carried out: {why}. Fix it, or write another plan with --save-plan.")
    current = with_digest(plan)
    if current.digest != plan.digest:
        watch.say(
            f"plan       {path.name} was edited, or made by another torchskew: its digest is now {current.digest}"
        )
    return current


def check_output(options: Options) -> None:
    """Before anything is made: results can be written. A dry run writes nothing and needs no folder."""
    if not options.dry_run:
        check_writable(options.out)


def choose_the_runtime(
    options: Options, request: Request, watch: Watch, resources: ExitStack
) -> tuple[Session, BothVersions]:
    """The runtime that was asked for or declared, else one that can provide both releases; say which and why."""
    asked = request.asked
    chosen = choose(asked.runtime, for_every(list(asked.versions.values())))
    specs = [request.saved.spec] if request.saved else asked.specs
    versions = for_rehearsal(asked.versions, chosen.runtime.name, options.declaration.name, specs)
    watch.say(f"torchskew rehearse · {chosen.runtime.describe()} ({chosen.why})")
    return resources.enter_context(Session(chosen, watch)), BothVersions(by_name=versions)


def make_plans(request: Request, session: Session, versions: BothVersions) -> Plans:
    """One plan per strategy, printed before anything runs."""
    plans = (request.saved,) if request.saved is not None else _planned(request, session, versions.by_name)
    for plan in plans:
        sys.stdout.write(_printed(plan, request))
    return Plans(plans=plans)


def _printed(plan: RehearsalPlan, request: Request) -> str:
    """The plan as a tree; of many seeds, a line each with the faults that it drew."""
    if not request.asked.search:
        return tree(plan) + "\n"
    return f"{headline(plan)} · faults {', '.join(plan.spec.faults) or 'none'}\n"


def _planned(request: Request, session: Session, versions: Mapping[str, Version]) -> tuple[RehearsalPlan, ...]:
    """A plan for each spec; what a mixed group must do follows from the releases that the versions are known to be."""
    lacking = {**faults.unsupported(session.runtime.name), **clocks.unsupported(session.runtime.name)}
    plans = []
    for spec in request.asked.specs:
        old, new = (replace(each, torch=versions[each.name].torch) for each in (spec.old, spec.new))
        plans.append(schedules.plan(replace(spec, runtime=session.runtime.name, old=old, new=new), lacking))
    return tuple(plans)


def save_plan(options: Options, plans: Plans) -> None:
    """--save-plan: the plan as a file for --plan."""
    if options.save_plan is None:
        return
    if len(plans.plans) > 1:
        strategies = ", ".join(str(plan.spec.strategy) for plan in plans.plans)
        raise ConfigError(f"--save-plan saves one plan, and these strategies make several: {strategies}. Name one.")
    try:
        reports.write(options.save_plan, plan_file.dump(plans.plans[0]))
    except OSError as error:
        raise ConfigError(f"--save-plan {options.save_plan}: can't be written: {error.strerror}.") from None
    sys.stdout.write(f"plan       {options.save_plan}\n")


def stop_at_a_dry_run(options: Options, plans: Plans) -> Exit | None:
    """--dry-run ends here: the plans are printed, nothing was made."""
    del plans  # only that they are printed
    return Exit(code=0) if options.dry_run else None


def sweep(session: Session) -> None:
    """Remove what a killed run of this machine left behind, and nothing else."""
    session.sweep()


def provision(session: Session, versions: BothVersions) -> Nodes:
    """Both releases' environments; without them there is nothing to rehearse."""
    made = session.provision(versions.by_name.values())
    if failure := next(iter(made.failures.values()), None):
        raise ProvisionError(failure.reason)
    session.watch.say(f"versions   {made.notes(versions.by_name)}")
    return Nodes(runtime=session.runtime, environments=made.environments, known=made.versions)


def plan_with_what_is_known(request: Request, plans: Plans, session: Session, nodes: Nodes) -> KnownPlans:
    """An interpreter or an image says only now which release it is; a saved plan stays as it is."""
    known = nodes.known
    if request.saved is not None:
        return KnownPlans(plans=plans.plans)
    again = _planned(request, session, known)
    if again != plans.plans:
        names = dict.fromkeys(name for plan in again for name in (plan.spec.old.name, plan.spec.new.name))
        said = ", ".join(f"{name} is torch {known[name].torch}" for name in names)
        session.watch.say(f"planned again, because the releases are known now: {said}")
        for plan in again:
            sys.stdout.write(_printed(plan, request))
    return KnownPlans(plans=again)


def begin_folder(options: Options, request: Request, plans: KnownPlans) -> RunFolder:
    """A folder for this run, with each plan in it."""
    folder = RunFolder(path=options.out / f"{archive.PREFIX}{new_run_id()}", seeded=request.asked.search)
    for plan in plans.plans:
        reports.write(folder.of(plan) / archive.PLAN, plan_file.dump(plan))
    return folder


def rehearse(request: Request, plans: KnownPlans, nodes: Nodes, folder: RunFolder, watch: Watch) -> Rehearsals:
    """Carry out each plan on nodes of its own; its facts are in its folder before the next one begins.

    Of several seeds, the first that fails is the last.
    """
    judged: list[JudgedRehearsal] = []
    for plan in plans.plans:
        if request.asked.search and judged and judged[-1].finding.verdict is Verdict.FAIL:
            break
        what = f"{plan.spec.strategy}, seed {plan.spec.seed}" if request.asked.search else str(plan.spec.strategy)
        watch.say(f"rehearsing {what}: {len(plan.steps)} steps, about {plan.estimate:.0f} s")
        observation = carry_out(nodes, plan, watch, folder=folder.of(plan))
        archived = ArchivedRehearsal(folder=folder.of(plan), observation=observation)
        reports.write(archived.folder / archive.FACTS, archive.facts(observation))
        judged.append(reports.judged(archived))
    return Rehearsals(judged=tuple(judged))


def carry_out(
    nodes: Nodes, plan: RehearsalPlan, watch: Watch, *, folder: Path | None = None, controlled: bool = True
) -> Observation:
    """One plan from the first node's start until the last one's end; everything is torn down whatever happens.

    Raises:
        InterruptedRunError: Ctrl-C; what was observed so far is in the folder, where there is one.
    """
    with ExitStack() as stack:
        owned = stack.enter_context(ownership.opened(new_run_id()))
        stack.callback(nodes.runtime.close)
        nodes.runtime.open(owned)
        cluster = Cluster(nodes.runtime, nodes.environments, plan.clock_offsets)
        conductor = Conductor(plan, cluster, watch.say, controlled=controlled)
        try:
            observation = conductor.run()
        except BaseException as error:
            cluster.abandon()
            if isinstance(error, KeyboardInterrupt) and folder:
                raise _interrupted(conductor.observation(), folder) from None
            raise
        try:
            cluster.close()
        except HarnessError as error:
            return replace(observation, left_behind=tuple(str(error).splitlines()))
    return observation


def _interrupted(observation: Observation, folder: Path) -> InterruptedRunError:
    reports.write(folder / archive.FACTS, archive.facts(observation))
    done = f"{len(observation.results)} of {len(observation.plan.steps)} steps were done"
    return InterruptedRunError(f"interrupted: {done}; `torchskew report {folder}` shows what was observed so far.")


def shrink_failure(options: Options, request: Request, rehearsals: Rehearsals, nodes: Nodes, watch: Watch) -> None:
    """--shrink, or several seeds: the smallest plan that still fails as the first failing one does."""
    failed = [each for each in rehearsals.judged if each.finding.verdict is Verdict.FAIL]
    if not (options.shrink or request.asked.search) or not failed:
        return
    archived, names = failed[0].archived, shrink.failing(failed[0].finding)

    def fails(plan: RehearsalPlan) -> bool:
        watch.say(f"shrinking  {len(plan.steps)} steps")
        controlled = bool(names & CONTROLLED)
        return names <= shrink.failing(judge(carry_out(nodes, plan, watch, controlled=controlled)))

    shrunk = shrink.shrink(archived.observation.plan, fails)
    path = archived.folder / "smallest.json"
    reports.write(path, plan_file.dump(shrunk.plan))
    bound = ", the bound" if shrunk.bounded else ""
    sys.stdout.write(f"smallest plan that still fails {', '.join(sorted(names))} ({shrunk.runs} runs{bound}):\n")
    sys.stdout.write(tree(shrunk.plan) + f"rerun: torchskew rehearse --plan {path}\n\n")


def write_the_reports(rehearsals: Rehearsals) -> Exit:
    """Text to the terminal, pages and data into the folders; the exit code is 0 when every rehearsal passed."""
    return Exit(code=reports.show(rehearsals.judged))


REHEARSE = (
    check_output,
    read_request,
    choose_the_runtime,
    make_plans,
    save_plan,
    stop_at_a_dry_run,
    sweep,
    provision,
    plan_with_what_is_known,
    begin_folder,
    rehearse,
    shrink_failure,
    write_the_reports,
)


def run_rehearsal(options: Options, watch: Watch) -> int:
    """`torchskew rehearse`; its exit code."""
    with ExitStack() as resources:
        return execute(REHEARSE, {Options: options, Watch: watch, ExitStack: resources})
