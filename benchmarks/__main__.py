"""`python -m benchmarks [NAME …]`: run the named benchmarks, or all of them, one after another."""

from __future__ import annotations

import subprocess
import sys

from torchskew.runtimes import runtime

# name -> the module with its options; each prints its figures with what is aimed at.
BENCHMARKS = {
    "start": ["benchmarks.start"],
    "record": ["benchmarks.record"],
    "cells": ["benchmarks.cells"],
    "cells-docker": ["benchmarks.cells", "--runtime", "docker"],
    "matrix": ["benchmarks.matrix", "--runtime", "venv"],
    "guard": ["benchmarks.guard"],
}
NEED_DOCKER = frozenset({"cells-docker"})


def main(names: list[str]) -> int:
    """Run them; the exit code is 1 when one of them broke."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"no such benchmark: {', '.join(unknown)}. There are: {', '.join(BENCHMARKS)}.\n")
        return 4
    codes = []
    for name in names or BENCHMARKS:
        print(f"== {name}", flush=True)
        if name in NEED_DOCKER and (problem := runtime("docker").answers()):
            print(f"left out: {problem}", flush=True)
            continue
        codes.append(subprocess.run([sys.executable, "-m", *BENCHMARKS[name]], check=False).returncode)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
