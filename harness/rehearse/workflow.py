"""The visible tuple of steps of `torchskew rehearse`: the only file that knows their order."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from harness import faults, scope
from harness.declare import declare
from harness.errors import ConfigError, HarnessError, MachineError, ProvisionError
from harness.fields import Problems, Table, parse
from harness.model import Environment, Verdict, Version
from harness.progress import Watch
from harness.provision import provision_all
from harness.rehearse import report, shrink, text
from harness.rehearse.cluster import Cluster
from harness.rehearse.conduct import Conductor, left_over
from harness.rehearse.judge import judge
from harness.rehearse.model import Finding, Observed, Rehearsal
from harness.rehearse.plan import make_rehearsal
from harness.rehearse.spec import Wanted, as_provisioned, wanted
from harness.runtimes import runtime as runtime_named
from harness.runtimes.base import Runtime

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
    results: list[tuple[Observed, Finding]] = field(default_factory=list)
    exit_code: int | None = None


def read_wishes(work: Work) -> None:
    """[rehearsal] of the declaration, with the command line or a plan's file over it."""
    path, options = work.options.declaration, work.options
    problems = Problems(path.name)
    found = parse(path) if path.exists() else {}
    declared = declare(path).versions if path.exists() else {}
    table = Table(problems, "rehearsal", Table(problems, "", found).get("rehearsal", dict, {}))
    fields = dict(options.fields)
    if options.plan is not None:
        plan = text.load(_read(options.plan), str(options.plan))
        work.plans = [plan]
        fields |= {"from": plan.spec.old.name, "to": plan.spec.new.name, "runtime": plan.spec.runtime}
    work.wanted = wanted(table, fields, declared)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}.") from None


def choose_runtime(work: Work) -> None:
    """Docker when a daemon answers, else venv, unless somebody decided; say which and why."""
    asked = work.wanted.runtime
    problem = runtime_named("docker").answers() if asked != "venv" else None
    if asked == "docker" and problem:
        raise MachineError(f"docker: no engine answers: {problem} Start it, or use --runtime venv.")
    name = ("venv" if problem else "docker") if asked == "auto" else asked
    why = (f"no Docker engine: {problem}" if problem else "a Docker engine answers") if asked == "auto" else "asked for"
    work.runtime = runtime_named(name)
    work.versions = as_provisioned(work.wanted.versions, name, work.options.declaration.name)
    work.watch.say(f"torchskew rehearse · {work.runtime.describe()} ({why})")


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
        _write(_folder(work, plan) / "plan.json", text.dump(plan))
    if work.options.dry_run:
        sys.stdout.writelines(f"plan       {_folder(work, plan) / 'plan.json'}\n" for plan in work.plans)
        work.exit_code = 0


def _folder(work: Work, plan: Rehearsal) -> Path:
    name = plan.spec.strategy.replace(":", "-")
    return work.options.out / f"rehearsal-{work.run_id}" / name


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def new_run_id() -> str:
    """Sorts by time, and no two rehearsals of any machines share one."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


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
    """Carry out each plan on nodes of its own, and judge what was seen."""
    for plan in work.plans:
        work.watch.say(f"rehearsing {plan.spec.strategy}: {len(plan.steps)} steps, about {plan.estimate:.0f} s")
        seen = carry_out(work, plan)
        work.results.append((seen, judge(seen)))


def carry_out(work: Work, plan: Rehearsal, *, controlled: bool = True) -> Observed:
    """One plan from the first node's start until the last one's end; everything is torn down whatever happens."""
    with ExitStack() as stack:
        owned = stack.enter_context(scope.opened(new_run_id()))
        stack.callback(work.runtime.close)
        work.runtime.open(owned)
        cluster = Cluster(work.runtime, work.environments)
        try:
            seen = Conductor(plan, cluster, work.watch.say, controlled=controlled).run()
        except BaseException:
            cluster.close()
            raise
        try:
            cluster.close()
        except HarnessError as error:
            return left_over(seen, tuple(str(error).splitlines()))
    return seen


def shrink_failures(work: Work) -> None:
    """--shrink: the smallest plan that still fails as the first failing one does."""
    failed = [(seen, finding) for seen, finding in work.results if finding.verdict is Verdict.FAIL]
    if not work.options.shrink or not failed:
        return
    seen, finding = failed[0]
    wanted_names = shrink.failing(finding)

    def fails(plan: Rehearsal) -> bool:
        work.watch.say(f"shrinking  {len(plan.steps)} steps")
        controlled = bool(wanted_names & CONTROLLED)
        return wanted_names <= shrink.failing(judge(carry_out(work, plan, controlled=controlled)))

    found = shrink.shrink(seen.plan, fails)
    path = _folder(work, seen.plan) / "smallest.json"
    _write(path, text.dump(found.plan))
    bound = ", the bound" if found.bounded else ""
    sys.stdout.write(f"smallest plan that still fails {', '.join(sorted(wanted_names))} ({found.runs} runs{bound}):\n")
    sys.stdout.write(text.tree(found.plan) + f"rerun: torchskew rehearse --plan {path}\n\n")


def write_the_reports(work: Work) -> None:
    """Text to the terminal, pages and facts into the run's folder; the worst verdict decides the exit code."""
    for seen, finding in work.results:
        folder = _folder(work, seen.plan)
        command = f"torchskew rehearse --plan {folder / 'plan.json'}"
        _write(folder / "report.html", report.page(seen, finding, command))
        _write(folder / "report.txt", report.text(seen, finding, command))
        facts = {"schema": text.SCHEMA, "seen": asdict(seen), "finding": asdict(finding)}
        _write(folder / "facts.json", json.dumps(facts, ensure_ascii=False) + "\n")
        sys.stdout.write(f"\n{report.text(seen, finding, command)}")
        sys.stdout.write(f"report     {folder / 'report.html'}\n" if len(work.results) > 1 else "")
    if len(work.results) > 1:
        sys.stdout.write("\n" + report.compared(work.results))
    work.exit_code = 0 if all(finding.verdict is Verdict.PASS for _, finding in work.results) else 1
    work.watch.say(f"report     {work.options.out / f'rehearsal-{work.run_id}'}")


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
