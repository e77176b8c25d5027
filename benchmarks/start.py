"""Start-up: `torchskew --help` in seconds, against a bare start of the same interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15


def seconds(*arguments: str) -> float:
    """Wall time of one start."""
    begun = time.monotonic()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def main() -> None:
    """Measure both in turn and print the medians."""
    rounds = [(seconds("-m", "torchskew", "--help"), seconds("-c", "pass")) for _ in range(ROUNDS)]
    ours, bare = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"torchskew --help {ours:.3f} s (under 0.3), a bare start of Python {bare:.3f} s, ratio {ours / bare:.1f}")


if __name__ == "__main__":
    main()
