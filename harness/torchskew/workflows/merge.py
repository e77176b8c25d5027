"""`torchskew merge`: the parts of one plan, run on several machines, become one run and one decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torchskew
from torchskew.errors import RecordError
from torchskew.judging.controls import against_controls
from torchskew.judging.decide import decide
from torchskew.model.cells import Plan
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Verdict
from torchskew.model.results import CellResult
from torchskew.model.runs import Accepted, Asked, Run, RunInfo, RunKind, Shard, Unmatched
from torchskew.planning.shard import join
from torchskew.record.record import Record
from torchskew.workflows.cell_steps import new_run_id, now, show, today
from torchskew.workflows.gate.recorded import decided_again
from torchskew.workflows.gate.workflow import compared
from torchskew.workflows.options import Options
from torchskew.workflows.records import record_in
from torchskew.workflows.suite import show_suite


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One shard's run, still in its own record. asked: what a gate was asked; None for anything else."""

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
        for number in range(parts[0].asked.repeat if parts[0].asked else 1):
            for result in _results(parts, number).values():
                record.write(info.run_id, replace(result, cached=False), repeat=number)
        record.finish(info.run_id, now())
        return _decide(record, info.run_id, parts[0].asked, options)


def _part(folder: Path, record: Record) -> _Part:
    marks = record.marks(Shard)
    if not marks:
        raise RecordError(f"{folder} holds no shard. Make one: the command with --shard 1/2 --out {folder}")
    run_id = marks[0].run_id
    run, asked = record.load(run_id), record.mark_of(Asked, run_id)
    if run.info.finished is None or (asked is None and run.info.kind is RunKind.GATE):
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
        kind=RunKind.SUITE if heads[0].kind is RunKind.SUITE else RunKind.MERGE,
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
    unmatched = parts[0].record.mark_of(Unmatched, parts[0].run.info.run_id)
    if unmatched is not None:  # the parts were cut from one plan, and held against one baseline
        record.mark(info.run_id, unmatched)
    return info


def _results(parts: Sequence[_Part], number: int) -> Mapping[CellId, CellResult]:
    """Each cell's result in one repetition. Parts may share a cell that others need: what failed in one, failed."""
    results: dict[CellId, CellResult] = {}
    for part in parts:
        for cell in part.run.plan.cells:
            result = part.record.result(part.run.info.run_id, cell.id, repeat=number)
            if result is not None and results.get(cell.id, result).verdict in (Verdict.PASS, result.verdict):
                results[cell.id] = result
    return results


def _decide(record: Record, run_id: str, asked: Asked | None, options: Options) -> int:
    run = record.load(run_id)
    if run.info.kind is RunKind.SUITE:
        decision = against_controls(run.plan, run.results, run.expectations, today())
        show_suite(record, run, decision, options)
        return decision.exit_code
    if asked is None:
        unmatched = record.mark_of(Unmatched, run_id)
        decision = decide(run.plan, run.results, run.expectations, today=today(), unmatched=unmatched)
        show(record, run, decision, options)
        return decision.exit_code
    decision = compared(record, run.info, decided_again(record, run, asked, today()), asked)
    show(record, run, decision, options)
    if decision.exit_code == 0 and asked.selection:
        record.mark(run_id, Accepted(selection=asked.selection))
    return decision.exit_code
