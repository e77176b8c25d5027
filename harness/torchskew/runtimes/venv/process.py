"""A local process as a channel: its pipes, the tail of its standard error, and a certain end."""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from torchskew.errors import AgentError, MachineError
from torchskew.runtimes import processes
from torchskew.runtimes.ownership import OWNER_VARIABLE, RUN_VARIABLE, alive, pid_namespace

_LINES, _LONGEST = 32, 2000  # of standard error that are kept; characters of one line
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_POLITE, _TERM, _KILL = 1.0, 2.0, 5.0  # seconds after the end of input, after TERM, after KILL


class LocalChannel:
    """A process in a session of its own. host, share, rank_env: see `Channel`."""

    def __init__(self, process: subprocess.Popen[bytes], share: str) -> None:
        self.host = "127.0.0.1"
        self.share = share
        self.rank_env: Mapping[str, str] = MappingProxyType({"GLOO_SOCKET_IFNAME": _LOOPBACK})
        self._process = process
        self._sending = threading.Lock()
        self._tail: collections.deque[str] = collections.deque(maxlen=_LINES)
        self._drain = threading.Thread(target=self._drained, name="stderr", daemon=True)
        self._drain.start()

    @property
    def pid(self) -> int:
        """The process id of the agent."""
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Write one line; AgentError when the process is gone."""
        assert self._process.stdin is not None
        try:
            with self._sending:
                self._process.stdin.write(line if line.endswith(b"\n") else line + b"\n")
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise AgentError(f"the agent is gone ({self._ended()}). It said last: {self.errors()}") from error

    def lines(self) -> Iterator[bytes]:
        """Lines the process writes, until it ends."""
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed by us during a read
            # `yield from` would close the pipe together with a reader that stops early.
            for line in self._process.stdout:  # noqa: UP028
                yield line

    def errors(self) -> str:
        """The last lines of standard error: of a process that has ended, once all of them were read."""
        if self._process.poll() is not None:
            self._drain.join(_TERM)  # whatever inherited the pipe may hold it open
        return "\n".join(self._tail)

    def look_inside(self, pid: int) -> str:
        """py-spy where it is installed; otherwise what the kernel knows of it."""
        return f"py-spy dump --pid {pid}" if shutil.which("py-spy") else f"gdb -p {pid} (or install py-spy)"

    def close(self) -> None:
        """End of input, TERM, then KILL to the whole group; MachineError when something is left."""
        with contextlib.suppress(OSError, ValueError), self._sending:
            if self._process.stdin is not None:
                self._process.stdin.close()
        for number, seconds in ((0, _POLITE), (signal.SIGTERM, _TERM), (signal.SIGKILL, _KILL)):
            self._signal(number)
            if self._gone(seconds):
                break
        self._signal(signal.SIGKILL)  # ranks that outlived their agent
        if not self._gone(0.0):
            raise MachineError(f"process {self._process.pid} does not end, not even by SIGKILL. See why with ps.")
        self._drain.join(_TERM)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None and not self._drain.is_alive():
                pipe.close()

    def _signal(self, number: int) -> None:
        if number:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _gone(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _ended(self) -> str:
        self._gone(0.2)
        code = self._process.returncode
        return "still running" if code is None else f"exit {code}" if code >= 0 else f"signal {-code}"

    def _drained(self) -> None:
        assert self._process.stderr is not None
        while line := self._process.stderr.readline(_LONGEST):
            self._tail.append(line.decode(errors="replace").rstrip("\n"))


class Spawner:
    """Starts processes from one lasting thread, because a child can only ask to die with the thread that made it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "spawner")

    def spawn(self, command: Sequence[str], env: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
        """A process in a session of its own, all three pipes; OSError when it can't start."""
        return self._pool.submit(_spawned, command, env, folder).result()

    def close(self) -> None:
        """No further processes; those that still run die."""
        self._pool.shutdown()


def _spawned(command: Sequence[str], env: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=folder, start_new_session=True)


def of_run(run_id: str) -> tuple[int, ...]:
    """Processes that carry this run's id."""
    return tuple(pid for pid, carried in _marked() if carried[RUN_VARIABLE] == run_id)


def orphans() -> tuple[tuple[int, str], ...]:
    """Processes of ours whose owner is dead, with the run they belonged to."""
    left = []
    for pid, carried in _marked():
        if not alive(carried.get(OWNER_VARIABLE, "")):
            left.append((pid, carried[RUN_VARIABLE]))
    return tuple(left)


def ended(pids: Sequence[int]) -> tuple[int, ...]:
    """Send KILL to these; returns those that still run after a while."""
    deadline = time.monotonic() + _KILL
    left = tuple(pids)
    while left and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        left = tuple(pid for pid in left if processes.look_up(pid))
        time.sleep(0.01 if left else 0)
    return left


def _marked() -> Iterator[tuple[int, dict[str, str]]]:
    """Processes with our variable and in our namespace: in a container, the same id is another process."""
    ours = pid_namespace()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "environ").read_bytes()
            if RUN_VARIABLE.encode() not in text or os.readlink(folder / "ns/pid") != ours:
                continue
        except OSError:
            continue  # it ended, or belongs to another user
        pairs = (each.partition("=") for each in text.decode(errors="replace").split("\0"))
        carried = {name: value for name, _, value in pairs}
        if RUN_VARIABLE in carried and int(folder.name) != os.getpid():
            yield int(folder.name), carried
