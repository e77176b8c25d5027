"""The same cells again and again on a machine under load: one verdict each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.chaos.desk import Desk
from tests.chaos.trials import Trial

WORDS = ("matrix", "--no-cache")
# Ten scenarios for four pairs, each of which ends in well under a second.
CELLS = (
    '["rendezvous_tcp", "rendezvous_file", "broadcast", "all_gather", "barrier", "torch_save", "reduce", "gather", '
    '"scatter", "monitored_barrier"]'
)


@contextmanager
def stress() -> Iterator[None]:
    """A busy process for each processor."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def trials(times: int, make: Callable[..., Desk]) -> Iterator[Trial]:
    """So many runs; a trial for each cell, wrong where it had more than one verdict."""
    desk, seen = make("load", cells=CELLS), {}  # type: tuple[Desk, dict[str, Counter[str]]]
    with stress():
        for _ in range(times):
            desk.run(WORDS)
            for name, (verdict, outcomes) in desk.verdicts().items():
                seen.setdefault(name, Counter())[f"{verdict} ({', '.join(outcomes)})"] += 1
    for name, verdicts in seen.items():
        shown = ", ".join(f"{count} times {verdict}" for verdict, count in verdicts.items())
        yield Trial(done=f"{name}: {shown}", wrong="more than one verdict" if len(verdicts) > 1 else "")
