"""The wide measurement: every cell of a declaration in one run, as many versions at a time as the disk holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torchskew.errors import ConfigError, InterruptedRunError, RecordError
from torchskew.model.cells import Cell, Plan
from torchskew.model.outcomes import Verdict
from torchskew.model.runs import RunInfo, RunKind
from torchskew.model.sizes import readable
from torchskew.planning.blocks import blocks
from torchskew.runtimes.base import Room
from torchskew.workflows.matrix import (
    Work,
    begin_run,
    choose_runtime,
    finish_record,
    make_the_plan,
    open_record,
    provision,
    read_declaration,
    recall,
    run,
    sweep,
)

RESERVE = 10 * 10**9  # bytes of the disk that are left to others where nobody gave a bound


@dataclass(slots=True, kw_only=True)
class Measurement(Work):
    """What the steps have made so far. bound: bytes that all environments may take, None for what the disk holds."""

    # No cell of such a run is held against a baseline: it is a measurement, and what came out is its result.
    kind: ClassVar[RunKind] = RunKind.SURVEY
    bound: int | None = None
    room: Room | None = None
    blocks: tuple[tuple[str, ...], ...] = ()
    every: Plan = field(init=False)


def take_up(work: Measurement) -> None:
    """Go on with an interrupted measurement of the same plan, else begin one; only what never ran is left."""
    work.every = work.plan
    open_record(work)
    earlier = _interrupted(work)
    if earlier is None:
        begin_run(work)
        return
    work.info = earlier
    found = work.record.results(earlier.run_id)
    # What could not be made then may be made now.
    work.results.update({one.cell.id: one for one in found if one.verdict is not Verdict.UNKNOWN})
    done, planned = len(work.results), len(work.every.cells)
    work.watch.say(f"resumed    {earlier.run_id}: {done} of {planned} cells were done")


def _interrupted(work: Measurement) -> RunInfo | None:
    """The newest run of this very plan, when it did not come to its end."""
    for info in work.record.runs():
        if info.plan_digest == work.every.digest and info.kind is RunKind.SURVEY:
            return None if info.finished else work.record.resume(info.run_id, work.every)
    return None


def fit_the_disk(work: Measurement) -> None:
    """Cut the versions into blocks whose environments fit the bound; one block where all do."""
    names = list(dict.fromkeys(name for cell in work.every.cells for name in cell.skew))
    work.room = work.runtime.room([work.versions[name] for name in names])
    if work.room is None:
        work.blocks = (tuple(names),)
        return
    bound = work.bound if work.bound is not None else work.room.most(RESERVE)
    work.blocks = blocks(work.room.wanted(), bound)
    work.bound = bound
    apart = [cell.id for cell in work.every.cells if not any(_within(cell, block) for block in work.blocks)]
    if apart:
        raise ConfigError(f"{apart[0]} needs more versions at once than {readable(bound)} hold. Raise --disk.")
    count = f"{len(work.blocks)} blocks" if len(work.blocks) > 1 else "one block"
    work.watch.say(f"disk       {count} of versions within {readable(bound)}")


def _within(cell: Cell, block: Sequence[str]) -> bool:
    return set(cell.skew) <= set(block)


def measure(work: Measurement) -> None:
    """Block by block: make room, provision, run what is left of the cells whose versions are there."""
    for number, block in enumerate(work.blocks, 1):
        cells = tuple(cell for cell in work.every.cells if _within(cell, block) and cell.id not in work.results)
        if not cells:
            continue
        if len(work.blocks) > 1:
            work.watch.say(f"block      {number} of {len(work.blocks)}: {', '.join(block)} · {len(cells)} cells")
        # With their needs as they are: what an earlier block or run found unlocks or blocks them.
        work.plan = replace(work.every, cells=cells)
        outer = work.stack
        with ExitStack() as work.stack:
            _make_room(work, block)
            provision(work)
            _note(work)
            recall(work)
            _run(work)
        work.stack = outer
    work.plan = work.every


def _run(work: Measurement) -> None:
    try:
        run(work)
    except InterruptedRunError:
        done = f"{len(work.results)} of {len(work.every.cells)} cells are in the record"
        raise InterruptedRunError(f"interrupted: {done}; the same command again runs the rest.") from None


def _make_room(work: Measurement, block: Sequence[str]) -> None:
    if len(work.blocks) > 1:
        work.runtime.close()  # what the block before used may go now
    room = work.runtime.room([work.versions[name] for name in block])
    if room is not None and work.bound is not None:
        for line in room.make(work.bound):
            work.watch.say(f"evicted    {line}")


def _note(work: Measurement) -> None:
    """Keep which environment each version was; a run never goes on with another one."""
    made = {name: environment.identity for name, environment in work.environments.items()}
    changed = [name for name, identity in made.items() if work.info.environments.get(name, identity) != identity]
    if changed:
        raise RecordError(
            f"run {work.info.run_id} can't go on: the environment of {', '.join(changed)} is another one now. "
            "Give another --out DIR; cells that did not change would come from the cache of this one."
        )
    fresh = {name: identity for name, identity in made.items() if name not in work.info.environments}
    work.record.provisioned(work.info.run_id, fresh)
    work.info = replace(work.info, environments={**work.info.environments, **fresh})


def account(work: Measurement) -> None:
    """Say what it came to; exit 1 when a cell could not be measured."""
    results = [work.results[cell.id] for cell in work.every.cells]
    counts = [f"{sum(one.verdict is verdict for one in results)} {verdict.value.lower()}" for verdict in Verdict]
    surprises = sum(one.surprising for one in results)
    work.watch.say(f"measured   {work.info.run_id}: {len(results)} cells = {' + '.join(counts)}")
    work.watch.say(f"surprises  {surprises}")
    work.exit_code = int(any(one.verdict is Verdict.UNKNOWN for one in results))


MEASURE: tuple[Callable[[Measurement], None], ...] = (
    read_declaration,
    choose_runtime,
    sweep,
    make_the_plan,
    take_up,
    fit_the_disk,
    measure,
    finish_record,
    account,
)
