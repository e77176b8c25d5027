"""The warm process inside a version: imports torch once, forks a rank per request, reports facts as JSON lines."""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import sys
import time
from typing import Any, Callable

import torchskew_child as child  # type: ignore[import-not-found,unused-ignore]
import torchskew_handle as handle  # type: ignore[import-not-found,unused-ignore]
import torchskew_job as jobs  # type: ignore[import-not-found,unused-ignore]
import torchskew_kit as kit  # type: ignore[import-not-found,unused-ignore]
import torchskew_pages as pages  # type: ignore[import-not-found,unused-ignore]
import torchskew_place as place  # type: ignore[import-not-found,unused-ignore]
import torchskew_tree as tree  # type: ignore[import-not-found,unused-ignore]

PROTOCOL = 1
LACKS_SECONDS = 10.0
DUMP_SECONDS = 1.0  # what a KILL waits for stacks that were asked for
DUMP_LOOK = 0.02
UNCLEAR_SECONDS, UNCLEAR_LOOK = 10.0, 0.02  # how long, and how often, to look again at what is starting a program
SIGNALS = {"KILL": signal.SIGKILL, "STOP": signal.SIGSTOP, "CONT": signal.SIGCONT, "TERM": signal.SIGTERM}


class Agent:
    """One thread, one poll over standard input, standard output, the ranks' pipes and SIGCHLD."""

    def __init__(self, source: int, sink: int) -> None:
        """Source and sink are the protocol's two ends; both are made non-blocking."""
        self.source, self.sink = source, sink
        self.commands, self.out = handle.Lines(), bytearray()
        self.scenarios: dict[str, Any] = {}
        self.ranks: dict[str, Any] = {}
        self.serving = True
        self.unclear_until = 0.0  # while some child may have been left behind by a rank, and can't be told yet
        self.wake, self.waker = os.pipe()
        for descriptor in (source, sink, self.wake, self.waker):
            os.set_blocking(descriptor, False)
        self.poll = select.poll()
        self.handlers: dict[int, Callable[[], Any]] = {}

    def send(self, event: str, **fields: Any) -> None:
        """Queue one event; it leaves as fast as the harness reads."""
        try:
            line = json.dumps({"event": event, **fields})
        except RecursionError:  # what a rank reported can be read, and is nested too deeply to be written again
            flat = {name: None if isinstance(value, (dict, list)) else value for name, value in fields.items()}
            line = json.dumps({"event": event, **flat})
        self.out += line.encode() + b"\n"
        self._write()

    def serve(self, pending: bytes) -> None:
        """Answer until `stop` or the end of input, then kill every rank. pending: input that was read before."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._op_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a rank that can't dump yet must not die of the request
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        _prepare_for_forks()
        self._watch(self.source, self._read_commands)
        self._watch(self.wake, lambda: handle.read_ready(self.wake))
        self._obey_lines(pending)
        while self.serving:
            for descriptor, _ in self.poll.poll(self._poll_milliseconds()):
                self.handlers.get(descriptor, int)()
            self._reap()
            self._kill_due()
        self._end()

    def flush(self) -> None:
        """Wait at most two seconds until the harness has read everything."""
        until = time.monotonic() + 2.0
        while self.out and time.monotonic() < until:
            self.poll.poll(10)
            self._write()

    # -- input

    def _read_commands(self) -> None:
        data = handle.read_ready(self.source)
        if data == b"":
            self.serving = False
        self._obey_lines(data or b"")

    def _obey_lines(self, data: bytes) -> None:
        for line in self.commands.feed(data):
            why = "the line is too long" if line is None else self._obey(line)
            if why:
                self.send("rejected", why=why)

    def _obey(self, line: bytes) -> str | None:
        """Do what one line asks; returns why not."""
        try:
            message = json.loads(line.decode())
            operation = getattr(self, "_op_" + message["op"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return "no request: {!r}: {!r}".format(line[:200], error)
        try:
            operation(message)
        except (KeyError, TypeError, AttributeError) as error:
            return "{}: wrong fields: {!r}".format(message["op"], error)
        return None

    def _op_load(self, message: dict[str, Any]) -> None:
        name = message["scenario"]
        try:
            self.scenarios[name] = child.Scenario(message["source"], message["file"])
        except (SyntaxError, ValueError) as error:
            self.send("loaded", scenario=name, error="{}: {}".format(type(error).__name__, error))
            return
        job, rank_id = jobs.alone(LACKS_SECONDS, message.get("env"), message.get("paths")), "load " + name
        why = self._fork(child.Birth("lacks", rank_id, job, self.scenarios[name]))
        if why:
            self.send("loaded", scenario=name, error=why)
        else:
            self.ranks[rank_id].kill_at = time.monotonic() + LACKS_SECONDS

    def _op_run(self, message: dict[str, Any]) -> None:
        rank_id, fields, scenario = message["id"], message["job"], self.scenarios.get(message["scenario"])
        try:
            job = jobs.decode(fields)
            if scenario is None:
                why: str | None = "the scenario {!r} was never loaded".format(message["scenario"])
            else:
                why = handle.port_in_use(job.port) if job.check_port else None
                why = why or self._fork(child.Birth("rank", rank_id, job, scenario))
        except jobs.JobError as error:
            why = str(error)
        if why:
            self.send("refused", id=rank_id, why=why)

    def _op_stacks(self, message: dict[str, Any]) -> None:
        rank = self.ranks.get(message["id"])
        if rank:
            rank.stacks_asked = True
            os.kill(rank.pid, signal.SIGUSR1)

    def _op_signal(self, message: dict[str, Any]) -> None:
        rank, number = self.ranks.get(message["id"]), SIGNALS[message["signal"]]
        if rank and number == signal.SIGKILL and rank.stacks_asked:
            rank.kill_at = time.monotonic() + DUMP_SECONDS
        elif rank:
            rank.signal(number)

    def _op_hold(self, message: dict[str, Any]) -> None:
        """Report on a rank as it is now and leave it alive: one that hangs, for whoever wants to look inside."""
        rank = self.ranks.get(message["id"])
        if rank:
            self._report_held(rank)

    def _op_import(self, message: dict[str, Any]) -> None:
        """Import modules ahead of every later fork; ranks that run now wait for nothing of ours meanwhile."""
        place.import_ahead(message["modules"])
        _prepare_for_forks()
        self.send("imported", modules=message["modules"])

    def _op_forget(self, message: dict[str, Any]) -> None:
        shutil.rmtree(message["share"], ignore_errors=True)

    def _op_forget_made(self, *_: Any) -> None:
        if not tree.is_unbuilt():  # where no torch can be imported, nothing is made
            kit.forget_made()

    def _op_stop(self, *_: Any) -> None:
        self.serving = False

    # -- ranks

    def _fork(self, birth: Any) -> str | None:
        """Start a rank; returns why the machine refused."""
        if birth.id in self.ranks:
            return "a rank of this id is running"
        pipe = -1
        try:
            birth.log, birth.stacks = handle.unnamed_file(), handle.unnamed_file()
            pipe, birth.pipe = os.pipe()
            rank = handle.Rank(birth, pipe)
            birth.close = [pipe, self.source, self.sink, self.wake, self.waker]
            birth.close += [d for other in self.ranks.values() for d in (other.pipe, other.log, other.stacks)]
            rank.pid = os.fork()
        except OSError as error:
            for descriptor in (birth.log, birth.stacks, birth.pipe, pipe):
                if descriptor >= 0:
                    os.close(descriptor)
            return "no rank could be forked: {}".format(error)
        if rank.pid == 0:
            child.live(birth)
        self._watch_rank(rank, birth)
        return None

    def _watch_rank(self, rank: Any, birth: Any) -> None:
        try:
            os.setpgid(rank.pid, rank.pid)
        except OSError as error:  # it may have done so itself, and be gone already
            print("setpgid of rank {}: {}".format(rank.id, error), file=sys.stderr)
        os.close(birth.pipe)
        os.set_blocking(rank.pipe, False)
        self.ranks[rank.id] = rank
        self._watch(rank.pipe, lambda: self._read_rank(rank))
        if rank.function == "rank":
            self.send("started", id=rank.id, pid=rank.pid)

    def _read_rank(self, rank: Any) -> bool:
        """Take what a rank wrote; False if there is no more now."""
        data = handle.read_ready(rank.pipe)
        if data == b"":
            self._unwatch(rank.pipe)
        for line in rank.lines.feed(data or b""):
            self._take_message(rank, line or b"")
        return bool(data)

    def _take_message(self, rank: Any, line: bytes) -> None:
        try:
            message = json.loads(line.decode())
            if "report" in message:
                rank.report = message["report"]
            elif rank.function == "rank" and "progress" in message:
                self.send("progress", id=rank.id, name=message["progress"], step=message["step"], at=message["at"])
            elif rank.function == "rank" and message["phase"] == "held":
                self._report_held(rank)
            elif rank.function == "rank":
                self.send("phase", id=rank.id, phase=message["phase"], at=message["at"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            print("rank {}: junk on its pipe: {:.200}".format(rank.id, repr(error)), file=sys.stderr)

    def _reap(self) -> None:
        """Collect every child that ended; what a rank started dies with it, while its id is still taken."""
        pid = handle.ended()
        while pid is not None:
            rank = next((each for each in self.ranks.values() if each.pid == pid), None)
            if rank:
                rank.signal(signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if rank:
                del self.ranks[rank.id]
            self.unclear_until = time.monotonic() + UNCLEAR_SECONDS if handle.kill_orphans(self.ranks) else 0.0
            if rank:
                self._report_end(rank, *handle.end_of(status))
            pid = handle.ended()
        if self.unclear_until and (time.monotonic() > self.unclear_until or not handle.kill_orphans(self.ranks)):
            self.unclear_until = 0.0

    def _report_held(self, rank: Any) -> None:
        facts = {"exit": None, "signal": None, "seconds": time.monotonic() - rank.began, "report": rank.report}
        self.send("held", id=rank.id, log=handle.excerpt(rank.log), stacks=handle.excerpt(rank.stacks), **facts)

    def _report_end(self, rank: Any, code: int | None, signal_name: str | None) -> None:
        seconds = time.monotonic() - rank.began
        while self._read_rank(rank):
            continue
        self._unwatch(rank.pipe)
        log, stacks = handle.excerpt(rank.log), handle.excerpt(rank.stacks)
        rank.close()
        if rank.function == "lacks":
            self._loaded(rank, signal_name or "exit {}".format(code), log)
        else:
            facts = {"exit": code, "signal": signal_name, "seconds": seconds, "report": rank.report}
            self.send("exited", id=rank.id, log=log, stacks=stacks, **facts)

    def _loaded(self, rank: Any, end: str, log: str) -> None:
        name, report = rank.id[len("load ") :], rank.report or {}
        if report.get("unsupported"):
            self.send("loaded", scenario=name, lacks={"*": report["unsupported"]})
        elif report.get("finished"):
            self.send("loaded", scenario=name, lacks=report["payload"])
        else:
            error = report.get("error") or {"type": end, "text": "no report within {} s".format(LACKS_SECONDS)}
            self.send("loaded", scenario=name, error="{type}: {text}\n".format(**error) + log)

    def _kill_due(self) -> None:
        now = time.monotonic()
        for rank in self.ranks.values():
            if rank.due(now):
                rank.kill_at = None
                rank.signal(signal.SIGKILL)

    def _end(self) -> None:
        """Kill and reap; what the kernel has not given back within two seconds dies with us."""
        until = time.monotonic() + 2.0
        for rank in self.ranks.values():
            rank.signal(signal.SIGKILL)
        while (self.ranks or self.unclear_until) and time.monotonic() < until:
            self._reap()
            self.poll.poll(1)
        self.flush()

    # -- output and waiting

    def _write(self) -> None:
        try:
            while self.out:
                del self.out[: os.write(self.sink, self.out)]
        except BlockingIOError:
            self._watch(self.sink, self._write, select.POLLOUT)
            return
        except BrokenPipeError:
            self.serving = False
            self.out.clear()
        self._unwatch(self.sink)

    def _poll_milliseconds(self) -> int | None:
        """Milliseconds until a rank may have to be killed, or until what one left behind."""
        now = time.monotonic()
        due = [rank for rank in self.ranks.values() if rank.kill_at is not None]
        times = [DUMP_LOOK if rank.stacks_asked else rank.kill_at - now for rank in due]
        times += [UNCLEAR_LOOK] if self.unclear_until else []
        return max(1, int(1000 * min(times)) + 1) if times else None

    def _watch(self, descriptor: int, handler: Callable[[], Any], events: int = select.POLLIN) -> None:
        self.poll.register(descriptor, events)
        self.handlers[descriptor] = handler

    def _unwatch(self, descriptor: int) -> None:
        if self.handlers.pop(descriptor, None):
            self.poll.unregister(descriptor)


def _prepare_for_forks() -> None:
    """What is in memory now is to be shared with every later rank, and cheap to share."""
    gc.collect()
    gc.freeze()  # so that collections in the ranks leave the pages of torch shared
    pages.collapse()


def main() -> None:
    """Import torch where it is built, say so, serve; the process ends here. What it prints goes to standard error."""
    sink = os.dup(1)
    os.dup2(2, 1)
    handle.adopt_orphans()
    agent = Agent(sys.stdin.fileno(), sink)
    began = time.monotonic()
    problem = None if tree.is_unbuilt() else place.import_problem("torch.distributed")
    if problem:
        agent.send("failed", parts=place.broken_parts(), **problem)
        agent.flush()
        raise SystemExit(1)
    place.import_ahead(getattr(sys.modules["__main__"], "b", {}).get("imports", []))  # b: the boot line, see LOADER
    facts = {"import_seconds": time.monotonic() - began, "resolver_seconds": place.resolver_seconds()}
    agent.send("ready", protocol=PROTOCOL, pid=os.getpid(), **facts, **child.version())
    reader: Any = sys.stdin.buffer
    agent.serve(reader.peek())  # what it has read beyond the boot line
    child.leave()
