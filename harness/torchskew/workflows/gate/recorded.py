"""Recorded gates: decided again out of the record, and shards put together into one run and one decision."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torchskew
from torchskew.errors import RecordError
from torchskew.judging import flakes
from torchskew.judging.blame import against_baseline, judged
from torchskew.judging.decide import decide
from torchskew.model.cells import Plan
from torchskew.model.results import CellResult, Decision
from torchskew.model.runs import Accepted, Asked, Run, RunInfo, RunKind, Shard
from torchskew.planning.shard import join
from torchskew.record.record import Record
from torchskew.workflows.cell_steps import new_run_id, now, show, today
from torchskew.workflows.gate.workflow import compared
from torchskew.workflows.options import Options
from torchskew.workflows.records import record_in


def asked_of(record: Record, run_id: str) -> Asked | None:
    """What a gate's run was asked, or None for a run of the matrix."""
    return next((mark.payload for mark in record.marks(Asked) if mark.run_id == run_id), None)


def decided_again(record: Record, run: Run, asked: Asked, today: dt.date) -> Decision:
    """A gate's decision from its record, every repetition included; a part of a plan decides nothing here either."""
    results = flakes.fold(
        [{result.cell.id: result for result in each} for each in _repetitions(record, run, asked.repeat)]
    )
    held = against_baseline(run.plan, list(results.values()), run.expectations, asked, today)
    shard = next((mark.payload for mark in record.marks(Shard) if mark.run_id == run.info.run_id), None)
    return judged(held, asked, shard)


def _repetitions(record: Record, run: Run, count: int) -> Iterator[Sequence[CellResult]]:
    yield run.results
    for number in range(1, count):
        results = (record.result(run.info.run_id, cell.id, repeat=number) for cell in run.plan.cells)
        yield [result for result in results if result is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One shard's run, still in its own record. asked: what a gate was asked; None for checks."""

    folder: Path
    record: Record
    run: Run
    shard: Shard
    asked: Asked | None


def merge(folders: Sequence[Path], options: Options) -> int:
    """`torchskew merge`: shards of one plan become one run in --out, and one decision."""
    with ExitStack() as stack:
        parts = [_part(folder, stack.enter_context(record_in(folder))) for folder in folders]
        plan = join([(str(part.folder), part.run.plan, part.shard) for part in parts])
        _check_same(parts)
        record = stack.enter_context(record_in(options.out, create=True))
        info = _begin(record, plan, parts, options.command)
        for part in parts:
            _copy(part, record, info.run_id)
        record.finish(info.run_id, now())
        return _decide(record, info.run_id, parts[0].asked, options)


def _part(folder: Path, record: Record) -> _Part:
    marks = record.marks(Shard)
    if not marks:
        raise RecordError(f"{folder} holds no shard. Make one: torchskew gate --shard 1/2 … --out {folder}")
    run_id = marks[0].run_id
    run, asked = record.load(run_id), asked_of(record, run_id)
    if run.info.finished is None or (asked is None and run.info.kind is not RunKind.CHECK):
        raise RecordError(f"{folder}: shard {run_id} was interrupted. Go on with it: the same command with --resume.")
    return _Part(folder=folder, record=record, run=run, shard=marks[0].payload, asked=asked)


def _check_same(parts: Sequence[_Part]) -> None:
    """One version is one environment on every machine, and one baseline held for all."""
    first, problems = parts[0], []
    ran: dict[str, _Part] = {}  # the first part that ran a version; a part need not run every version
    for part in parts:
        for name, identity in part.run.info.environments.items():
            earlier = ran.setdefault(name, part)
            if earlier.run.info.environments[name] != identity:
                problems.append(f"{part.folder} ran another environment of {name} than {earlier.folder}")
        if part.run.expectations != first.run.expectations:
            problems.append(f"{part.folder} was held against another baseline than {first.folder}")
    if problems:
        raise RecordError("\n".join([*problems, "Run every shard of one candidate with the same files."]))


def _begin(record: Record, plan: Plan, parts: Sequence[_Part], command: str) -> RunInfo:
    heads = [part.run.info for part in parts]
    environments = {name: identity for head in heads for name, identity in head.environments.items()}
    info = replace(
        heads[0],
        run_id=new_run_id(),
        kind=RunKind.MERGE,
        command=command,
        torchskew=torchskew.__version__,
        plan_digest=plan.digest,
        started=min(head.started for head in heads),
        finished=None,
        environments=environments,
    )
    record.begin(info, plan, parts[0].run.expectations)
    if parts[0].asked is not None:
        record.mark(info.run_id, parts[0].asked)
    return info


def _copy(part: _Part, record: Record, run_id: str) -> None:
    for number in range(part.asked.repeat if part.asked else 1):
        for cell in part.run.plan.cells:
            result = part.record.result(part.run.info.run_id, cell.id, repeat=number)
            if result is not None:
                record.write(run_id, replace(result, cached=False), repeat=number)


def _decide(record: Record, run_id: str, asked: Asked | None, options: Options) -> int:
    run = record.load(run_id)
    if asked is None:
        decision = decide(run.plan, run.results, run.expectations, today=today())
        show(record, run, decision, options)
        return decision.exit_code
    decision = compared(record, run.info, decided_again(record, run, asked, today()), asked)
    show(record, run, decision, options)
    if decision.exit_code == 0 and asked.selection:
        record.mark(run_id, Accepted(selection=asked.selection))
    return decision.exit_code
