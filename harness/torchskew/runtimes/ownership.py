"""Says who owns a run or work under way: its folder, its process, and whether that process still lives."""

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
_WORK = "torchskew-work"
_PARTS = 5  # of the name of a work folder: prefix, host, pid, start, random
# The path of a socket has at most 107 bytes, and other programs put theirs some 75 bytes below such a folder.
_SHORT, _SHORT_PARENT = "tsk-", Path("/tmp")  # noqa: S108 - the shortest path; mkdtemp makes it ours alone
_MOUNTS = Path("/proc/self/mountinfo")


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


def pid_namespace() -> str:
    """Which numbering of processes this one lives in; a container has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "-"


@contextmanager
def opened(run_id: str) -> Iterator[Scope]:
    """A scope with a folder of its own, removed at the end; MachineError when the disk refuses.

    Folders of dead owners are removed first: a resumed run has the id of the one that was killed.
    """
    for dead in dead_folders():
        remove(dead)
    folder = _run_folder(cache_folder() / "runs", run_id)
    try:
        yield Scope(run_id=run_id, owner_pid=os.getpid(), host=socket.gethostname(), folder=str(folder))
    finally:
        remove(folder)


def dead_folders() -> tuple[Path, ...]:
    """Folders of runs of this host whose owner is gone."""
    short = sorted(folder for folder in _SHORT_PARENT.glob(f"{_SHORT}*") if _is_mine(folder) and _is_dead_run(folder))
    try:
        folders = sorted((cache_folder() / "runs").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return tuple(short)
    return (*short, *(folder for folder in folders if _is_dead_run(folder) or _is_dead_work(folder)))


@contextmanager
def short_folder() -> Iterator[Path]:
    """An empty folder with a path of at most 20 bytes, for programs that put sockets in it; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=_SHORT, dir=_SHORT_PARENT))
    try:
        (folder / _OWNER_FILE).write_text(f"{owner()} {place()}\n")
        yield folder
    finally:
        remove(folder)


@contextmanager
def working(parent: Path | None = None) -> Iterator[Path]:
    """An empty folder that everybody may enter, removed at the end; by default where temporary files are."""
    folder = _work_folder(parent or Path(tempfile.gettempdir()))
    try:
        yield folder
    finally:
        remove(folder)


def sweep(*parents: Path) -> tuple[str, ...]:
    """Remove work folders of dead owners of this host and user; a line for each.

    Raises:
        MachineError: what can't be removed, and why.
    """
    removed, problems = [], []
    temporary = Path(tempfile.gettempdir())
    for folder in sorted(each for parent in (temporary, *parents) for each in parent.glob(f"{_WORK}+*")):
        if not _is_dead_work(folder):
            continue
        try:
            remove(folder)
            removed.append(f"folder {folder}")
        except MachineError as error:
            problems.append(str(error))
    if problems:
        raise MachineError("\n".join(problems))
    return tuple(removed)


def remove(folder: Path) -> None:
    """Remove a folder of ours; MachineError names what is left and why."""
    # What is mounted in there is not ours to delete.
    if any(str(folder) in line for line in _mounts()):
        raise MachineError(f"{folder} can't be removed: something is mounted in it. Unmount that, then remove it.")
    problems: list[str] = []

    def note(path: str, error: BaseException) -> None:
        if not isinstance(error, FileNotFoundError):
            problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")

    shutil.rmtree(folder, onerror=lambda _, path, info: note(path, info[1]))
    if problems:
        raise MachineError(f"{folder} can't be removed: {problems[0]}. Remove it by hand.")


def _run_folder(runs: Path, run_id: str) -> Path:
    fresh = None
    try:
        # Made aside and renamed, so that a sweep never meets a folder that does not say whose it is.
        fresh = _work_folder(runs)
        (fresh / _OWNER_FILE).write_text(f"{owner()} {place()}\n")
        return fresh.rename(runs / run_id)
    except OSError as error:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)  # the error below says more
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise MachineError(f"run {run_id} is going on already. Wait for it, or end it.") from error
        fix = "Free space there, or set XDG_CACHE_HOME to another folder."
        raise MachineError(f"the run's folder can't be made in {runs}: {error.strerror}. {fix}") from error


def _work_folder(parent: Path) -> Path:
    """A folder whose name says who owns it, because its whole content may be packed."""
    parent.mkdir(parents=True, exist_ok=True)
    name = "+".join([_WORK, socket.gethostname(), owner().replace(":", "+"), ""])
    folder = Path(tempfile.mkdtemp(prefix=name, dir=parent))
    folder.chmod(0o755)  # bootstrapping, and ranks in containers, go on as other users
    return folder


def place() -> str:
    """Where a process id means something: this host, this numbering."""
    return f"{socket.gethostname()}/{pid_namespace()}"


def _is_dead_run(folder: Path) -> bool:
    try:
        name, where = (folder / _OWNER_FILE).read_text().split()
    except (OSError, ValueError):
        return False
    return where == place() and not alive(name)


def _is_dead_work(folder: Path) -> bool:
    parts = folder.name.split("+")
    if len(parts) != _PARTS or parts[:2] != [_WORK, socket.gethostname()] or alive(f"{parts[2]}:{parts[3]}"):
        return False
    return _is_mine(folder)


def _is_mine(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _mounts() -> list[str]:
    try:
        return _MOUNTS.read_text().splitlines()
    except OSError:
        return []
