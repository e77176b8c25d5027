"""Folders for work under way whose names say who owns them, so that what a killed process leaves can be swept."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchskew.errors import MachineError
from torchskew.runtimes import ownership

_PREFIX = "torchskew-work"
_PARTS = 5  # prefix, host, pid, start, random
_MOUNTS = Path("/proc/self/mountinfo")


@contextmanager
def opened(parent: Path | None = None) -> Iterator[Path]:
    """An empty folder that everybody may enter, removed at the end; by default where temporary files are."""
    where = parent or Path(tempfile.gettempdir())
    where.mkdir(parents=True, exist_ok=True)
    owner = ownership.owner().replace(":", "+")
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}+{socket.gethostname()}+{owner}+", dir=where))
    folder.chmod(0o755)  # bootstrapping goes on as other users
    try:
        yield folder
    finally:
        _remove(folder)


def sweep(*parents: Path) -> tuple[str, ...]:
    """Remove folders of dead owners of this host and user; a line for each.

    Raises:
        MachineError: what can't be removed, and why.
    """
    removed, problems = [], []
    mine = Path(tempfile.gettempdir())
    for folder in sorted(each for parent in (mine, *parents) for each in parent.glob(f"{_PREFIX}+*")):
        if not _is_dead(folder):
            continue
        try:
            _remove(folder)
            removed.append(f"folder {folder}")
        except MachineError as error:
            problems.append(str(error))
    if problems:
        raise MachineError("\n".join(problems))
    return tuple(removed)


def _is_dead(folder: Path) -> bool:
    parts = folder.name.split("+")
    if len(parts) != _PARTS or parts[1] != socket.gethostname() or ownership.alive(f"{parts[2]}:{parts[3]}"):
        return False
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _remove(folder: Path) -> None:
    # What is mounted in there is not ours to delete.
    if any(str(folder) in line for line in _mounts()):
        raise MachineError(f"{folder} stays: something is mounted in it. Unmount that, then remove it.")
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise MachineError(f"{folder} stays: {error.strerror}. Remove it by hand.") from error


def _mounts() -> list[str]:
    try:
        return _MOUNTS.read_text().splitlines()
    except OSError:
        return []
