"""The visible tuple of steps of `torchskew rehearse`: the only file that knows their order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from torchskew import faults
from torchskew.declaration.fields import Problems, Table, parse
from torchskew.engine.progress import Watch
from torchskew.engine.provision import provision_all
from torchskew.errors import ConfigError, HarnessError, InterruptedRunError, ProvisionError
from torchskew.model.outcomes import Verdict
from torchskew.model.versions import Environment, Version
from torchskew.runtimes import ownership
from torchskew.runtimes.base import Runtime
from torchskew.runtimes.choice import choose, for_every
from torchskew.workflows.inputs import read_declaration, read_document
from torchskew.workflows.matrix import new_run_id
from torchskew.workflows.rehearsal import keep, shrink, tell, text
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.conduct import Conductor, left_over
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.model import Observed, Rehearsal
from torchskew.workflows.rehearsal.plan import digested, make_rehearsal
from torchskew.workflows.rehearsal.runnable import flaw
from torchskew.workflows.rehearsal.spec import Wanted, as_provisioned, wanted

# What needs the controls: shrinking runs them only where one of these failed.
CONTROLLED = frozenset({"R3", "R4"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person asked for. fields: those of [rehearsal] that the command line gave."""

    declaration: Path = Path("torchskew.toml")
    out: Path = Path("out")
    fields: Mapping[str, object] = field(default_factory=dict)
    plan: Path | None = None
    dry_run: bool = False
    shrink: bool = False
    command: str = "torchskew rehearse"


@dataclass(slots=True, kw_only=True)
class Work:
    """What the steps have made so far."""

    options: Options
    watch: Watch
    stack: ExitStack
    wanted: Wanted = field(init=False)
    runtime: Runtime = field(init=False)
    versions: Mapping[str, Version] = field(init=False)
    plans: list[Rehearsal] = field(default_factory=list)
    environments: dict[str, Environment] = field(default_factory=dict)
    run_id: str = field(init=False)
    results: list[tell.Judged] = field(default_factory=list)
    exit_code: int | None = None


def read_wishes(work: Work) -> None:
    """[rehearsal] of the declaration with the command line over it, or a plan's file, which holds everything."""
    path, options = work.options.declaration, work.options
    declared = read_declaration(path).versions if path.exists() else {}
    if options.plan is not None:
        work.plans = [saved(options.plan, options.fields, work.watch)]
        spec = work.plans[0].spec
        fields = {"from": spec.old.name, "to": spec.new.name, "runtime": spec.runtime}
        work.wanted = wanted(Table(Problems(str(options.plan)), "spec", {}), fields, declared)
        return
    problems = Problems(path.name)
    found = parse(read_document(path)) if path.exists() else {}
    table = Table(problems, "rehearsal", Table(problems, "", found).get("rehearsal", dict, {}))
    work.wanted = wanted(table, options.fields, declared)


def saved(path: Path, fields: Mapping[str, object], watch: Watch) -> Rehearsal:
    """A plan out of its file, ready to be carried out again.

    Raises:
        ConfigError: it can't be read or carried out, or something else was asked for beside it.
    """
    try:
        plan = text.load(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}.") from None
    if fields:
        named = ", ".join(f"--{name}" for name in fields)
        raise ConfigError(f"--plan holds all that is rehearsed, {named} would not be followed. Leave one of them out.")
    if why := flaw(plan.steps, plan.spec):
        raise ConfigError(f"{path}: can't be carried out: {why}. Mend it, or write another plan with --dry-run.")
    made = digested(plan)
    if made.digest != plan.digest:
        watch.say(f"plan       {path.name} was edited, or made by another torchskew: its digest is {made.digest} now")
    return made


def choose_runtime(work: Work) -> None:
    """The runtime that was asked for or declared, else one that can provide both releases; say which and why."""
    chosen = choose(work.wanted.runtime, for_every(list(work.wanted.versions.values())))
    work.runtime = chosen.runtime
    specs = [plan.spec for plan in work.plans] or work.wanted.specs
    work.versions = as_provisioned(work.wanted.versions, work.runtime.name, work.options.declaration.name, specs)
    work.watch.say(f"torchskew rehearse · {work.runtime.describe()} ({chosen.why})")


def make_the_plans(work: Work) -> None:
    """One plan a strategy, printed before anything runs; --dry-run ends here, with the first plan as JSON in --out."""
    lacking = faults.unsupported(work.runtime.name)
    if not work.plans:
        for spec in work.wanted.specs:
            named = replace(spec, runtime=work.runtime.name)
            old, new = (replace(one, torch=work.versions[one.name].torch) for one in (spec.old, spec.new))
            work.plans.append(make_rehearsal(replace(named, old=old, new=new), lacking))
    for plan in work.plans:
        sys.stdout.write(text.tree(plan) + "\n")
    work.run_id = new_run_id()
    for plan in work.plans:
        tell.write(_folder(work, plan) / keep.PLAN, text.dump(plan))
    if work.options.dry_run:
        sys.stdout.writelines(f"plan       {_folder(work, plan) / keep.PLAN}\n" for plan in work.plans)
        work.exit_code = 0


def _folder(work: Work, plan: Rehearsal) -> Path:
    name = plan.spec.strategy.replace(":", "-")
    return work.options.out / f"{keep.PREFIX}{work.run_id}" / name


def sweep(work: Work) -> None:
    """Remove what a killed run of this machine left behind, and nothing else."""
    for line in work.runtime.sweep():
        work.watch.say(f"swept      {line}")


def provision(work: Work) -> None:
    """Both releases' environments; without them there is nothing to rehearse."""
    made = provision_all(work.runtime, list(work.versions.values()), work.watch)
    for name, outcome in made.items():
        if isinstance(outcome, ProvisionError):
            raise outcome
        work.environments[name] = outcome
    notes = " · ".join(f"{env.version} {env.note or env.identity[:12]}" for env in work.environments.values())
    work.watch.say(f"versions   {notes}")


def rehearse(work: Work) -> None:
    """Carry out each plan on nodes of its own; what was seen is in its folder before the next one begins."""
    for plan in work.plans:
        work.watch.say(f"rehearsing {plan.spec.strategy}: {len(plan.steps)} steps, about {plan.estimate:.0f} s")
        kept = keep.Kept(folder=_folder(work, plan), seen=carry_out(work, plan, _folder(work, plan)))
        tell.write(kept.folder / keep.FACTS, keep.facts(kept.seen))
        work.results.append((kept, judge(kept.seen)))


def carry_out(work: Work, plan: Rehearsal, folder: Path | None = None, *, controlled: bool = True) -> Observed:
    """One plan from the first node's start until the last one's end; everything is torn down whatever happens.

    Raises:
        InterruptedRunError: Ctrl-C; what was seen until then lies in the folder, where there is one.
    """
    with ExitStack() as stack:
        owned = stack.enter_context(ownership.opened(new_run_id()))
        stack.callback(work.runtime.close)
        work.runtime.open(owned)
        cluster = Cluster(work.runtime, work.environments)
        conductor = Conductor(plan, cluster, work.watch.say, controlled=controlled)
        try:
            seen = conductor.run()
        except BaseException as error:
            cluster.abandon()
            if isinstance(error, KeyboardInterrupt) and folder:
                raise _interrupted(conductor.seen(), folder) from None
            raise
        try:
            cluster.close()
        except HarnessError as error:
            return left_over(seen, tuple(str(error).splitlines()))
    return seen


def _interrupted(seen: Observed, folder: Path) -> InterruptedRunError:
    tell.write(folder / keep.FACTS, keep.facts(seen))
    done = f"{len(seen.results)} of {len(seen.plan.steps)} steps were done"
    return InterruptedRunError(f"interrupted: {done}; `torchskew report {folder}` shows what was seen until then.")


def shrink_failures(work: Work) -> None:
    """--shrink: the smallest plan that still fails as the first failing one does."""
    failed = [(kept, finding) for kept, finding in work.results if finding.verdict is Verdict.FAIL]
    if not work.options.shrink or not failed:
        return
    kept, finding = failed[0]
    names = shrink.failing(finding)

    def fails(plan: Rehearsal) -> bool:
        work.watch.say(f"shrinking  {len(plan.steps)} steps")
        controlled = bool(names & CONTROLLED)
        return names <= shrink.failing(judge(carry_out(work, plan, controlled=controlled)))

    found = shrink.shrink(kept.seen.plan, fails)
    path = kept.folder / "smallest.json"
    tell.write(path, text.dump(found.plan))
    bound = ", the bound" if found.bounded else ""
    sys.stdout.write(f"smallest plan that still fails {', '.join(sorted(names))} ({found.runs} runs{bound}):\n")
    sys.stdout.write(text.tree(found.plan) + f"rerun: torchskew rehearse --plan {path}\n\n")


def write_the_reports(work: Work) -> None:
    """Text to the terminal, pages and data into the run's folder; the worst verdict decides the exit code."""
    work.exit_code = tell.show(work.results)


REHEARSE: tuple[Callable[[Work], None], ...] = (
    read_wishes,
    choose_runtime,
    make_the_plans,
    sweep,
    provision,
    rehearse,
    shrink_failures,
    write_the_reports,
)


def execute(options: Options, watch: Watch) -> int:
    """Run the steps until one sets the exit code."""
    with ExitStack() as stack:
        work = Work(options=options, watch=watch, stack=stack)
        for step in REHEARSE:
            step(work)
            if work.exit_code is not None:
                return work.exit_code
    raise AssertionError("the last step sets the exit code")
