"""What a machine does to a run: agents die, clocks jump, disks fill up, terminals go away, files are damaged."""

from __future__ import annotations

import os
import pty
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torchskew.runtimes.processes import look_up

from tests.chaos.desk import LOOK, Desk, killed_at_the_end
from tests.chaos.kills import CHECK, MATRIX
from tests.chaos.trials import Trial
from tests.patience import PATIENCE

Make = Callable[..., Desk]
CLOCK = Path(__file__).with_name("clock.c")
DISK = 3 << 20  # bytes of the small disk
PAUSES = (0.3, 20.0)  # seconds


def trials(seed: int, make: Make, pauses: tuple[float, ...] = PAUSES) -> Iterator[Trial]:
    """Each disturbance once, at a moment that the seed decides."""
    chance = random.Random(f"machine {seed}")
    yield _agent_killed(chance, make("agent"))
    for seconds in pauses:
        yield _stopped(seconds, make(f"stopped-{seconds:g}"))
    yield _terminal_gone(make("terminal"))
    yield from _damaged(chance, make("damaged"))
    yield _clock(make("clock"))
    yield _full_disk(make("disk", out="disk/out"))


def _judged(what: str, desk: Desk, code: int) -> Trial:
    """A run that was disturbed: every cell right, nothing left behind."""
    wrong = f"exit code {code}" if code else ""
    wrong = wrong or ("a traceback" if "Traceback" in desk.said else "") or ", ".join(desk.left_behind())
    return Trial(done=what, wrong=wrong, said=desk.said if wrong else "")


def _begun(desk: Desk, process: subprocess.Popen[bytes], cells: int = 1) -> None:
    """Wait until so many cells are in the record, or the run has ended."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and len(desk.finished()) < cells and time.monotonic() < until:
        time.sleep(LOOK)


def _agent_killed(chance: random.Random, desk: Desk) -> Trial:
    process = desk.start(MATRIX)
    with killed_at_the_end(process):
        _begun(desk, process)
        running = [each for each in map(look_up, desk.processes()) if each is not None]
        agents = [each.pid for each in running if each.parent == process.pid]  # their children are ranks
        if agents:
            os.kill(chance.choice(agents), signal.SIGKILL)
        code = process.wait(PATIENCE)
    return _judged(f"one of {len(agents)} agents is killed", desk, code)


def _stopped(seconds: float, desk: Desk) -> Trial:
    process = desk.start(MATRIX)
    with killed_at_the_end(process):
        _begun(desk, process)
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        code = process.wait(PATIENCE)
    return _judged(f"the harness is stopped for {seconds:g} s", desk, code)


def _terminal_gone(desk: Desk) -> Trial:
    ours, theirs = pty.openpty()
    process = desk.start(MATRIX, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    with killed_at_the_end(process):
        until = time.monotonic() + PATIENCE
        while not desk.finished() and process.poll() is None and time.monotonic() < until:
            os.read(ours, 1 << 16)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        process.wait(PATIENCE)
    if left := desk.outliving():
        return Trial(done="the terminal goes away", wrong=f"outlived the harness: {left}")
    return _judged("the terminal goes away, then --resume", desk, desk.run((*MATRIX, "--resume")))


def _damaged(chance: random.Random, desk: Desk) -> Iterator[Trial]:
    """Pages in the middle of a record are overwritten: every reader says so, and a new folder works."""
    desk.run(CHECK)
    whole = desk.record_path.read_bytes()
    for number in range(6):
        at = chance.randrange(4096 if number else 0, len(whole) - 512)
        desk.record_path.write_bytes(whole[:at] + chance.randbytes(512) + whole[at + 512 :])
        for name in ("record.sqlite-wal", "record.sqlite-shm"):
            desk.record_path.with_name(name).unlink(missing_ok=True)
        for words in (("report",), ("flakes",), ("check", "--resume"), ("report", "--list")):
            code = desk.run(words)
            wrong = "a traceback" if "Traceback" in desk.said else f"exit code {code}" if code not in (0, 1) else ""
            done = f"512 bytes of the record are damaged at {at} of {len(whole)}: {' '.join(words)}"
            yield Trial(done=done, wrong=wrong, said=desk.said if wrong else "")


def _clock(desk: Desk) -> Trial:
    """Only the harness's clock: what it starts gets the settings of its runtime, and no library of ours."""
    if not shutil.which("cc"):
        return Trial(done="the clock jumps: left out, it needs a C compiler")
    library, clock = desk.folder / "clock.so", desk.folder / "clock"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(CLOCK)], check=True)
    clock.write_text("0")
    process = desk.start(MATRIX, {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(clock)})
    with killed_at_the_end(process):
        for jump, cells in ((3600, 1), (-3600, 6)):
            _begun(desk, process, cells)
            clock.write_text(str(jump))
        code = process.wait(PATIENCE)
    return _judged("the harness's clock jumps an hour ahead, then two hours back", desk, code)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of a few megabytes in a folder. Needs root."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _full_disk(desk: Desk) -> Trial:
    if os.geteuid() or not shutil.which("mount"):
        return Trial(done="the disk fills up: left out, it needs root")
    words = (*MATRIX, "--out", desk.out)
    with small_disk(desk.folder / "disk"):
        process = desk.start(words)
        with killed_at_the_end(process):
            _begun(desk, process, 2)
            ballast = desk.folder / "disk" / "ballast"
            with ballast.open("wb", buffering=0) as file, _until_full():
                while True:
                    file.write(b"x" * 4096)
            code = process.wait(PATIENCE)
        said, done = desk.said, len(desk.finished())
        ballast.unlink()
        if code != 1 or "Traceback" in said:
            return Trial(done="the disk fills up", wrong=f"exit code {code}", said=said)
        return _judged(
            f"the disk is full after {done} cells, then freed, then --resume", desk, desk.run((*words, "--resume"))
        )


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError:
        return
