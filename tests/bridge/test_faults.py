"""Faults of a bridge that is a process of its own: killed, refused its port, flooded, never read."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchskew.bridge.serve import serve
from torchskew.model.versions import Environment

from tests.bridge import trial
from tests.bridge.conftest import MAGIC, NONCE, Peer, i64, key
from tests.bridge.processes import Process, bridge_process
from tests.patience import PATIENCE

Output = pytest.CaptureFixture[str]
MIB = 1 << 20


@pytest.fixture
def process() -> Iterator[Process]:
    with bridge_process() as running:
        yield running


def tell(ranks: list[trial.Rank], text: str) -> list[str | None]:
    """What each rank answers to a line."""
    for rank in ranks:
        assert rank.stdin is not None
        rank.stdin.write(f"{text}\n".encode())
        rank.stdin.flush()
    return [trial.line(rank, PATIENCE) for rank in ranks]


@pytest.mark.slow
def test_a_job_outlives_its_bridge_until_it_needs_a_new_group(torch_environment: Environment, process: Process) -> None:
    script = Path(__file__).with_name("job.py")
    with trial.ranks([torch_environment.handle] * 2, process.port, trial.AT_A_BRIDGE, script) as ranks:
        assert [trial.line(rank, PATIENCE) for rank in ranks] == ["imported"] * 2
        assert tell(ranks, "join") == ["joined"] * 2
        assert tell(ranks, "reduce") == ["11"] * 2
        process.process.kill()
        process.process.wait()
        assert [tell(ranks, "reduce") for _ in range(3)] == [["11"] * 2] * 3
        for answer in tell(ranks, "group"):
            assert answer is not None
            assert answer.startswith("DistNetworkError: ")
            assert "remote server shutdown or crash" in answer or "Broken pipe" in answer or "reset by peer" in answer
        assert tell(ranks, "reduce") == ["11"] * 2


def test_a_port_that_is_taken_is_told_in_one_line(capsys: Output) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve("127.0.0.1", port) == 4
    problem = f"torchskew bridge: can't listen on port {port}: [Errno 98] Address already in use."
    assert capsys.readouterr().err == f"{problem} Choose another --port, or end what listens there.\n"


def test_a_port_that_needs_rights_is_told_in_one_line(tmp_path: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1:
        pytest.skip("this system gives every user every port")
    told = tmp_path / "told"
    child = os.fork()
    if not child:
        code = 99
        with contextlib.suppress(BaseException):
            os.dup2(os.open(told, os.O_CREAT | os.O_WRONLY), 2)
            import sys

            sys.stderr = os.fdopen(2, "w")
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            code = serve("127.0.0.1", 1)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    assert told.read_text().startswith("torchskew bridge: can't listen on port 1: [Errno 13] Permission denied.")


@pytest.mark.slow
def test_who_asks_for_gigabytes_and_reads_nothing_costs_little(process: Process) -> None:
    honest, greedy = Peer(process.port, "2.5"), Peer(process.port, "2.5")
    greedy.set(b"/large", bytes(8 * MIB))
    honest.get(b"/large")
    before = process.memory("VmHWM")
    greedy.send((b"\x03" + key(b"/large")) * 1000)
    for number in range(50):
        honest.set(b"/n", b"%d" % number)
        assert honest.get(b"/n") == b"%d" % number
    assert process.memory("VmHWM") - before < 64
    assert greedy.receive(8 + 8 * MIB)[8:] == bytes(8 * MIB)  # and what it asked for still comes when it reads
    assert greedy.receive(8 + 8 * MIB)[8:] == bytes(8 * MIB)
    for peer in (honest, greedy):
        peer.conn.close()


@pytest.mark.slow
def test_thousands_of_half_open_connections_stop_nobody(process: Process) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    halves = [b"", b"\0", MAGIC[:3], MAGIC, b"\x03\x05\0", MAGIC + b"\x0d" + NONCE + b"\x01\x05\0\0"]
    descriptors = process.descriptors()
    with contextlib.ExitStack() as stack:
        for number in range(5000):
            conn = stack.enter_context(socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE))
            conn.sendall(halves[number % len(halves)])
        for era in ("2.1", "2.2", "2.5"):
            peer = Peer(process.port, era)
            stack.enter_context(peer.conn)
            peer.set(b"/a", era.encode())
            assert peer.get(b"/a") == era.encode()
        assert process.descriptors() > 5000
        assert process.memory() < 200
    until = time.monotonic() + PATIENCE
    while process.descriptors() > descriptors and time.monotonic() < until:
        time.sleep(0.01)
    assert process.descriptors() == descriptors
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_memory_stays_flat_over_many_operations_and_clients(process: Process) -> None:
    peer = Peer(process.port, "2.5")

    def some() -> None:
        for number in range(2000):
            name = b"/k%d" % (number % 50)
            peer.tell(1, key(name) + key(bytes(number)))
            peer.ask(4, key(b"/n") + i64(1), 8)
            peer.get(name)
            peer.ask(8, key(name), 8)
        for _ in range(200):
            Peer(process.port, "2.5").conn.close()

    some()
    before = process.memory()
    for _ in range(3):
        some()
    assert process.memory() - before <= 2
    peer.conn.close()
