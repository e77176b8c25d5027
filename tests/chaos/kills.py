"""`kill -9` of the harness at random moments, then `--resume`: the same decision, as if nothing had happened."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.desk import Desk
from tests.chaos.trials import Trial

MATRIX = ("matrix", "--no-cache", "-j", "2")
GATE = ("gate", "--no-cache", "--against", "a,b", "--scenarios", "rendezvous_tcp", "broadcast", "torch_save")
CHECK = ("check", "--no-cache", "-j", "2")
REHEARSE = (
    "rehearse", "--from", "a", "--to", "b", "--nodes", "2", "--steps", "20", "--every", "5", "--checkpoint", "plain",
    "--strategy", "stop-the-world",
)  # fmt: skip
COMMANDS = {"matrix": MATRIX, "gate": GATE, "check": CHECK, "rehearse": REHEARSE}
RESUMES = ("matrix", "gate", "check")


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """How a command goes when nobody disturbs it. cells: verdict and outcomes; last: its last line."""

    seconds: float
    code: int
    cells: dict[str, object]
    last: str


def undisturbed(name: str, make: Callable[[str], Desk]) -> Undisturbed:
    """One run from beginning to end."""
    desk, began = make(f"{name}-whole"), time.monotonic()
    code = desk.run(_words(name, desk))
    seconds = time.monotonic() - began
    return Undisturbed(seconds=seconds, code=code, cells=_cells(name, desk), last=_last(desk))


def _words(name: str, desk: Desk) -> Sequence[str]:
    from tests.chaos.desk import interpreter

    candidate = f"image:{desk.source.split(chr(34))[1]}" if desk.runtime == "docker" else f"interpreter:{interpreter()}"
    return (*COMMANDS[name], "--candidate", candidate) if name == "gate" else COMMANDS[name]


def _cells(name: str, desk: Desk) -> dict[str, object]:
    return dict(desk.verdicts()) if name in RESUMES else {}


def _last(desk: Desk) -> str:
    return (desk.said.strip().splitlines() or [""])[-1]


def campaign(name: str, kills: int, seed: int, make: Callable[[str], Desk]) -> Iterator[Trial]:
    """So many kills of one command, then a run to its end. make: a new desk of this name."""
    chance = random.Random(f"kills {name} {seed}")
    whole = undisturbed(name, make)
    number, desk = 0, make(f"{name}-0")
    done = 0
    while done < kills:
        before = desk.finished() if name in RESUMES else frozenset()
        delay = chance.uniform(0.0, whole.seconds)
        was_killed, wrong = _disturb(name, desk, delay, before)
        done += was_killed
        if was_killed or wrong:
            yield Trial(done=f"{name}: kill {done} after {delay:.2f} s", wrong=wrong, said=desk.said if wrong else "")
        if wrong or not was_killed:
            number += 1
            desk = make(f"{name}-{number}")
    wrong = _to_the_end(name, desk, whole)
    yield Trial(done=f"{name}: run to its end after {done} kills", wrong=wrong, said=desk.said if wrong else "")


def _disturb(name: str, desk: Desk, delay: float, before: frozenset[str]) -> tuple[bool, str]:
    """One run that is killed unless it ends earlier; whether it was, and what is wrong."""
    process = desk.start(_resuming(name, desk))
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        lost = before - desk.finished() if name in RESUMES else ()
        return True, f"lost {sorted(lost)}" if lost else _outlived(desk)
    return False, "" if process.returncode in (0, 1) else f"exit code {process.returncode}"


def _resuming(name: str, desk: Desk) -> Sequence[str]:
    """With --resume where an earlier run of this desk began; a run that was killed before that leaves nothing."""
    return (*_words(name, desk), *(["--resume"] if name in RESUMES and _began(desk) else []))


def _began(desk: Desk) -> bool:
    from torchskew.record.record import Record

    if not desk.record_path.exists():
        return False
    with Record.open(desk.record_path) as record:
        return bool(record.runs())


def _outlived(desk: Desk) -> str:
    """Processes that are still there a while after their harness was killed; containers wait for the next sweep."""
    if desk.runtime == "docker":
        return ""
    left = desk.outliving()
    return f"outlived the harness: {left}" if left else ""


def _to_the_end(name: str, desk: Desk, whole: Undisturbed) -> str:
    code = desk.run(_resuming(name, desk))
    problems = [
        f"exit code {code}, undisturbed {whole.code}" if code != whole.code else "",
        f"decided {_last(desk)!r}, undisturbed {whole.last!r}" if _last(desk) != whole.last else "",
        f"left behind: {left}" if (left := desk.left_behind()) else "",
    ]
    if name in RESUMES:
        cells = _cells(name, desk)
        problems += [
            f"{each}: {cells.get(each)}, undisturbed {right}"
            for each, right in whole.cells.items()
            if cells.get(each) != right
        ]
        problems += [f"twice in the record: {desk.twice()}" if desk.twice() else ""]
    return "; ".join(filter(None, problems))


def maker(folder: Path, **fields: str) -> Callable[[str], Desk]:
    """Makes desks below a folder."""
    return lambda name: Desk(folder=folder / name, **fields)  # type: ignore[arg-type]
