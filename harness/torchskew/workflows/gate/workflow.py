"""The gate: the matrix's steps with the candidate, its baseline and its comparison; the tuple is at the end."""

from __future__ import annotations

from contextlib import ExitStack

from torchskew.declaration.candidate import CANDIDATE
from torchskew.engine.ledger import Ledger
from torchskew.engine.progress import Watch
from torchskew.engine.session import Session
from torchskew.judging import diff, update
from torchskew.judging.blame import against_baseline, judged, not_worse
from torchskew.judging.decide import stale
from torchskew.judging.flakes import fold
from torchskew.model.cells import Cell
from torchskew.model.results import Decision
from torchskew.model.runs import Accepted, Asked, Run, RunInfo
from torchskew.planning.snapshot import KEYS, to_text
from torchskew.planning.snapshot import NAME as SNAPSHOT
from torchskew.record.record import Record
from torchskew.workflows.cell_steps import (
    Ready,
    Results,
    begin_or_resume,
    check_output,
    choose_the_runtime,
    finish_record,
    finished_run,
    in_order,
    interruptible,
    open_record,
    provision,
    recall,
    run_cells,
    show,
    stop_at_a_dry_run,
    sweep,
    today,
)
from torchskew.workflows.gate.plan import GatePlan, plan_the_gate
from torchskew.workflows.gate.request import GateInputs, Request, read_the_request
from torchskew.workflows.inputs import append_to_baseline
from torchskew.workflows.options import Options
from torchskew.workflows.steps import Exit, execute


def mark_the_run(options: Options, inputs: GateInputs, gate: GatePlan, ready: Ready, ledger: Ledger) -> Asked:
    """The record notes what was asked, so that a report or a merge can decide again."""
    planned = ready.planned
    asked = Asked(
        subject=inputs.request.subject,
        repeat=inputs.request.repeat,
        problems=tuple(stale(planned.expectations, planned.whole, ready.plan.runtime)),
        selection=gate.selection,
        of_library=inputs.request.of_library,
    )
    if not options.resume:
        ledger.record.mark(ledger.info.run_id, asked)
        if gate.shard is not None:
            ledger.record.mark(ledger.info.run_id, gate.shard)
    return asked


def run_every_repetition(
    options: Options, inputs: GateInputs, ready: Ready, session: Session, ledger: Ledger
) -> Results:
    """Run what nothing is known of, as often as asked, and fold the repetitions of a cell into one result.

    A repetition never reuses another's result, and none is reused of a version whose packages may be changing.
    """
    repetitions = [ledger]
    with interruptible(ledger, ready.plan, f"`{options.name} --resume` runs the rest."):
        for _ in range(inputs.request.repeat):
            current = repetitions[-1]
            recall(current, ready, lambda cell: _reusable(cell, options, inputs), session.watch)
            run_cells(session, current, ready.plan)
            repetitions.append(current.next_repetition())
    return in_order(ready.plan, fold([each.results for each in repetitions[:-1]]))


def _reusable(cell: Cell, options: Options, inputs: GateInputs) -> bool:
    return options.cache and inputs.request.repeat == 1 and not inputs.fresh.intersection(cell.skew)


def decide_the_gate(ready: Ready, gate: GatePlan, asked: Asked, ledger: Ledger, results: Results) -> Decision:
    """Baseline, controls and base: what the candidate is to blame for; then what changed since the accepted run.

    A part of the plan decides nothing: what it needs for that may be in another part.
    """
    held = against_baseline(ready.plan, results.of_cells, ready.planned.expectations, asked, today())
    decision = judged(held, asked, gate.shard)
    return compared(ledger.record, ledger.info, decision, asked)


def compared(record: Record, info: RunInfo, decision: Decision, asked: Asked) -> Decision:
    """The decision with what changed since the newest accepted run, when there is one.

    That is one of the same selection; else, cell by cell where both have the cell, one of the same runtime and
    package. A part of a plan is compared with nothing.
    """
    if decision.part is not None:
        return decision
    marks = [mark for mark in record.marks(Accepted) if mark.run_id != info.run_id]
    after = [item.result for item in decision.checked]
    for mark in marks:
        if mark.payload.selection == asked.selection:
            difference = diff.difference(record.results(mark.run_id), after)
            return not_worse(decision, difference, mark.run_id, asked, info.rerun)
    runtimes = {result.cell.runtime for result in after}
    package = asked.selection.package if asked.selection else ""
    for mark in marks:
        if mark.payload.selection.runtime not in runtimes or mark.payload.selection.package != package:
            continue
        difference = diff.in_common(record.results(mark.run_id), after)
        if difference.compared:
            return not_worse(decision, difference, mark.run_id, asked, info.rerun)
    return decision


def update_the_baseline(inputs: GateInputs, ledger: Ledger, decision: Decision, watch: Watch) -> None:
    """With --update-baseline, what the baseline would have to say is appended to it, for a person to finish."""
    if not inputs.request.update_baseline:
        return
    difference = update.difference(decision, ledger.info.run_id)
    if difference.text:
        append_to_baseline(inputs.baseline, difference.text)
        count = f"{difference.entries} {'entry' if difference.entries == 1 else 'entries'}"
        watch.say(f"baseline   {inputs.baseline}: appended {count}; write the reasons")
    else:
        watch.say(f"baseline   {inputs.baseline}: nothing to change")


def write_the_snapshot(inputs: GateInputs, ledger: Ledger, results: Results, watch: Watch) -> None:
    """With --snapshot, the state-dict keys that the candidate reported go to a file."""
    path = inputs.request.write_snapshot
    if path is None:
        return
    for result in results.of_cells:
        if result.cell.scenario not in (KEYS, SNAPSHOT) or CANDIDATE not in result.cell.skew:
            continue
        whole = ledger.record.result(ledger.info.run_id, result.cell.id)
        facts = whole.ranks[result.cell.skew.index(CANDIDATE)] if whole and whole.ranks else None
        if facts is not None and facts.finished:
            path.write_text(to_text(facts.payload), encoding="utf-8")
            watch.say(f"snapshot   {path}: the state-dict keys of torch {facts.torch}")
            return
    watch.say(f"snapshot   {path}: not written, because no cell of {KEYS} with the candidate finished")


def report_the_gate(options: Options, ready: Ready, ledger: Ledger, results: Results, decision: Decision) -> Run:
    """Reports into the run's folder, the summary to the terminal."""
    run = finished_run(ledger, ready, results)
    show(ledger.record, run, decision, options)
    return run


def accept_a_green_run(run: Run, gate: GatePlan, ledger: Ledger, decision: Decision) -> Exit:
    """A green run of the whole plan is what later ones are compared with."""
    if decision.exit_code == 0 and gate.selection and not gate.shard:
        ledger.record.mark(run.info.run_id, Accepted(selection=gate.selection))
    return Exit(code=decision.exit_code)


GATE = (
    read_the_request,
    check_output,
    choose_the_runtime,
    sweep,
    plan_the_gate,
    stop_at_a_dry_run,
    provision,
    open_record,
    begin_or_resume,
    mark_the_run,
    run_every_repetition,
    finish_record,
    decide_the_gate,
    update_the_baseline,
    write_the_snapshot,
    report_the_gate,
    accept_a_green_run,
)


def run_gate(request: Request, options: Options, watch: Watch) -> int:
    """`torchskew gate`; its exit code."""
    with ExitStack() as resources:
        return execute(GATE, {Request: request, Options: options, Watch: watch, ExitStack: resources})
