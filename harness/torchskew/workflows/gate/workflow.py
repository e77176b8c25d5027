"""The visible tuple of the gate's steps: the matrix's own, with the candidate, its baseline and its comparison."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from torchskew.engine.progress import Watch
from torchskew.judging import diff, update
from torchskew.judging.blame import Asked, judged, not_worse
from torchskew.judging.decide import stale
from torchskew.judging.flakes import fold
from torchskew.model.results import Decision
from torchskew.model.runs import Accepted, RunInfo, Selection
from torchskew.record.record import Record
from torchskew.workflows.gate.steps import (
    GateWork,
    Request,
    plan_the_gate,
    provision_the_subjects,
    read_the_gate,
)
from torchskew.workflows.inputs import append_to_baseline
from torchskew.workflows.matrix import (
    Options,
    begin_record,
    choose_runtime,
    finish_record,
    provision,
    recall,
    run,
    show,
    sweep,
)


def mark_the_run(work: GateWork) -> None:
    """The record notes what was asked, so that a report or a merge can decide again."""
    if not work.options.resume:
        work.record.mark(work.info.run_id, asked(work))
        if work.shard is not None:
            work.record.mark(work.info.run_id, work.shard)


def asked(work: GateWork) -> Asked:
    """What decides a recorded run again."""
    return Asked(
        subject=work.request.subject,
        repeat=work.request.repeat,
        problems=tuple(stale(work.declaration.expectations, (*work.whole.cells, *work.plan.cells), work.plan.runtime)),
        selection=_selection(work),
    )


def _selection(work: GateWork) -> Selection | None:
    """What a green run is the measure for: the same releases, tier and conditions."""
    if work.options.only or work.options.scenarios:
        return None
    spec = work.spec
    return Selection(runtime=work.plan.runtime, against=spec.against, tier=spec.tier, guard=spec.guard, base=spec.base)


def run_every_repetition(work: GateWork) -> None:
    """Run what nothing is known of, as often as asked; a repetition never reuses another's result."""
    for number in range(work.request.repeat):
        work.repetition = number
        work.results = work.results if number == 0 else {}
        outer = work.stack
        with ExitStack() as work.stack:
            recall(work)
            run(work)
        work.stack = outer
        work.repetitions.append(work.results)


def decide_the_gate(work: GateWork) -> None:
    """Baseline, controls and base: what the candidate is to blame for; then what changed since the accepted run."""
    today = dt.datetime.now(dt.UTC).date()
    work.results = fold(work.repetitions)
    found = judged(work.plan, list(work.results.values()), work.declaration.expectations, asked(work), today)
    # A part of a plan has only some cells of the run that is the measure.
    part = replace(asked(work), selection=None) if work.shard else asked(work)
    work.decision = compared(work.record, work.info, found, part)


def compared(record: Record, info: RunInfo, decision: Decision, asked: Asked) -> Decision:
    """The decision with what changed since the newest accepted run, when there is one.

    That is one of the same selection; else, cell by cell where both have the cell, one of the same runtime.
    """
    marks = [mark for mark in record.marks(Accepted) if mark.run_id != info.run_id]
    after = [item.result for item in decision.checked]
    for mark in marks:
        if mark.payload.selection == asked.selection:
            found = diff.difference(record.results(mark.run_id), after)
            return not_worse(decision, found, mark.run_id, asked, info.rerun)
    runtimes = {result.cell.runtime for result in after}
    for mark in marks:
        if mark.payload.selection.runtime not in runtimes:
            continue
        found = diff.in_common(record.results(mark.run_id), after)
        if found.compared:
            return not_worse(decision, found, mark.run_id, asked, info.rerun)
    return decision


def update_the_baseline(work: GateWork) -> None:
    """With --update-baseline, what the baseline would have to say goes to its end, for somebody to finish."""
    if not work.request.update_baseline:
        return
    block = update.difference(work.decision, work.info.run_id)
    if block:
        append_to_baseline(work.baseline, block)
        entries = sum(line.startswith("[[") for line in block.splitlines())
        words = "entry" if entries == 1 else "entries"
        work.watch.say(f"baseline   {work.baseline}: appended {entries} {words}; write the reasons")
    else:
        work.watch.say(f"baseline   {work.baseline}: nothing to change")


def tell(work: GateWork) -> None:
    """Reports into the run's folder, the summary to the terminal; a green whole run is accepted from now on."""
    show(work.record, work.info.run_id, work.decision, work.options)
    selection = _selection(work)
    if work.decision.exit_code == 0 and selection and not work.shard:
        work.record.mark(work.info.run_id, Accepted(selection=selection))
    work.exit_code = work.decision.exit_code


Step = Callable[[GateWork], None]
STEPS: tuple[Step, ...] = (
    read_the_gate,
    choose_runtime,
    sweep,
    provision_the_subjects,
    plan_the_gate,
    provision,
    begin_record,
    mark_the_run,
    run_every_repetition,
    finish_record,
    decide_the_gate,
    update_the_baseline,
    tell,
)


def execute(request: Request, options: Options, watch: Watch, steps: Sequence[Step] = STEPS) -> int:
    """Run the steps until one sets the exit code."""
    with ExitStack() as stack:
        work = GateWork(request=request, options=options, watch=watch, stack=stack)
        for step in steps:
            step(work)
            if work.exit_code is not None:
                return work.exit_code
    raise AssertionError("the last step sets the exit code")
