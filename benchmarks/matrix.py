"""The whole default matrix, warm environments, nothing from the cache: wall time against its longest cell.

    python -m benchmarks.matrix [torchskew matrix options …]

Cells overlap, so the wall time should be little more than the slowest unavoidable chain: the cell that waits
longest for a timeout of the code under test. Prints both and their ratio (at most 1.5 is the aim). A matrix that
lacks cells is not the default matrix: the benchmark says which are missing and why, and its exit code is 1.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torchskew.cli import main as torchskew
from torchskew.model.outcomes import Verdict
from torchskew.model.results import CellResult
from torchskew.record.record import Record

MEASURED = (0, 1)  # exit codes of a run that ended: as expected, or not


def main() -> int:
    """Run once to have every environment, then measure a run of every cell."""
    options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="torchskew-bench-") as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            torchskew(["matrix", "--out", folder, "--only", "import_smoke*", *options])
            begun = time.monotonic()
            code = torchskew(["matrix", "--out", folder, "--no-cache", *options])
            wall = time.monotonic() - begun
        if code not in MEASURED:
            print(f"nothing was measured: torchskew matrix ended with exit code {code}")
            return 1
        with Record.open(Path(folder) / "record.sqlite") as record:
            results = record.load().results
    print("\n".join(figures(results, wall)))
    missing = lacking(results)
    print("\n".join(missing))
    return int(bool(missing))


def figures(results: Sequence[CellResult], wall: float) -> list[str]:
    """What was measured, over the cells that ran."""
    ran = [result for result in results if result.attempts and result.verdict is not Verdict.UNKNOWN]
    lines = [f"{len(results)} cells, {len(ran)} of them run"]
    if not ran:
        return lines
    longest = max(ran, key=lambda result: result.seconds)
    return [
        *lines,
        f"wall time {wall:.1f} s, longest cell {longest.seconds:.1f} s: {longest.cell.id}",
        f"wall time against the longest cell: {wall / longest.seconds:.2f} times (at most 1.5)",
        f"all cells one after another would take {sum(result.seconds for result in ran):.0f} s",
    ]


def lacking(results: Sequence[CellResult]) -> list[str]:
    """Cells that could not be tried, counted by the reason; empty where the matrix was whole."""
    unknown = [result for result in results if result.verdict is Verdict.UNKNOWN]
    if not unknown and any(result.attempts for result in results):
        return []
    reasons = Counter(result.reason for result in unknown)
    total = f"INCOMPLETE: {len(unknown)} of {len(results)} cells could not be run, so the figures are not those of "
    return [f"{total}the default matrix", *(f"  {count} cells: {reason}" for reason, count in reasons.most_common())]


if __name__ == "__main__":
    sys.exit(main())
