"""This tree beside another one: processor and wall time of the same commands in both, taken in turn.

    python -m benchmarks.beside OLD_TREE [--only start record …] [--rounds 5] [--old-cache FOLDER]

OLD_TREE is a checkout with a .venv of its own. Each command runs in both trees, once a round, and the order changes
from round to round, so that what else the machine does hits both. Prints the least of each and the ratios; processor
time includes the agents and ranks of the venv runtime, but not what runs in containers. The exit code is 1 where a
ratio of processor time is above 1.05, or a command could not be run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
MOST = 1.05
MEASURED = (0, 1)  # exit codes of a run that ended: as expected, or not
# benchmarks.cells without the naive ways that it compares with: these are the same in both trees.
_OURS = (
    "import benchmarks.cells as cells; cells.bare = cells.processes = cells.containers = lambda *_: 1.0; cells.main()"
)
# What is run: words behind the tree's Python; {package} its package, {out} an empty folder.
COMMANDS = {
    "start": ("-m", "{package}", "--help"),
    "record": ("-m", "benchmarks.record", "2000"),
    "cells": ("-c", _OURS, "--cells", "160"),
    "matrix": ("-m", "{package}", "matrix", "--runtime", "venv", "--no-cache", "--out", "{out}"),
    "docker": ("-c", _OURS, "--cells", "160", "--runtime", "docker"),
}
TIMES = {"start": 4}  # how often a command runs in each round, where that is not once


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A checkout. cache: its user cache folder, where it is not the user's own."""

    folder: Path
    cache: str | None = None

    def run(self, words: tuple[str, ...]) -> Spent:
        """One command in it; SystemExit where it could not be measured."""
        package = "torchskew" if (self.folder / "harness" / "torchskew").is_dir() else "harness"
        env = os.environ | ({"XDG_CACHE_HOME": self.cache} if self.cache else {})
        with tempfile.TemporaryDirectory(prefix="torchskew-bench-") as out:
            command = [
                str(self.folder / ".venv/bin/python"),
                *(word.format(package=package, out=out) for word in words),
            ]
            begun = time.monotonic()
            process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            spent = Spent(processor=used.ru_utime + used.ru_stime, wall=time.monotonic() - begun)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in MEASURED:
            sys.exit(f"INCOMPLETE: exit code {process.returncode} of {' '.join(command)} in {self.folder}")
        return spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds that a command took."""

    processor: float
    wall: float


def least(runs: list[Spent]) -> Spent:
    """The least of each: everything else that a machine does only adds to it."""
    return Spent(processor=min(run.processor for run in runs), wall=min(run.wall for run in runs))


def compare(old: Tree, new: Tree, name: str, rounds: int) -> float:
    """Measure one command in turn, print a line, and give the ratio of processor times."""
    taken: dict[Tree, list[Spent]] = {old: [], new: []}
    for number in range(rounds * TIMES.get(name, 1)):
        for tree in (old, new) if number % 2 else (new, old):
            taken[tree].append(tree.run(COMMANDS[name]))
    before, after = least(taken[old]), least(taken[new])
    ratio = after.processor / before.processor
    print(f"{name:8} processor {before.processor:7.2f} s, now {after.processor:7.2f} s: {ratio:.2f} · "
          f"wall {before.wall:7.2f} s, now {after.wall:7.2f} s: {after.wall / before.wall:.2f}",
          flush=True)  # fmt: skip
    return ratio


def main() -> int:
    """Compare the named commands, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=[*COMMANDS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--old-cache", default=None)
    options = parser.parse_args()
    old, new = Tree(folder=options.old.resolve(), cache=options.old_cache), Tree(folder=HERE)
    ratios = {name: compare(old, new, name, options.rounds) for name in options.only}
    slower = [name for name, ratio in ratios.items() if ratio > MOST]
    print(f"slower by more than 5 %: {', '.join(slower)}" if slower else "no command is slower by more than 5 %")
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
