"""The survey: every cell of a declaration in one run, as many versions at a time as the disk holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from torchskew.engine.ledger import Ledger
from torchskew.engine.progress import Watch
from torchskew.engine.session import ProvisionedVersions, Session
from torchskew.errors import ConfigError, RecordError
from torchskew.model.cells import Cell
from torchskew.model.outcomes import Verdict
from torchskew.model.runs import RunInfo, RunKind
from torchskew.model.sizes import readable
from torchskew.model.versions import Version
from torchskew.planning.blocks import blocks
from torchskew.record.record import Record
from torchskew.runtimes.base import Room
from torchskew.workflows.cell_steps import (
    Planned,
    Ready,
    Results,
    Scenarios,
    changed_environments,
    check_output,
    choose_the_runtime,
    finish_record,
    in_order,
    interruptible,
    new_run,
    open_record,
    provisioned,
    recall,
    run_cells,
    sweep,
)
from torchskew.workflows.matrix import make_the_plan, read_the_declaration
from torchskew.workflows.options import Options
from torchskew.workflows.steps import Exit, execute

RESERVE = 10 * 10**9  # bytes of the disk that are left to others where nobody gave a bound


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskBound:
    """The most bytes that all environments may take; None: what the disk holds."""

    bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Versions that fit on the disk together, block by block. bound: in bytes; None: no environment is evicted."""

    of_versions: tuple[tuple[str, ...], ...]
    bound: int | None = None


def begin_or_continue(
    options: Options, planned: Planned, record: Record, scenarios: Scenarios, session: Session
) -> Ledger:
    """Continue an interrupted survey of the same plan, else begin one; only what never ran is left."""
    earlier = _interrupted(record, planned)
    if earlier is None:
        ready = Ready(planned=planned, plan=planned.plan, provisioned=ProvisionedVersions())
        info = new_run(options, ready, session)
        record.begin(info, planned.plan)
        return Ledger(record, info, scenarios.by_name)
    # What could not be provisioned then may be provisioned now.
    results = (result for result in record.results(earlier.run_id) if result.verdict is not Verdict.UNKNOWN)
    ledger = Ledger(record, earlier, scenarios.by_name, results=results)
    done, count = len(ledger.results), len(planned.plan.cells)
    session.watch.say(f"resumed    {earlier.run_id}: {done} of {count} cells were done")
    return ledger


def _interrupted(record: Record, planned: Planned) -> RunInfo | None:
    """The newest survey of this very plan, if it did not reach its end."""
    for info in record.runs():
        if info.plan_digest == planned.plan.digest and info.kind is RunKind.SURVEY:
            return None if info.finished else record.resume(info.run_id, planned.plan)
    return None


def fit_the_disk(planned: Planned, session: Session, disk: DiskBound) -> Blocks:
    """Cut the versions into blocks whose environments fit the bound; one block where all do."""
    names = tuple(dict.fromkeys(name for cell in planned.plan.cells for name in cell.skew))
    if session.elsewhere:
        if disk.bytes is not None:
            raise ConfigError("--disk bounds the environments of this machine. Leave it out on a fleet, or --fleet.")
        return Blocks(of_versions=(names,))
    room = _room(session, planned.versions, names)
    if room is None:
        return Blocks(of_versions=(names,))
    bound = disk.bytes if disk.bytes is not None else room.most(RESERVE)
    cut = blocks(room.wanted(), bound)
    apart = [cell.id for cell in planned.plan.cells if not any(_within(cell, block) for block in cut)]
    if apart:
        raise ConfigError(f"{apart[0]} needs more versions at once than {readable(bound)} hold. Raise --disk.")
    count = f"{len(cut)} blocks" if len(cut) > 1 else "one block"
    session.watch.say(f"disk       {count} of versions within {readable(bound)}")
    return Blocks(of_versions=cut, bound=bound)


def _room(session: Session, versions: Mapping[str, Version], names: Sequence[str]) -> Room | None:
    return session.runtime.room([versions[name] for name in names])


def _within(cell: Cell, block: Sequence[str]) -> bool:
    return set(cell.skew) <= set(block)


def survey_the_blocks(
    options: Options, planned: Planned, session: Session, ledger: Ledger, disk_blocks: Blocks
) -> Results:
    """Block by block: make room, provision, run what is left of the cells whose versions are there."""
    with interruptible(ledger, planned.plan, "the same command again runs the rest."):
        for number, block in enumerate(disk_blocks.of_versions, 1):
            cells = tuple(cell for cell in planned.plan.cells if _within(cell, block) and cell.id not in ledger.results)
            if not cells:
                continue
            if len(disk_blocks.of_versions) > 1:
                place = f"{number} of {len(disk_blocks.of_versions)}"
                session.watch.say(f"block      {place}: {', '.join(block)} · {len(cells)} cells")
                session.release()  # what the block before used may be evicted now
            _make_room(session, planned.versions, block, disk_blocks.bound)
            _survey(options, replace(planned, plan=replace(planned.plan, cells=cells)), session, ledger)
    return in_order(planned.plan, ledger.results)


def _survey(options: Options, block: Planned, session: Session, ledger: Ledger) -> None:
    """One block. Its cells keep their needs: what an earlier block or run found unlocks or blocks them."""
    plan = provisioned(block.plan, block.versions, session, Scenarios(by_name=ledger.scenarios))
    _note_environments(session.provisioned, ledger)
    recall(
        ledger, Ready(planned=block, plan=plan, provisioned=session.provisioned), lambda _: options.cache, session.watch
    )
    run_cells(session, ledger, plan)


def _make_room(session: Session, versions: Mapping[str, Version], block: Sequence[str], bound: int | None) -> None:
    if bound is not None and (room := _room(session, versions, block)) is not None:
        for line in room.make(bound):
            session.watch.say(f"evicted    {line}")


def _note_environments(provisioned: ProvisionedVersions, ledger: Ledger) -> None:
    """The record notes which environment each version had; a run never continues with a different one."""
    info = ledger.info
    if changed := changed_environments(info, provisioned):
        raise RecordError(
            f"Cannot continue run {info.run_id}: the environment of {changed} has changed since the run started. "
            "Give another --out DIR; cells that did not change would come from the cache of this one."
        )
    ledger.note({name: environment.identity for name, environment in provisioned.environments.items()})


def sum_up(planned: Planned, session: Session, ledger: Ledger, results: Results) -> Exit:
    """Print the result of each cell; exit 1 when a cell could not be measured."""
    verdicts = [result.verdict for result in results.of_cells]
    counts = [f"{verdicts.count(verdict)} {verdict.lower()}" for verdict in Verdict]
    surprises = sum(result.surprising for result in results.of_cells)
    session.watch.say(f"measured   {ledger.info.run_id}: {len(planned.plan.cells)} cells = {' + '.join(counts)}")
    session.watch.say(f"surprises  {surprises}")
    return Exit(code=int(Verdict.UNKNOWN in verdicts))


SURVEY = (
    read_the_declaration,
    check_output,
    choose_the_runtime,
    sweep,
    make_the_plan,
    open_record,
    begin_or_continue,
    fit_the_disk,
    survey_the_blocks,
    finish_record,
    sum_up,
)


def run_survey(options: Options, bound: int | None, watch: Watch) -> int:
    """`torchskew survey --measure`; its exit code. bound: bytes that all environments may take together."""
    given = {Options: options, DiskBound: DiskBound(bytes=bound), Watch: watch}
    with ExitStack() as resources:
        return execute(SURVEY, {**given, ExitStack: resources})
