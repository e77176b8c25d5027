"""The small commands around a run: show recorded ones again, examine the machine, remove what was left behind."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

from torchskew.judging.decide import decide
from torchskew.model.runtimes import RUNTIMES
from torchskew.record.record import Record
from torchskew.runtimes import runtime
from torchskew.runtimes.venv.runtime import VenvRuntime
from torchskew.workflows.doctor import examine, exit_code, text
from torchskew.workflows.gate.runs import asked_of, decided_again
from torchskew.workflows.matrix import Options, show
from torchskew.workflows.rehearsal import archive, reports


def report(out: Path, run_id: str, *, colour: bool) -> int:
    """`torchskew report`: everything again from the record, judged against the run's own expectations.

    A rehearsal is named by its folder, and judged again from the facts in there.
    """
    if run_id.startswith(archive.PREFIX) or any(archive.folders(out, run_id)):
        return reports.show_again(out, run_id)
    with Record.open(out / "record.sqlite", create=False) as record:
        run_ = record.load(run_id)
        today = dt.date.fromisoformat(run_.info.started[:10])
        if asked := asked_of(record, run_.info.run_id):
            decision = decided_again(record, run_, asked, today)
        else:
            decision = decide(run_.plan, run_.results, run_.expectations, today=today)
        show(record, run_.info.run_id, decision, Options(out=out, colour=colour))
    return decision.exit_code


def list_runs(out: Path) -> int:
    """`torchskew report --list`: recorded runs, and rehearsals by their folders."""
    rehearsals = reports.overview(out)
    sys.stdout.writelines(f"{line}\n" for line in rehearsals)
    if rehearsals and not (out / "record.sqlite").exists():
        return 0
    with Record.open(out / "record.sqlite", create=False) as record:
        for info in record.runs():
            sys.stdout.write(f"{info.run_id}  {info.started}  {info.finished or 'unfinished'}  {info.command}\n")
    return 0


def doctor() -> int:
    """`torchskew doctor`: what this machine has, with the mend for what it lacks."""
    venv = VenvRuntime()
    checks = examine({name: runtime(name) for name in RUNTIMES}, venv.index_answers)
    sys.stdout.write(text(checks) + "\n")
    return exit_code(checks)


def clean(*, store: bool) -> int:
    """`torchskew clean`: sweep every runtime that answers; store: also remove what provisioning made."""
    usable = [one for one in map(runtime, RUNTIMES) if one.answers() is None]
    lines = [line for one in usable for line in (*one.sweep(), *(one.clear() if store else ()))]
    sys.stdout.write("".join(f"removed {line}\n" for line in lines) or "nothing of ours was left behind\n")
    return 0
