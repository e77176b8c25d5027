"""What PyTorch's own tests cost between two releases: one ordered pair whose controls are known, and all of them.

    python -m benchmarks.suite [--versions 2.13.0 2.14.1]

Both releases run alone first, which installs them, in about 5 GB each. Then one order runs, with the controls out of
that record; then everything through -j, and everything one cell after another.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAIR_AIM, RATIO_AIM = 30.0, 2.0  # seconds, and how many times as fast through -j


def ran(out: Path, *options: str) -> float:
    """Wall time of `torchskew suite`; anything but a run without findings ends this."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "torchskew", "suite", *options, "--out", str(out)]
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    if code:
        sys.exit(f"INCOMPLETE: torchskew suite ended with {code}: {' '.join(options)}")
    return time.monotonic() - begun


def main() -> int:
    """Measure and print; 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", nargs=2, default=["2.13.0", "2.14.1"])
    host, joiner = parser.parse_args().versions
    versions = ("--versions", host, joiner)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ran(folder / "controls", *versions, "--pairs", "controls")  # installs what is missing
        pair = ran(folder / "controls", *versions, "--only", f"*/{host},{joiner}/*")
        together = ran(folder / "together", *versions)
        alone = ran(folder / "alone", *versions, "-j", "1")
    print(f"{host} with {joiner}, controls known: {pair:.1f} s (at most {PAIR_AIM:.0f})")
    ratio = alone / together
    print(f"both alone and in both orders: {together:.1f} s, one cell after another {alone:.1f} s")
    print(f"through -j {ratio:.2f} times as fast (at least {RATIO_AIM:.0f})")
    return int(pair > PAIR_AIM or ratio < RATIO_AIM)


if __name__ == "__main__":
    sys.exit(main())
