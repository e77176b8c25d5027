"""What the bridge costs beside a release's own store, in one run.

    python -m benchmarks.bridge [--version 2.13.0 | --python PATH] [--rounds 15] [--operations 1000000]

Prints: microseconds of the real client's operations, both stores in turn; seconds until 2,000 light clients are
through a barrier; operations a second of eight light clients, with the processor time of each; memory over many
operations; milliseconds that init and a training step take. Name look-ups of the stock store are answered at once:
since 2.6 it makes one for each connection, which the bridge doesn't. Figures of a busy machine are no figures: the
load is printed first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.progress import Plain
from torchskew.errors import HarnessError
from torchskew.runtimes import runtime
from torchskew.runtimes.venv import launch
from torchskew.workflows.inputs import read_declaration

from benchmarks.lookups import without_lookups

HERE = Path(__file__).resolve().parent
CLIENT = HERE / "bridge_client.py"
HELLO = b"\x00\xce\xf7\x85\x3c\x0d\x01\x02\x03\x04"  # VALIDATE and PING, as clients since 2.5 begin
KEY = struct.pack("<Q", 4) + b"/key"
VALUE = struct.pack("<Q", 100) + bytes(100)
SET, GET, BARRIER = b"\x01" + KEY + VALUE, b"\x03" + KEY, b"\x12"
TICKS = os.sysconf("SC_CLK_TCK")
AIM = {"get": 1.5, "add": 1.5}
STEP = 1.05


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A server that has said on one of its outputs that it listens."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "serves" in line or "listens" in line:
                break
        try:
            yield process
        finally:
            process.kill()


def stock(python: str, port: int) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """The release's own store."""
    return server(*without_lookups(python, CLIENT), "serve", str(port))


def bridge(port: int) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """The bridge, with the interpreter that runs this."""
    return server(sys.executable, "-m", "torchskew.bridge", str(port), "127.0.0.1")


def light(port: int) -> socket.socket:
    """A client of plain bytes."""
    conn = socket.create_connection(("127.0.0.1", port), timeout=60)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conn.sendall(HELLO)
    assert conn.recv(4) == HELLO[-4:]
    return conn


def through_a_barrier(port: int, clients: int) -> float:
    """Seconds from the first connection to the last client's answer."""
    message = BARRIER + struct.pack("<Q", 4) + b"/all" + struct.pack("<q", clients)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(light(port)) for _ in range(clients)]
        for conn in conns:
            conn.sendall(message)
        for conn in conns:
            assert conn.recv(1) == b"\0"
        return time.perf_counter() - began


def busy(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """MiB that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def rate(port: int, pid: int, operations: int) -> tuple[float, float]:
    """Sets and gets a second of eight clients in step, and the microseconds of the server's processor for each."""
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(light(port)) for _ in range(8)]
        before, began = busy(pid), time.perf_counter()
        for _ in range(operations // 16):
            for conn in conns:
                conn.sendall(SET)
                conn.sendall(GET)
            for conn in conns:
                left = 108
                while left:
                    left -= len(conn.recv(left))
        took = time.perf_counter() - began
    return operations / took, (busy(pid) - before) / operations * 1e6


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Processes that are started meanwhile ask files alone for names."""
    with tempfile.TemporaryDirectory() as etc:
        launch.write_etc(Path(etc))
        os.environ["TORCHSKEW_ETC"] = etc
        try:
            yield
        finally:
            del os.environ["TORCHSKEW_ETC"]


class Clients:
    """The release's real client, imported once."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, line: str) -> object:
        """One request, one answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def real_clients(python: str) -> Iterator[Clients]:
    """A process of the release."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(without_lookups(python, CLIENT), text=True, **pipes) as process:  # type: ignore[call-overload]
        yield Clients(process)
        process.stdin.close()


def beside(python: str, clients: Clients, options: argparse.Namespace) -> bool:
    """All that is measured against two stores that run side by side; whether each aim was met."""
    ports = free_port(), free_port()
    met = True
    with stock(python, ports[0]) as own, bridge(ports[1]) as ours:
        taken = clients.ask(f"turns {options.rounds} {ports[0]} {ports[1]}")
        assert isinstance(taken, dict)
        for name, (a, b) in taken.items():
            aim = f" (aim: at most {AIM[name]} times)" if name in AIM else ""
            met &= name not in AIM or b / a <= AIM[name]
            print(f"{name}: stock {a:.1f} us, bridge {b:.1f} us: {b / a:.2f} times{aim}")
        seconds = [through_a_barrier(port, options.clients) for port in ports]
        met &= options.clients != 2000 or seconds[1] < 2
        print(f"{options.clients} clients, a barrier: stock {seconds[0]:.2f} s, bridge {seconds[1]:.2f} s (aim: 2 s)")
        for name, port, pid in (("stock", ports[0], own.pid), ("bridge", ports[1], ours.pid)):
            rate(port, pid, 20_000)
            before = resident(pid)
            a_second, each = rate(port, pid, options.operations)
            met &= name == "stock" or (a_second >= 10_000 and resident(pid) - before < 2)
            print(f"{name}: {a_second:,.0f} set and get a second (aim: 10,000), {each:.1f} us of processor each; "
                  f"memory {resident(pid) - before:+.1f} MiB over {options.operations:,} (aim: flat)")  # fmt: skip
    return met


def groups(clients: Clients, rounds: int) -> bool:
    """Medians of init and of a training step of two ranks; whether the bridge adds at most 10 ms, and 5 % of a step."""
    taken: dict[str, list[list[float]]] = {"stock": [], "bridge": []}
    for _ in range(rounds):
        taken["stock"].append(json.loads(str(clients.ask(f"group {free_port()} stock"))))
        port = free_port()
        with bridge(port):
            taken["bridge"].append(json.loads(str(clients.ask(f"group {port} bridge"))))
    (a, step_a), (b, step_b) = (
        [statistics.median(round_[number] for round_ in both) * 1e3 for number in (0, 1)] for both in taken.values()
    )
    print(f"init of two ranks: stock {a:.1f} ms, bridge {b:.1f} ms: {b - a:+.1f} ms (aim: at most 10 ms)")
    print(f"a training step of two ranks: stock {step_a:.2f} ms, bridge {step_b:.2f} ms: {step_b / step_a:.2f} times "
          f"(aim: at most {STEP} times)")  # fmt: skip
    return b - a <= 10 and step_b / step_a <= STEP


def main() -> int:
    """All of it; the exit code is 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default="2.13.0")
    parser.add_argument("--python", help="an interpreter with torch, instead of a declared version")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--operations", type=int, default=200_000)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    where, python = runtime("venv"), options.python
    try:
        if python is None:
            declared = read_declaration(HERE.parent / "torchskew.toml").versions[options.version]
            python = where.provision(for_runtime(declared, "venv", Problems("")), Plain(sys.stderr)).handle
        with quiet(), real_clients(python) as clients:
            met = [beside(python, clients, options), groups(clients, options.rounds)]
    except HarnessError as error:
        print(f"INCOMPLETE: nothing was measured: {error}")
        return 1
    finally:
        where.close()
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
