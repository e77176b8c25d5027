"""One forked rank as its agent holds it: its process, its pipe, its files, and when it is to be killed."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import tempfile
from typing import Any, Iterator

LINE_LIMIT = 4 << 20  # bytes of one line, either way
KEEP = 32 << 10  # bytes kept of a log's head, and of its tail
RANK_VARIABLE = "TORCHSKEW_RANK"  # in the environment of what a rank starts: which rank that was
_PR_SET_CHILD_SUBREAPER = 36
_CHILDREN = "/proc/thread-self/children"  # what the main thread started or adopted


class Lines:
    """Cuts a stream into lines of bounded length; a longer one comes out as None."""

    def __init__(self) -> None:
        """Start empty."""
        self._line = bytearray()
        self._over = False

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Yield the lines that data completes."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._add(end)
            yield None if self._over else bytes(self._line)
            self._line.clear()
            self._over = False
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        self._over = self._over or len(self._line) + len(piece) > LINE_LIMIT
        if self._over:
            self._line.clear()
        else:
            self._line += piece


class Rank:
    """A forked process as its agent sees it.

    kill_at: when to kill it (monotonic), or None. stacks_asked: its stacks were asked for.
    """

    def __init__(self, birth: Any, pipe: int) -> None:
        """Keep the descriptors to read from; the pid is known after the fork."""
        self.id, self.function, self.began = birth.id, birth.function, birth.began
        self.pipe, self.log, self.stacks = pipe, birth.log, birth.stacks
        self.pid = -1
        self.lines = Lines()
        self.report: dict[str, Any] | None = None
        self.kill_at: float | None = None
        self.stacks_asked = False
        self._dumped = 0

    def due(self, now: float) -> bool:
        """Whether it is to be killed now: its time is over, or its stacks have stopped growing."""
        if self.kill_at is None:
            return False
        before, self._dumped = self._dumped, os.fstat(self.stacks).st_size
        return now >= self.kill_at or (self.stacks_asked and 0 < before == self._dumped)

    def signal(self, number: int) -> None:
        """Send a signal to the rank and to what it started; the id is its own until the agent reaps it."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # the rank moved to another process group
            os.kill(self.pid, number)

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in (self.pipe, self.log, self.stacks):
            os.close(descriptor)


def adopt_orphans() -> None:
    """Become the parent of what ranks leave behind, also of what a launcher started in a session of its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_orphans(ranks: dict[str, Any]) -> bool:
    """Kill what ranks that have ended left behind: children of ours that are no rank and belong to none.

    ranks: those that are alive, by id. Returns whether some child can't be told yet, so this is to be called again.
    """
    try:
        children = _contents(_CHILDREN)
    except OSError:  # a kernel without the list, or another system
        return False
    unclear = False
    logs = {os.fstat(rank.log).st_ino for rank in ranks.values()}
    for pid in {int(pid) for pid in children.split()} - {rank.pid for rank in ranks.values()}:
        orphan = _is_orphan(pid, ranks, logs)
        unclear = unclear or orphan is None
        if orphan:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it has ended in the meantime
                continue
    return unclear


def _is_orphan(pid: int, ranks: dict[str, Any], logs: set[int]) -> bool | None:
    """Whether no living rank started this child of ours. logs: the inodes of their logs.

    None: it can't be told yet. Whoever started a program goes on before the kernel has put its settings in place.

    What executed a program carries the id of its rank. What was only forked shows the settings and the command line of
    the agent, so its open files tell whose it is; a daemon that has closed them all is of a rank that ended.
    """
    name = _rank_of(pid)
    if name is not None:
        return name not in ranks
    folder = "/proc/{}/fd".format(pid)
    try:
        command = _contents("/proc/{}/cmdline".format(pid))
        if command != _contents("/proc/self/cmdline"):
            return False if command else None
        return logs.isdisjoint(os.stat(os.path.join(folder, each)).st_ino for each in os.listdir(folder))
    except OSError:  # it is ending, or may not be looked at
        return False


def _rank_of(pid: int) -> str | None:
    """Return the id of the rank that started a process, or None where it does not say."""
    try:
        settings = _contents("/proc/{}/environ".format(pid)).split(b"\0")
    except OSError:
        return None
    mark = RANK_VARIABLE.encode() + b"="
    return next((each[len(mark) :].decode() for each in settings if each.startswith(mark)), None)


def _contents(path: str) -> bytes:
    """Read a file of the kernel's. Without a file object: each page that an agent touches, its next rank pays for."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts = [os.read(descriptor, 1 << 16)]
        while parts[-1]:
            parts.append(os.read(descriptor, 1 << 16))
        return b"".join(parts)
    finally:
        os.close(descriptor)


def ended() -> int | None:
    """Return the id of a child that ended and is not reaped yet."""
    try:
        child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return child.si_pid if child else None


def end_of(status: int) -> tuple[int | None, str | None]:
    """Return a wait status as exit code or signal name."""
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status), None
    number = os.WTERMSIG(status)
    names = {each.value: each.name for each in signal.Signals}
    return None, names.get(number, "SIG{}".format(number))


def read_ready(descriptor: int) -> bytes | None:
    """Return what can be read without waiting; None: nothing now; empty: the other end is closed."""
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return None


def unnamed_file() -> int:
    """Open a file without a name; it vanishes with its last descriptor."""
    descriptor, path = tempfile.mkstemp(prefix="torchskew-")
    os.unlink(path)
    return descriptor


def excerpt(descriptor: int) -> str:
    """Return a file's text, bounded: its head and its tail, and how much is left out between them."""
    size = os.fstat(descriptor).st_size
    head = os.pread(descriptor, KEEP if size > 2 * KEEP else size, 0)
    if size > 2 * KEEP:
        head += "\n[{} bytes left out]\n".format(size - 2 * KEEP).encode()
        head += os.pread(descriptor, KEEP, size - KEEP)
    return head.decode(errors="replace")


def port_in_use(port: int) -> str | None:
    """Return why rank 0 can't listen on a port of any address, or None if it is free."""
    family, anywhere = (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "")
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind((anywhere, port))
        except OSError as error:
            return "port {} is in use: {}".format(port, error.strerror)
    return None
