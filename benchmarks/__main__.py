"""`python -m benchmarks [NAME …]`: run the named benchmarks, or all of them, one after another."""

from __future__ import annotations

import subprocess
import sys

from torchskew.runtimes import runtime

# name -> the module with its options; each prints its figures with what is aimed at.
BENCHMARKS = {
    "start": ["benchmarks.start"],
    "record": ["benchmarks.record"],
    "site": ["benchmarks.site"],
    "explain": ["benchmarks.explain"],
    "cells": ["benchmarks.cells"],
    "cells-docker": ["benchmarks.cells", "--runtime", "docker"],
    "matrix": ["benchmarks.matrix", "--runtime", "venv"],
    "checks": ["benchmarks.checks"],
    "suite": ["benchmarks.suite"],
    "bridge": ["benchmarks.bridge"],
    "fleet": ["benchmarks.fleet"],
    "guard": ["benchmarks.guard"],
    "guard-start": ["benchmarks.guard_start"],
}
NEED_DOCKER = frozenset({"cells-docker"})


def main(names: list[str]) -> int:
    """Run them, and say at the end which gave no figures or only some; the exit code is 1 then."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"no such benchmark: {', '.join(unknown)}. There are: {', '.join(BENCHMARKS)}.\n")
        return 4
    failed = []
    for name in names or BENCHMARKS:
        print(f"== {name}", flush=True)
        if name in NEED_DOCKER and (problem := runtime("docker").answers()):
            failed.append(f"{name} was left out: {problem}")
        elif code := subprocess.run([sys.executable, "-m", *BENCHMARKS[name]], check=False).returncode:
            failed.append(f"{name} lacks a part or missed an aim (exit code {code}, see above)")
    print("\n".join(["== INCOMPLETE", *failed] if failed else ["== complete"]), flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
