"""The visible tuple of the gate's steps: the matrix's own, with the candidate, its baseline and its comparison."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from harness import diff, update
from harness.blame import Asked, judged, not_worse
from harness.codec import dumps
from harness.flakes import fold
from harness.gate import stale
from harness.gate_steps import GateWork, Request, plan_the_gate, provision_the_subjects, read_the_gate, rerun
from harness.model import Decision
from harness.progress import Watch
from harness.record import Record
from harness.workflow import Options, begin_record, choose_runtime, finish_record, provision, recall, run, show, sweep

ACCEPTED, GATE, SHARD = "accepted", "gate", "shard"


def mark_the_run(work: GateWork) -> None:
    """The record notes what was asked, so that a report or a merge can decide again."""
    if not work.options.resume:
        work.record.mark(work.info.run_id, GATE, dumps(asked(work)))
        if work.shard is not None:
            work.record.mark(work.info.run_id, SHARD, dumps(work.shard))


def asked(work: GateWork) -> Asked:
    """What decides a recorded run again."""
    return Asked(
        subject=work.request.subject,
        rerun=rerun(work.request, work.options),
        repeat=work.request.repeat,
        problems=tuple(stale(work.declaration.expectations, (*work.whole.cells, *work.plan.cells), work.plan.runtime)),
    )


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
    work.decision = compared(work.record, work.info.run_id, found, asked(work))


def compared(record: Record, run_id: str, decision: Decision, asked: Asked) -> Decision:
    """The decision with what changed since the newest accepted run of this runtime, when there is one."""
    cells = {item.result.cell.id for item in decision.checked}
    runtime = next((item.result.cell.runtime for item in decision.checked), "")
    for accepted, value, _ in record.marks(ACCEPTED):
        if value == runtime and accepted != run_id:
            before = [result for result in record.results(accepted) if result.cell.id in cells]
            after = [item.result for item in decision.checked]
            return not_worse(decision, diff.difference(before, after), accepted, asked)
    return decision


def update_the_baseline(work: GateWork) -> None:
    """With --update-baseline, what the baseline would have to say goes to its end, for somebody to finish."""
    if not work.request.update_baseline:
        return
    block = update.difference(work.decision, work.info.run_id)
    if block:
        update.append(work.baseline, block)
        work.watch.say(f"baseline   {work.baseline}: appended {block.count('[[')} entries; write their reasons")
    else:
        work.watch.say(f"baseline   {work.baseline}: nothing to change")


def tell(work: GateWork) -> None:
    """Reports into the run's folder, the summary to the terminal; a green whole run is accepted from now on."""
    show(work.record, work.info.run_id, work.decision, rerun(work.request, work.options), work.options)
    partial = bool(work.options.only or work.options.scenarios or work.shard)
    if work.decision.exit_code == 0 and not partial:
        work.record.mark(work.info.run_id, ACCEPTED, work.plan.runtime)
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
