"""`python -m tests.chaos`: chaos of the harness itself, bounded in time; the seed repeats it."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos import command_lines, declarations, kills, load, machine, ranks
from tests.chaos.desk import Desk
from tests.chaos.trials import Trial

Part = Callable[[argparse.Namespace, Path], Iterator[Trial]]
IMAGES = ("torchskew/python3-torch", "torchskew/pip-torch")


def _fuzz(trial: Callable[[int, Path], Trial]) -> Part:
    def part(asked: argparse.Namespace, folder: Path) -> Iterator[Trial]:
        os.chdir(folder)
        yield from (trial(asked.seed * 1_000_000 + number, folder) for number in range(asked.fuzz))

    return part


def _kills(name: str, share: float, runtime: str = "venv") -> Part:
    def part(asked: argparse.Namespace, folder: Path) -> Iterator[Trial]:
        source = _image() if runtime == "docker" else ""
        if runtime == "docker" and not source:
            yield Trial(
                done=f"{name} in docker: left out, no image of torchskew's is here (torchskew matrix builds some)"
            )
            return
        make = kills.maker(folder, runtime=runtime, source=source)
        yield from kills.campaign(name, max(1, round(asked.kills * share)), asked.seed, make)

    return part


def _image() -> str:
    """The source of a version that an image built here provides, as TOML; empty where there is none."""
    command = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return ""
    ours = sorted(name for name in found if name.startswith(IMAGES))
    return f'{{ image = "{ours[-1]}" }}' if ours else ""


def _desks(folder: Path) -> Callable[..., Desk]:
    return lambda name, **fields: Desk(folder=folder / name, **fields)


PARTS: dict[str, Part] = {
    "declarations": _fuzz(declarations.trial),
    "command-lines": _fuzz(command_lines.trial),
    "ranks": lambda asked, folder: ranks.trials(_desks(folder)),
    "machine": lambda asked, folder: machine.trials(asked.seed, _desks(folder)),
    "kills-matrix": _kills("matrix", 0.4),
    "kills-gate": _kills("gate", 0.2),
    "kills-check": _kills("check", 0.2),
    "kills-rehearse": _kills("rehearse", 0.1),
    "kills-docker": _kills("matrix", 0.1, "docker"),
    "load": lambda asked, folder: load.trials(asked.times, _desks(folder)),
}


def main() -> int:
    """Run the parts; exit code 0 where nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000), help="repeats a run")
    parser.add_argument("--fuzz", type=int, default=1000, metavar="N", help="declarations, and command lines (1000)")
    parser.add_argument("--kills", type=int, default=40, metavar="N", help="kills, over all commands (40)")
    parser.add_argument("--times", type=int, default=5, metavar="N", help="runs of the same cells under load (5)")
    parser.add_argument("--minutes", type=float, default=15.0, help="begin no trial after this time (15)")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    _say(f"chaos: seed {asked.seed}; repeat it with make chaos OPTIONS='--seed {asked.seed}'")
    until, wrong = time.monotonic() + 60 * asked.minutes, 0
    with tempfile.TemporaryDirectory(prefix="torchskew-chaos-") as folder:
        for name in asked.parts or PARTS:
            wrong += _carried_out(name, asked, Path(folder) / name, until)
    _say("chaos: nothing is wrong" if not wrong else f"chaos: {wrong} wrong")
    return int(wrong > 0)


def _carried_out(name: str, asked: argparse.Namespace, folder: Path, until: float) -> int:
    """One part, which prints what is wrong and how much was tried; how much is wrong."""
    folder.mkdir()
    here, began, done, wrong = Path.cwd(), time.monotonic(), 0, 0
    for trial in PARTS[name](asked, folder):
        done += 1
        wrong += bool(trial.wrong)
        if trial.wrong:
            _say(f"WRONG  {name}: {trial.done}\n       {trial.wrong}\n{trial.said[-3000:]}")
        elif name not in ("declarations", "command-lines"):
            _say(f"  {trial.done}")
        if time.monotonic() > until:
            _say(f"{name}: cut short, the time is over")
            break
    os.chdir(here)
    _say(f"{name}: {done} trials, {wrong} wrong, {time.monotonic() - began:.0f} s")
    return wrong


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
