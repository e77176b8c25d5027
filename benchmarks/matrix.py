"""The whole default matrix, warm environments, nothing from the cache: wall time against its longest cell.

    python benchmarks/matrix.py [torchskew matrix options …]

Cells overlap, so the wall time should be little more than the slowest unavoidable chain: the cell that waits
longest for a timeout of the code under test. Prints both and their ratio (at most 1.5 is the aim).
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

from torchskew.cli import main as torchskew
from torchskew.record.record import Record


def main() -> None:
    """Run once to have every environment, then measure a run of every cell."""
    options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="torchskew-bench-") as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            torchskew(["matrix", "--out", folder, "--only", "import_smoke*", *options])
            begun = time.monotonic()
            code = torchskew(["matrix", "--out", folder, "--no-cache", *options])
            wall = time.monotonic() - begun
        with Record.open(Path(folder) / "record.sqlite") as record:
            results = record.load().results
    ran = [result for result in results if result.attempts]
    longest = max(ran, key=lambda result: result.seconds)
    print(f"{len(results)} cells, {len(ran)} of them run, exit code {code}")
    print(f"wall time {wall:.1f} s, longest cell {longest.seconds:.1f} s: {longest.cell.id}")
    print(f"wall time against the longest cell: {wall / longest.seconds:.2f} times (at most 1.5)")
    print(f"all cells one after another would take {sum(result.seconds for result in ran):.0f} s")


if __name__ == "__main__":
    main()
