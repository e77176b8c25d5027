"""Says who owns a run: its temporary folder, its process, and whether that process still lives."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchskew.errors import MachineError
from torchskew.runtimes import processes
from torchskew.runtimes.base import Scope

# Every local process of a run carries both, so that a sweep can tell whose it is.
RUN_VARIABLE = "TORCHSKEW_RUN"
OWNER_VARIABLE = "TORCHSKEW_OWNER"
_OWNER_FILE = "owner"
_NEW = ".new-"


def cache_folder() -> Path:
    """The user's cache folder for torchskew; not made here."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "torchskew"


def owner() -> str:
    """This process as `pid:starttime`; the start time tells it from a later process with the same id."""
    myself = processes.look_up(os.getpid())
    return f"{os.getpid()}:{myself.start if myself else 0}"


def alive(owner: str) -> bool:
    """Whether the process that `owner()` of this host named still runs; False when the text names none."""
    pid, _, start = owner.partition(":")
    if not (pid.isdigit() and start.isdigit()):
        return False
    if start == "0":
        return processes.exists(int(pid))
    process = processes.look_up(int(pid))
    return process is not None and process.start == start


@contextmanager
def opened(run_id: str) -> Iterator[Scope]:
    """A scope with a folder of its own, removed at the end; MachineError when the disk refuses.

    What dead owners left goes first: a resumed run has the id of the one that was killed.
    """
    for dead in dead_folders():
        remove(dead)
    folder = _made(cache_folder() / "runs", run_id)
    try:
        yield Scope(run_id=run_id, owner_pid=os.getpid(), host=socket.gethostname(), folder=str(folder))
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a run's folder; MachineError names what stays and why."""
    problems: list[str] = []

    def keep(_: object, path: str, error: BaseException) -> None:
        if not isinstance(error, FileNotFoundError):
            problems.append(f"{path}: {error}")

    shutil.rmtree(folder, onerror=lambda function, path, info: keep(function, path, info[1]))
    if problems:
        raise MachineError(f"the run's folder can't be removed: {problems[0]}. Remove {folder} by hand.")


def dead_folders() -> tuple[Path, ...]:
    """Folders of runs of this host whose owner is gone."""
    place = _place()
    try:
        folders = sorted((cache_folder() / "runs").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(folder for folder in folders if _is_dead(folder, place))


def _made(runs: Path, run_id: str) -> Path:
    fresh = None
    try:
        runs.mkdir(parents=True, exist_ok=True)
        # Made aside and renamed, so that a sweep never meets a folder that does not say whose it is.
        fresh = Path(tempfile.mkdtemp(prefix=f"{_NEW}{owner().replace(':', '-')}-", dir=runs))
        (fresh / _OWNER_FILE).write_text(f"{owner()} {_place()}\n")
        fresh.chmod(0o755)
        return fresh.rename(runs / run_id)
    except OSError as error:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)  # the error below tells more
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise MachineError(f"run {run_id} is going on already. Wait for it, or end it.") from error
        mend = "Free space there, or set XDG_CACHE_HOME to another folder."
        raise MachineError(f"the run's folder can't be made in {runs}: {error.strerror}. {mend}") from error


def pid_namespace() -> str:
    """Which numbering of processes this one lives in; a container has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "-"


def _place() -> str:
    """Where a process id means something: this host, this numbering."""
    return f"{socket.gethostname()}/{pid_namespace()}"


def _is_dead(folder: Path, place: str) -> bool:
    if folder.name.startswith(_NEW):
        pid, _, rest = folder.name.removeprefix(_NEW).partition("-")
        return not alive(f"{pid}:{rest.partition('-')[0]}")
    try:
        name, of_place = (folder / _OWNER_FILE).read_text().split()
    except (OSError, ValueError):
        return False
    return of_place == place and not alive(name)
