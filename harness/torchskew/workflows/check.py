"""Checks: a user's own commands as cells, one in each version; the tuple of steps is at the end."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from torchskew.declaration.checks import read_checks
from torchskew.declaration.declare import all_for_runtime
from torchskew.declaration.fleet import asked_fleet
from torchskew.engine.ledger import Ledger
from torchskew.engine.progress import Watch
from torchskew.engine.run import unsupported
from torchskew.engine.session import Session
from torchskew.errors import ConfigError
from torchskew.inside import protocol
from torchskew.model.cells import Cell, Plan
from torchskew.model.checks import Check
from torchskew.model.declared import Declaration
from torchskew.model.ids import CellId
from torchskew.model.reruns import Rerun
from torchskew.model.runs import RunKind, Shard
from torchskew.model.versions import Version
from torchskew.planning.checks import Place, ordered, plan_checks, select, skip
from torchskew.planning.plan import matching, narrow, plan_of
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
    recall,
    run_cells,
    sweep,
    today,
    write_the_reports,
)
from torchskew.workflows.inputs import read_baseline, read_declaration, read_document, read_scenario
from torchskew.workflows.options import Options
from torchskew.workflows.records import part_of, record_in
from torchskew.workflows.steps import Exit, execute

BASELINE = "check-expectations.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What was asked of `torchskew check`. until: newest upload of a package, ISO 8601; None: the start of this day.

    extra: words that every command gets at its end. stop: the first failure ends the run. listing: only list them.
    """

    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    until: str | None = None
    stop: bool = False
    listing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """The declared checks that were selected, in their order."""

    selected: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Cells of versions to which their check does not apply, with the reason, as far as releases are declared."""

    reasons: Mapping[CellId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inapplicable(Skipped):
    """The same, now that the release of every version that could be made is known."""


def read_the_checks(options: Options, request: CheckRequest) -> tuple[Declaration, Checks]:
    """The declaration and those of its checks that were asked for."""
    declaration = read_declaration(options.declaration)
    declared = read_checks(read_document(options.declaration.absolute()), declaration.versions)
    return declaration, Checks(selected=select(declared, request.names, request.tags))


def list_the_checks(request: CheckRequest, checks: Checks) -> Exit | None:
    """--list ends here."""
    if not request.listing:
        return None
    for check in checks.selected:
        words = check.command if isinstance(check.command, str) else " ".join(check.command)
        where = check.on_releases or ", ".join(check.on_versions) or "every version"
        sys.stdout.write(f"{check.name}   {', '.join(check.run_on)} · {where} · {words}\n")
    return Exit(code=0)


def wish_for_a_runtime(options: Options, declaration: Declaration) -> RuntimeWish:
    """The runtime that was asked for, else the declared one."""
    declared = next(iter(declaration.matrix.values())).runtime
    return RuntimeWish(
        name=options.runtime or declared,
        by="asked for" if options.runtime else "declared",
        versions={name: tuple(_of(declaration, name, options).values()) for name in declaration.matrix},
        fleet=asked_fleet(declaration.fleet, options.fleet),
    )


def _of(declaration: Declaration, runtime: str, options: Options) -> dict[str, Version]:
    """The versions that the checks run on: those that were named, else those of the runtime's matrix."""
    listed = matching(options.versions, declaration.versions, "version") if options.versions else ()
    return {name: declaration.versions[name] for name in listed or declaration.matrix[runtime].versions}


def plan_the_checks(
    options: Options, request: CheckRequest, declaration: Declaration, checks: Checks, session: Session
) -> tuple[Planned, Divided, Skipped, Scenarios]:
    """Checks and versions become cells."""
    root, runtime = Path(declaration.path).absolute().parent, session.runtime.name
    versions = all_for_runtime(_of(declaration, runtime, options), runtime, Path(declaration.path).name)
    place = Place(
        root=str(root),
        runtime=runtime,
        until=_until(options, request),
        extra=request.extra,
        inputs={check.name: _digest(root, check) for check in checks.selected},
    )
    planned = plan_checks(checks.selected, versions, read_scenario(protocol.COMMAND), place)
    every = plan_of(planned.cells, runtime, options.seed)
    skipped = _skipped(checks, [(cell, versions[cell.skew[0]]) for cell in every.cells])
    plan, shard = _part(options, request, checks, narrow(every, options.only), skipped)
    session.watch.say(
        f"plan       {len(checks.selected)} checks, {len(versions)} versions, {len(plan.cells)} cells"
        f"{f' (shard {options.shard})' if shard else ''} · packages until {place.until} · digest {plan.digest}"
    )
    return (
        Planned(
            plan=plan,
            versions=planned.versions,
            rerun=rerun(options, request, runtime, place.until),
            whole=every.cells,
            expectations=read_baseline(root / BASELINE),
            until=place.until,
        ),
        Divided(shard=shard),
        Skipped(reasons=skipped),
        Scenarios(by_name=planned.scenarios),
    )


def _part(
    options: Options, request: CheckRequest, checks: Checks, plan: Plan, skipped: Mapping[CellId, str]
) -> tuple[Plan, Shard | None]:
    """The shard that was asked for; cells that wait for each other stay together."""
    if options.shard is not None:
        plan = plan_of(ordered(plan.cells, checks.selected, skipped, stop=request.stop), plan.runtime, plan.seed)
    return part_of(plan, options.shard, options.balance)


def _until(options: Options, request: CheckRequest) -> str:
    """The newest upload of a package: as asked, as in the run that is resumed, else the start of this day."""
    if request.until:
        return request.until
    if options.resume:
        with record_in(options.out) as record:
            before = next((info for info in record.runs() if info.kind is RunKind.CHECK), None)
        if before and before.until:
            return before.until
    return f"{today().isoformat()}T00:00:00Z"


def _digest(root: Path, check: Check) -> str:
    """Digest of the files that a check's result depends on; empty where it names none."""
    if not check.inputs:
        return ""
    whole = hashlib.sha256()
    for pattern in check.inputs:
        files = sorted(path for path in root.glob(pattern) if path.is_file())
        if not files:
            raise ConfigError(f"checks.{check.name}.inputs: {pattern!r} matches no file below {root}. Correct it.")
        for path in files:
            whole.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return whole.hexdigest()


def _skipped(checks: Checks, cells: Sequence[tuple[Cell, Version]]) -> dict[CellId, str]:
    by_name = {check.name: check for check in checks.selected}
    reasons = ((cell.id, skip(by_name[cell.scenario], version)) for cell, version in cells)
    return {cell_id: why for cell_id, why in reasons if why}


def rerun(options: Options, request: CheckRequest, runtime: str, until: str) -> Rerun:
    """The command that plans the same cells again, from packages of the same day."""
    return (
        Rerun(words=("torchskew", "check", *request.names), passed_on=request.extra)
        .given("--declaration", options.own_declaration)
        .given("--runtime", [runtime])
        .given("--versions", options.versions)
        .given("--tag", request.tags)
        .given("--exclude-newer", [until])
        .given("--out", options.own_out)
    )


def stop_before_anything_runs(options: Options, planned: Planned, skipped: Skipped) -> Exit | None:
    """--dry-run ends here: it prints the cells with their environments, and has made and written nothing."""
    if not options.dry_run:
        return None
    for cell in planned.plan.cells:
        why = skipped.reasons.get(cell.id)
        sys.stdout.write(f"{cell.id}   {f'not run: {why}' if why else f'in {cell.provided[0]}'}\n")
    return Exit(code=0)


def provision_the_checks(
    request: CheckRequest, checks: Checks, planned: Planned, skipped: Skipped, session: Session
) -> tuple[Ready, Inapplicable]:
    """Make or reuse the environments of the cells that run; equal sets of requirements share one."""
    cells = planned.plan.cells
    used = dict.fromkeys(name for cell in cells if cell.id not in skipped.reasons for name in cell.provided)
    made = session.provision(planned.versions[name] for name in used)
    for failure in made.failures.values():
        session.watch.say(f"{failure}")
    session.watch.say(f"versions   {made.notes(used) or 'none could be made'}")
    reasons = {**skipped.reasons, **_skipped(checks, _released(cells, made.versions))}
    plan = replace(planned.plan, cells=ordered(cells, checks.selected, reasons, stop=request.stop))
    return Ready(planned=planned, plan=plan, provisioned=made), Inapplicable(reasons=reasons)


def _released(cells: Sequence[Cell], versions: Mapping[str, Version]) -> list[tuple[Cell, Version]]:
    """Each cell whose environment could be made, with its version as it is now known."""
    made = [cell for cell in cells if cell.provided[0] in versions]
    return [(cell, replace(versions[cell.provided[0]], name=cell.skew[0])) for cell in made]


def run_the_checks(
    options: Options, ready: Ready, inapplicable: Inapplicable, session: Session, ledger: Ledger
) -> Results:
    """Enter what does not apply, take over what did not change, run what is left."""
    with interruptible(ledger, ready.plan, f"`{options.name} --resume` runs the rest."):
        for cell in ready.plan.cells:
            if cell.id in inapplicable.reasons and cell.id not in ledger.results:
                ledger.enter(unsupported(cell, inapplicable.reasons[cell.id]))
        recall(ledger, ready, lambda cell: options.cache and _says_what_it_reads(cell), session.watch)
        run_cells(session, ledger, ready.plan)
    return in_order(ready.plan, ledger.results)


def _says_what_it_reads(cell: Cell) -> bool:
    """Whether equal content of its declared inputs means an equal result."""
    return cell.variant is not None and bool(cell.variant.params["inputs"])


CHECK = (
    read_the_checks,
    list_the_checks,
    wish_for_a_runtime,
    check_output,
    choose_the_runtime,
    sweep,
    plan_the_checks,
    stop_before_anything_runs,
    provision_the_checks,
    open_record,
    begin_or_resume,
    mark_the_shard,
    find_the_unmatched,
    run_the_checks,
    finish_record,
    hold_against_the_baseline,
    write_the_reports,
)


def default_jobs() -> int:
    """Checks that run at once: each of them works, so no more than there are processors."""
    return os.cpu_count() or 1


def run_checks(request: CheckRequest, options: Options, watch: Watch) -> int:
    """`torchskew check`; its exit code."""
    with ExitStack() as resources:
        given = replace(options, jobs=options.jobs or default_jobs())
        return execute(CHECK, {CheckRequest: request, Options: given, Watch: watch, ExitStack: resources})
