"""A command runs in a version, within its limits of time, memory and processes, and ends with exit code 0.

The rank starts a process that starts the commands one after another. On Linux that process is the first of a process
namespace of its own where this is allowed, so that its end is the end of everything below it, whatever was forked in
the meantime. Elsewhere it adopts what its descendants leave behind, and the rank stops all of them before it kills any.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import shlex
import shutil
import signal
import sys
import threading
import time
from typing import Any, Iterator

KIND = "solo"
WARM = ("torchskew_isolation:possible",)  # asked once in an agent; its ranks know

_LOOK = 0.02  # seconds between two looks at what the commands use
_POLITE = 3.0  # seconds between TERM and KILL
_MOST_OUTPUT = 256 << 20  # bytes that a command may print
_LAST = 4096  # bytes at the end of the output that are searched for the last line
_KILL_SECONDS = 10.0
_THREADS_EACH, _MORE_THREADS = 4, 1024  # that a command may have for each allowed process, and besides
_DEATH_SIGNAL, _ADOPT = 1, 36
_PLACEHOLDER = re.compile(r"(?<![\${])\{(root|version|python|out)\}(?!\})")
_ESCAPED = re.compile(r"\{(\{\w+\})\}")
_NOT_FOR_COMMANDS = ("OMP_NUM_THREADS", "RES_OPTIONS", "TORCHSKEW_ETC", "TORCHSKEW_PARENT")
# What to say of a command that did not come to its own end, by how it ended.
_OBJECTIONS = {
    "timeout": "did not end within its timeout of {timeout:g} s; {polite}",
    "memory": "used more memory than the {memory} allowed ({peak} when seen) and was killed",
    "processes": "ran more processes than the {processes} allowed ({most} when seen) and was killed with all of them",
    "output": "printed more than 256 MiB and was killed",
    "start": "can't be started: {why}",
}
_PAGE = resource.getpagesize()


def rank(job: Any) -> dict[str, Any]:
    """Run pre_commands and command; returns how the command ended and what it used."""
    absent = _absent(job.params["present"])
    if absent:
        job.prevented("{} is not installed in this version, and can't be: it is not made from wheels".format(absent[0]))
    commands = [*job.params["pre_commands"], job.params["command"]]
    names = {"root": job.params["root"], "version": job.skew[0], "python": sys.executable, "out": job.share}
    temporary = os.path.join(job.share, "tmp")
    os.makedirs(temporary, exist_ok=True)
    env = {name: text for name, text in os.environ.items() if name not in _NOT_FOR_COMMANDS}
    env.update(TMPDIR=temporary, PATH=os.path.dirname(sys.executable) + ":" + os.environ.get("PATH", os.defpath))
    if sys.prefix != sys.base_prefix:
        env["VIRTUAL_ENV"] = sys.prefix
    began = time.monotonic()
    limits = {name: job.params[name] for name in ("memory", "processes")}
    with _Group([filled(each, names) for each in commands], job.params["root"], env, limits["processes"]) as group:
        end = group.watch(began + job.params["timeout"], limits)
    number = end.pop("number")
    end.update(seconds=time.monotonic() - began, last=_last_line(), stray=group.stray, isolated=group.isolated)
    end.update(limits, timeout=job.params["timeout"], peak=group.peak, most=group.most)
    if number < len(commands) - 1:
        text = "pre_commands[{}] ({}) failed, so the command was not started: {}"
        job.prevented(text.format(number, _shown(commands[number]), objection(end)))
    # What a killed command wrote may be gigabytes; the harness removes the folder as well, when the cell is over.
    shutil.rmtree(temporary, ignore_errors=True)
    return end


def judge(reports: Any, world: Any) -> dict[int, str]:
    """Exit code 0 within the limits is right."""
    del world
    why = objection(reports[0])
    return {0: why} if why else {}


def objection(end: dict[str, Any]) -> str:
    """What is wrong with the way in which a command ended, for a person; empty where nothing is."""
    last = ": {}".format(end["last"]) if end["last"] else ""
    if end["how"] == "exit" and end["signal"]:
        return "was ended by {signal} after {seconds:.1f} s".format(**end) + last
    if end["how"] == "exit":
        return "ended with exit code {exit} after {seconds:.1f} s".format(**end) + last if end["exit"] else ""
    sizes = {name: _size(end[name]) for name in ("memory", "peak")}
    polite = "it ended on SIGTERM" if end.get("polite") else "it ignored SIGTERM and was killed"
    return _OBJECTIONS[end["how"]].format(**{**end, **sizes, "polite": polite})


def filled(command: Any, names: dict[str, str]) -> list[str]:
    """Return the words to execute; a text goes through the shell, and what is filled into it is quoted."""
    if isinstance(command, str):
        return ["/bin/sh", "-c", _filled(command, {name: shlex.quote(text) for name, text in names.items()})]
    return [_filled(word, names) for word in command]


def _filled(text: str, names: dict[str, str]) -> str:
    return _ESCAPED.sub(r"\1", _PLACEHOLDER.sub(lambda found: names[found.group(1)], text))


class _Group:
    """The commands with everything that they start. peak: bytes; most: processes; stray: outlived the last command."""

    def __init__(self, commands: list[list[str]], root: str, env: dict[str, str], processes: int) -> None:
        self.peak = self.most = self.stray = 0
        import torchskew_isolation as isolation  # type: ignore[import-not-found,unused-ignore]

        self.isolated = isolation.possible()
        isolation.prctl(_ADOPT, 1)
        self._pipe, pipe = os.pipe()
        self._lines = b""
        parent = os.getpid()
        if self.isolated:
            isolation.leave_processes()
        self._first = os.fork()
        if self._first == 0:
            os.close(self._pipe)
            with contextlib.suppress(BaseException):
                with contextlib.suppress(OSError, ValueError):
                    _brake(processes)
                _be_first(commands, root, env, pipe, 0 if self.isolated else parent)
            os._exit(1)
        os.close(pipe)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)  # whoever watches a fork bomb must get its turn

    def __enter__(self) -> _Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        os.close(self._pipe)

    def watch(self, deadline: float, limits: dict[str, int]) -> dict[str, Any]:
        """Wait until the last command ends or a limit is passed; returns how, and the number of the command."""
        number, polite_until, end = 0, None, {"how": "exit", "exit": None, "signal": None}
        while True:
            for message in self._messages():
                if message is None:
                    return {"number": number, **end, "how": "start", "why": "the process that starts it is gone"}
                number = message["number"]
                if "how" in message:
                    late = polite_until is not None
                    return {"number": number, **message, **({"how": "timeout", "polite": True} if late else {})}
            how = self._beyond(limits)
            now = time.monotonic()
            if how is None and polite_until is None and now >= deadline:
                polite_until = now + _POLITE
                self._signal(signal.SIGTERM)
            elif how is None and polite_until is not None and now >= polite_until:
                how = "timeout"
            if how is not None:
                self.end()
                return {"number": number, **end, "how": how, "polite": False}

    def _messages(self) -> Iterator[Any]:
        """Yield what the first process wrote, waiting a moment for it; None when it is gone."""
        if not select.select([self._pipe], [], [], _LOOK)[0]:
            return
        data = os.read(self._pipe, 1 << 16)
        if not data:
            yield None
        *whole, self._lines = (self._lines + data).split(b"\n")
        for line in whole:
            yield json.loads(line.decode())

    def _beyond(self, limits: dict[str, int]) -> str | None:
        """Return which limit is passed."""
        pids = self._pids()
        self.most = max(self.most, len(pids))
        if len(pids) > limits["processes"]:
            return "processes"
        used = sum(_resident(pid) for pid in pids)
        if used > limits["memory"]:  # shared pages count once, but for twice where processes end during one look
            used = min(sum(map(_proportional, pids)) for _ in range(3))
        self.peak = max(self.peak, used)
        if used > limits["memory"]:
            return "memory"
        return "output" if os.fstat(1).st_size > _MOST_OUTPUT else None

    def _pids(self) -> list[int]:
        """Every process below the first one."""
        found, open_ = [], [self._first]
        while open_:
            children = list(_children(open_.pop()))
            found += children
            open_ += children
        return found

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        """End everything that is left, for certain."""
        if not self._first:
            return
        self.stray = len(self._pids())
        if not self.isolated:
            self._end_each()
        os.kill(self._first, signal.SIGKILL)  # in a namespace of its own, all others die before it can be reaped
        os.waitpid(self._first, 0)
        self._first = 0

    def _end_each(self) -> None:
        """Stop all before one is killed: a stopped process forks nothing, and its place isn't free for another."""
        stopped: set[int] = set()
        until = time.monotonic() + _KILL_SECONDS
        while time.monotonic() < until:
            fresh = set(self._pids()) - stopped
            if not fresh:
                break
            for pid in fresh:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= fresh
        while self._pids() and time.monotonic() < until:
            self._signal(signal.SIGKILL)
            time.sleep(0.005)


def _brake(processes: int) -> None:
    """Until a bomb is seen and ended, leave the checks beside it room to fork. It does not stop root."""
    if os.getuid():
        most = _of_this_user() + _THREADS_EACH * processes + _MORE_THREADS
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _of_this_user() -> int:
    """How many processes and threads the user has, found by trying: a container can't see those of others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    low, high = 0, min(1 << 16, hard % (1 << 64))  # no limit is -1
    while high - low > 1:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_NPROC, (middle, hard))
        thread = threading.Thread(target=int)
        try:
            thread.start()
            thread.join()
            high = middle
        except RuntimeError:
            low = middle
    resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
    return low


def _be_first(commands: list[list[str]], root: str, env: dict[str, str], pipe: int, parent: int) -> None:
    """Run the commands one after another and say how each ended; then wait to be killed."""
    import torchskew_isolation as isolation  # type: ignore[import-not-found,unused-ignore]

    isolation.prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if parent and os.getppid() != parent:
        return
    isolation.prctl(_ADOPT, 1)
    os.setsid()
    if not parent:
        isolation.own_proc()
    for number, command in enumerate(commands):
        end = {"number": number, **_run(command, root, env)}
        last = number == len(commands) - 1 or end["how"] != "exit" or end["exit"] != 0
        if last:
            _reap_from_now_on()
        else:
            end.pop("how")
        os.write(pipe, json.dumps(end).encode() + b"\n")
        if last:
            break
        os.write(pipe, json.dumps({"number": number + 1}).encode() + b"\n")
    while True:
        signal.pause()


def _reap_from_now_on() -> None:
    """Nobody waits for what is killed later; as zombies they would look as if they could not be killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run(command: list[str], root: str, env: dict[str, str]) -> dict[str, Any]:
    """Run one command to its end, and reap what others leave in the meantime."""
    import torchskew_isolation as isolation  # type: ignore[import-not-found,unused-ignore]

    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        what = "/proc"
        try:
            isolation.prctl(_DEATH_SIGNAL, signal.SIGKILL)
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, which its children would inherit
                signal.signal(number, signal.SIG_DFL)
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")  # where the whole machine runs short, this is what the kernel takes
            what = root
            os.chdir(what)
            what = command[0]
            os.execvpe(what, command, env)  # noqa: S606 - the user's own command
        except OSError as error:
            os.write(tell, "{}: {}".format(what, error.strerror).encode())
        os._exit(127)
    os.close(tell)
    pid = 0
    while pid != child:
        pid, status = os.wait()
    why = os.read(told, 4096).decode(errors="replace")
    os.close(told)
    code, name = (None, None) if why else _end_of(status)
    return {"how": "start" if why else "exit", "why": why, "exit": code, "signal": name}


def _end_of(status: int) -> tuple[int | None, str | None]:
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status), None
    names = {each.value: each.name for each in signal.Signals}
    return None, names.get(os.WTERMSIG(status), "signal {}".format(os.WTERMSIG(status)))


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/{}/task".format(pid)):
            with contextlib.suppress(OSError), open("/proc/{}/task/{}/children".format(pid, thread)) as file:
                yield from map(int, file.read().split())


def _resident(pid: int) -> int:
    """Bytes of a process that are in memory, without those of files."""
    with contextlib.suppress(OSError, IndexError), open("/proc/{}/statm".format(pid)) as file:
        sizes = file.read().split()
        return (int(sizes[1]) - int(sizes[2])) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    """The same, where a page that processes share counts once."""
    with contextlib.suppress(OSError), open("/proc/{}/smaps_rollup".format(pid)) as file:
        found = dict(line.split(":", 1) for line in file.read().splitlines() if line.startswith("Pss"))
        return int(found.get("Pss_Anon", found.get("Pss", "0 kB")).split()[0]) * 1024
    return _resident(pid)


def _absent(requirements: list[str]) -> list[str]:
    """Return those of the requirements of which no release is installed."""
    if not requirements:
        return []
    from importlib import metadata  # it reads every package's data

    installed = {re.sub(r"[-_.]+", "-", str(each.metadata["Name"])).lower() for each in metadata.distributions()}
    return [text for text in requirements if re.split(r"[^\w.-]", text)[0] not in installed]


def _last_line() -> str:
    """The last line that was printed."""
    size = os.fstat(1).st_size
    lines = os.pread(1, _LAST, max(0, size - _LAST)).decode(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def _shown(command: Any) -> str:
    return command if isinstance(command, str) else " ".join(command)


def _size(count: int) -> str:
    return "{:.1f} GB".format(count / 1e9) if count >= 1e9 else "{:.0f} MB".format(count / 1e6)
