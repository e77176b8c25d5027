"""What 10,000 recorded cells cost: memory and seconds to write, load, decide and report them; half of them fail.

python -m benchmarks.record [CELLS]
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

CELLS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
MOST_SECONDS, MOST_MEGABYTES = 5.0, 150.0


def write(path: Path) -> None:
    """As a run does it: one transaction per cell."""
    from torchskew.model.outcomes import Outcome
    from torchskew.record.record import Record

    from tests import factories

    found = list(factories.many(CELLS))
    for index, result in enumerate(found):
        if index % 2 and len(result.cell.skew) == 2:
            found[index] = replace(factories.result(result.cell, Outcome.TIMEOUT, Outcome.OPAQUE), key=result.key)
    run = factories.run(tuple(found))
    with Record.open(path) as record:
        start = time.perf_counter()
        record.begin(run.info, run.plan, run.expectations)
        for result in found:
            record.write(run.info.run_id, result)
        spent = time.perf_counter() - start
        record.finish(run.info.run_id, run.info.finished or "")
    print(f"write    {spent:5.2f} s for {len(found)} cells, {1e3 * spent / len(found):.2f} ms each")


def report(path: Path) -> None:
    """As `torchskew report` does it, in a process of its own."""
    start = time.perf_counter()
    from torchskew.judging.decide import decide
    from torchskew.record.record import Record
    from torchskew.report import write_reports
    from torchskew.report.text import render

    with Record.open(path, create=False) as record:
        run = record.load()
        loaded = time.perf_counter() - start
        decision = decide(run.plan, run.results, run.expectations, today=dt.date(2026, 11, 21))
        written = write_reports(run, decision, path.parent / "report", record.printed())
    render(run, decision, written=written)
    spent, busy, peak = time.perf_counter() - start, time.process_time(), megabytes()
    size = {file.name: file.stat().st_size / 1e6 for file in (path, *written.files.values())}
    print(f"load     {loaded:5.2f} s")
    print(f"report   {busy:5.2f} s of {MOST_SECONDS:.0f} s allowed, {len(written.logs.paths)} log files")
    print(f"         {spent:5.2f} s with what the machine did besides")
    print(f"memory   {peak:5.0f} MB of {MOST_MEGABYTES:.0f} MB allowed")
    print("sizes    " + " · ".join(f"{name} {each:.1f} MB" for name, each in size.items()))
    if busy > MOST_SECONDS or peak > MOST_MEGABYTES:
        sys.exit(1)


def megabytes() -> float:
    """The most this process ever held, of its own since it was started (ru_maxrss is inherited by a fork)."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) / 1024


def main() -> None:
    if len(sys.argv) > 2:
        report(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "record.sqlite")
        write(path)
        command = [sys.executable, "-m", "benchmarks.record", str(CELLS), os.fspath(path)]
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
