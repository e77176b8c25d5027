"""What `torchskew check` adds to a command: a declaration of one check that does nothing, and one of many.

    python -m benchmarks.checks [--python ENVIRONMENT/bin/python] [--checks 100] [--rounds 3]

Without --python, the environment of 2.13.0 in torchskew.toml. Both declarations are run in turn, with one check at a
time; what a check adds is the difference by the number of checks, less the bare command's own time in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.progress import Plain
from torchskew.errors import HarnessError
from torchskew.runtimes import runtime
from torchskew.workflows.inputs import read_declaration

AIM = 0.050  # seconds
COMMAND = ["true"]
RELEASE = "2.13.0"


def environment() -> str:
    """The interpreter of an environment with torch."""
    declared = read_declaration(Path(__file__).resolve().parent.parent / "torchskew.toml").versions[RELEASE]
    try:
        return runtime("venv").provision(for_runtime(declared, "venv", Problems("")), Plain(sys.stderr)).handle
    except HarnessError as error:
        sys.exit(f"INCOMPLETE: nothing was measured: {error}")


def declared(folder: Path, python: str, count: int) -> Path:
    """A declaration of so many checks."""
    checks = "".join(f"[checks.check{number}]\ncommand = {COMMAND!r}\n" for number in range(count))
    path = folder / f"of{count}.toml"
    path.write_text(f'[versions]\nhere = {{ interpreter = "{python}" }}\n[matrix]\nruntime = "venv"\n{checks}')
    return path


def checked(declaration: Path) -> float:
    """Wall time of `torchskew check`; every check must be right."""
    command = [sys.executable, "-m", "torchskew", "check", "--declaration", str(declaration), "-j", "1", "--no-cache"]
    begun = time.monotonic()
    subprocess.run([*command, "--out", str(declaration.parent / "out")], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def bare(count: int) -> float:
    """Wall time of the command itself, so often."""
    begun = time.monotonic()
    for _ in range(count):
        subprocess.run(COMMAND, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def main() -> int:
    """Measure and print; 1 where the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="the interpreter of an environment with torch")
    parser.add_argument("--checks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, python = Path(name), args.python or environment()
        one, many = (declared(folder, python, count) for count in (1, 1 + args.checks))
        rounds = [(checked(one), checked(many), bare(args.checks)) for _ in range(args.rounds)]
    each = [((many - one) / args.checks, own / args.checks) for one, many, own in rounds]
    added = statistics.median(with_check - own for with_check, own in each)
    print(f"a command that does nothing takes {1000 * statistics.median(own for _, own in each):.1f} ms")
    print(f"one more check takes {1000 * statistics.median(all_of_it for all_of_it, _ in each):.1f} ms")
    print(f"a check adds {1000 * added:.1f} ms (under {1000 * AIM:.0f})")
    return int(added >= AIM)


if __name__ == "__main__":
    sys.exit(main())
