"""A port for the exchange is found, not hoped for: beside other jobs, beside strangers, behind a firewall."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from torchskew.guard import joiner, pace, sockets
from torchskew.guard.errors import Unverified
from torchskew.guard.search import Line, greetings
from torchskew.guard.settings import HIGHEST_SPARE, LOWEST_SPARE, spare_ports

from tests.conftest import ROOT
from tests.guard.ranks import Group, connect, hello_of
from tests.patience import PATIENCE

JOBS = 8


def test_the_list_follows_from_the_first_port_and_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    first = spare_ports(29500)
    assert spare_ports(29500) == first
    assert 4 <= len(first) <= 6
    assert all(LOWEST_SPARE <= port <= HIGHEST_SPARE for port in first)
    assert not set(first) & set(spare_ports(29501))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another job")
    assert not set(first) & set(spare_ports(29500))
    monkeypatch.setenv("TORCHSKEW_GUARD_PORT", "4444")
    assert spare_ports(29500)[0] == 4444
    assert 4444 not in spare_ports(4444)


@contextlib.contextmanager
def consecutive() -> Iterator[list[socket.socket]]:
    """Ports in a row, each of which an agent's store has."""
    for start in range(24000, 32000, JOBS):
        with contextlib.ExitStack() as taken, contextlib.suppress(OSError):
            agents = [socket.create_server(("127.0.0.1", start + place)) for place in range(JOBS)]
            for agent in agents:
                taken.enter_context(agent)
            yield agents
            return
    raise AssertionError("no row of free ports")


@pytest.mark.parametrize("shared", [False, True])
def test_many_jobs_on_one_host_with_consecutive_ports_find_their_own_ranks(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Agents have all first ports, so every job meets on a spare one.

    shared: each job's list begins with the same port, which the first job's guard has, and joiners of the others call
    that one first.
    """
    monkeypatch.setattr(pace, "MOST_APART", 60.0)  # the first job's rank 1 comes when the other jobs are done
    with consecutive() as agents, socket.create_server(("127.0.0.1", 0)) as free:
        common = free.getsockname()[1]
        monkeypatch.setenv("TORCHSKEW_GUARD_PORT", str(common) * shared)
        free.close()

        def in_order(*args: Any) -> Iterator[Line]:
            return iter(sorted(greetings(*args), key=lambda line: line.conn.getpeername()[1] != common))

        monkeypatch.setattr(joiner, "greetings", in_order)
        groups = [Group(agent.getsockname()[1]) for agent in agents]
        for number, group in enumerate(groups):
            group.start(0, hello_of(0, "2.6.0", method="agent", git=f"job{number}"))
            if shared:
                connect(common).close()
        for number in (*range(1, JOBS), 0):
            groups[number].start(1, hello_of(1, "2.6.0", method="agent", git=f"job{number}"))
            results = groups[number].join()
            assert [type(results[rank]) for rank in (0, 1)] == [dict, dict], results
            assert {each["git"] for each in results[1]["groups"]} == {f"job{number}"}


def test_a_port_that_another_listens_on_a_moment_after_it_was_bound_is_passed_over(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes can bind one port while neither listens: the second that listens has lost it."""
    real, lost = sockets.bind, spare_ports(group.port)[0]
    with real(lost) as other:

        def bind(port: int) -> socket.socket:
            server = real(port)
            if port == lost:
                other.listen()
            return server

        monkeypatch.setattr(sockets, "bind", bind)
        for rank in range(2):
            group.start(rank, hello_of(rank, method="agent"))
        assert [type(result) for result in group.join().values()] == [dict, dict]


@pytest.mark.parametrize("how", ["silent", "closing", "another job"])
def test_strangers_on_the_first_spare_ports_are_passed_over(
    group: Group, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A guard of another job answers before this one's does, each time."""
    spares = spare_ports(group.port)
    first, second = spares[:2]

    def in_order(*args: Any) -> Iterator[Line]:
        return iter(sorted(greetings(*args), key=lambda line: spares.index(line.conn.getpeername()[1])))

    if how == "another job":
        monkeypatch.setattr(joiner, "greetings", in_order)
    heard: list[bytes] = []
    with contextlib.ExitStack() as stack:
        for port in (first, second):
            with contextlib.suppress(OSError):
                server = stack.enter_context(socket.create_server(("0.0.0.0", port)))
                thread = threading.Thread(target=_stranger, args=(server, how, heard), daemon=True)
                thread.start()
                stack.callback(thread.join, 10)
                stack.callback(server.shutdown, socket.SHUT_RDWR)
        for rank in range(2):
            group.start(rank, hello_of(rank, method="agent"))
        assert [type(result) for result in group.join().values()] == [dict, dict]
    assert all(data.startswith(b"\xfftorchskew-") for data in heard)


def _stranger(server: socket.socket, how: str, heard: list[bytes]) -> None:
    """Something that is no guard, or the guard of another job, which greets and then hangs up."""
    held = []
    with contextlib.suppress(OSError):
        while True:
            conn = server.accept()[0]
            held.append(conn)
            if how != "silent":
                heard.append(conn.recv(100))
                conn.sendall(b"torchskew-guard/1\n" + bytes(16) if how == "another job" else b"HTTP/1.1 400\r\n")
                conn.close()
    for conn in held:
        conn.close()


# Two ranks in a network of their own, in which only connections to one port pass.
BEHIND = """
import sys
from tests.guard.ranks import Group, hello_of

group, method = Group(29500, 600.0), sys.argv[1]
for rank in range(2):
    group.start(rank, hello_of(rank, "2.6.0", method=method))
results = group.join()
for rank in range(2):
    print(type(results[rank]).__name__)
"""
FIREWALL = (
    "ip link set lo up && iptables -A INPUT -p tcp --syn ! --dport 29500 -j DROP && "
    'ip6tables -A INPUT -p tcp --syn ! --dport 29500 -j DROP; exec "$@"'
)


def behind_a_firewall(method: str) -> list[str]:
    """The type of each rank's result; none may wait for the timeout, which is far."""
    if not all(map(shutil.which, ("unshare", "ip", "iptables"))):
        pytest.skip("unshare, ip and iptables are needed")
    command = ["unshare", "-n", "sh", "-c", FIREWALL, "sh", sys.executable, "-c", BEHIND, method]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'harness'}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    if "Operation not permitted" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("a network namespace is not permitted here")
    return done.stdout.splitlines() or [done.stderr]


@pytest.mark.slow
def test_a_firewall_that_drops_all_but_the_first_port_does_not_matter_where_the_guard_has_it() -> None:
    """As in a container with one published port."""
    assert behind_a_firewall("tcp") == ["dict", "dict"]


@pytest.mark.slow
def test_a_firewall_that_drops_all_but_the_first_port_costs_seconds_where_an_agent_has_it() -> None:
    """tests/guard/test_pace.py says how many; here, that what is far larger is not waited for."""
    assert behind_a_firewall("agent") == [Unverified.__name__] * 2
