"""A rank that does what no rank should: the cell is told as what it was, and no other cell notices.

Each variant is one deed. The oracle: what the rank returned, if it got that far.
"""

import json
import os
import signal
import socket
import sys
import time

KIND = "solo"
WORLD = (1, 1)
SOON = 1.5  # seconds
PIECE = 1 << 20
LONG = 600


def _pipes():
    """The descriptors through which this rank could speak to its agent."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number > 2 and os.readlink("/proc/self/fd/" + name).startswith("pipe:"):
                yield number
        except OSError:
            continue


def _write(data):
    """To every pipe; a pipe's other end refuses."""
    for pipe in _pipes():
        rest = data
        while rest:
            try:
                rest = rest[os.write(pipe, rest) :]
            except OSError:
                break


def garbage():
    _write(bytes(range(256)) * 64 + b"\n" + b"{}\n[]\nnull\n" + b"[" * 50000 + b"\n\xff\xfe\n" + b'{"report"\n')
    _write(b'{"phase": 7, "at": "x"}\n{"phase": "nowhere", "at": 0}\n{"progress": [], "step": {}, "at": null}\n')


def gigabyte():
    for _ in range(1024):
        _write(b"x" * PIECE)
    _write(b"\n")


def chatter():
    """So many right lines that nobody could want them."""
    line = json.dumps({"progress": "step", "step": 1, "at": 0.0}).encode() + b"\n"
    for _ in range(50):
        _write(line * 1000)


def another_rank():
    """Speak for other ranks of this agent, and for the agent itself."""
    for number in range(40):
        facts = {"event": "exited", "id": str(number), "exit": 0, "signal": None, "seconds": 0, "log": "", "stacks": ""}
        _write(json.dumps({**facts, "report": None, "phase": "done", "at": 0}).encode() + b"\n")
    _write(b'{"event": "ready", "protocol": 99}\n{"event": "failed", "type": "x", "text": "y", "where": "z"}\n')


def fork():
    if os.fork() == 0:
        time.sleep(LONG)
        os._exit(0)


def double_fork():
    """What a daemon does: a session of its own, nobody's child, deaf to everything that can be ignored."""
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            os.closerange(0, 256)
            time.sleep(LONG)
        os._exit(0)
    time.sleep(0.2)


def leave_session():
    """In another group, which an end of the rank's own group does not reach."""
    if os.fork() == 0:
        os.setpgid(0, 0)
        time.sleep(LONG)
        os._exit(0)
    os.setpgid(0, os.getpgid(os.getppid()))


def deaf():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(LONG)


def fill():
    """64 MB of files, in folders that the harness has to remove."""
    folder = os.environ.get("TMPDIR", "/tmp")
    for number in range(64):
        os.makedirs(os.path.join(folder, "deep", str(number)), exist_ok=True)
        with open(os.path.join(folder, "deep", str(number), "file"), "wb") as file:
            file.write(b"x" * PIECE)


def shout():
    """200 MB on standard output."""
    for _ in range(200):
        sys.stdout.write("y" * PIECE)


def ports():
    """As many listening ports as it gets, all of them in the range that the harness leases from."""
    held = []
    for port in range(20000, 32000):
        try:
            listener = socket.socket()
            held.append(listener)
            listener.bind(("127.0.0.1", port))
            listener.listen(1)
        except OSError:
            if len(held) > 900:
                break
    time.sleep(SOON)


def chmod():
    for folder in (os.environ.get("TMPDIR", "/nowhere"), os.getcwd()):
        inner = os.path.join(folder, "locked")
        try:
            os.makedirs(os.path.join(inner, "more"), exist_ok=True)
            os.chmod(inner, 0)
        except OSError:
            continue


def close_all():
    os.closerange(0, 256)


def kill_agent():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(LONG)


def stop_agent():
    os.kill(os.getppid(), signal.SIGSTOP)


def liar():
    """Another result than its own, and then an end without one."""
    _write(json.dumps({"report": {"finished": True, "payload": {"deed": "nothing"}, "phase": "done"}}).encode() + b"\n")
    os._exit(0)


DEEDS = {
    each.__name__: each
    for each in (
        garbage, gigabyte, chatter, another_rank, fork, double_fork, leave_session, deaf, fill, shout, ports, chmod,
        close_all, kill_agent, stop_agent, liar,
    )
}  # fmt: skip
VARIANTS = {name: {"params": {"deed": name}} for name in DEEDS}


def rank(job):
    name = job.params["deed"]
    DEEDS[name]()
    return {"deed": name}


def judge(reports, world):
    return {
        number: "it says that it did {}".format(report.get("deed"))
        for number, report in enumerate(reports)
        if report is not None and report.get("deed") != world.params["deed"]
    }
