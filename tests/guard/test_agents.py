"""torchrun's agents say hello before their store, as ranks do: with numbers under static, without them under c10d."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from torchskew.guard import agents, exchange
from torchskew.guard.agents import announcing, guarded_c10d, guarded_static
from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.hello import own_hello
from torchskew.guard.pace import Pace
from torchskew.guard.place import Place
from torchskew.guard.roster import roster_of
from torchskew.guard.verdict import decide

from tests.guard.ranks import FAR, Group, connect, hello_of
from tests.guard.stub import Stub

OLD, NEW = "2.1.2", "2.2.2"


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_agents_with_numbers_are_refused_with_their_releases_and_hosts(group: Group, odd: int) -> None:
    for rank in range(3):
        group.start(rank, hello_of(rank, OLD if rank == odd else NEW, world=3, method="static"))
    for rank, error in group.join().items():
        assert str(error).startswith("Incompatible PyTorch releases among the agents of one job")
        assert f"(detected on agent {rank}, before it contacted the store)" in str(error)
        assert f"agent {odd}: torch {OLD} on node{odd}" in str(error)
        assert error.remedy == "install the same PyTorch release on every node."


@pytest.mark.parametrize("odd", [None, 0, 1, 2])
def test_agents_without_numbers_get_them_as_they_arrive(group: Group, odd: int | None) -> None:
    """Each of them thinks that the store is on its host; whoever gets the port is agent 0."""
    group.start(0, hello_of(0, OLD if odd == 0 else NEW, world=3, method="c10d", host="node0"))
    connect(group.port).close()
    for number in (1, 2):
        hello = hello_of(0, OLD if odd == number else NEW, world=3, method="c10d", host=f"node{number}", pid=7)
        group.start(number, hello)
    results = group.join()
    if odd is None:
        assert [type(result) for result in results.values()] == [dict] * 3
        assert results[1]["groups"][0]["ranks"] == "0-2"
        return
    lines = str(results[0]).splitlines()
    for number, error in results.items():
        assert str(error).splitlines()[1:] == lines[1:]
        assert f"torch {OLD} on node{odd}" in str(error)
        assert str(error.rank) in "012", number
    assert sorted(error.rank for error in results.values()) == [0, 1, 2]
    assert results[0].rank == 0


def test_an_agent_of_another_job_is_not_counted_and_the_group_forms(group: Group) -> None:
    """Several jobs may meet at one store of c10d, each under a prefix of its own."""
    group.start(0, hello_of(0, NEW, method="c10d", job="ours"))
    connect(group.port).close()
    other = Group(group.port, 3.0)
    other.start(0, hello_of(0, OLD, method="c10d", job="theirs"))
    assert isinstance(other.join()[0], Unverified)
    group.start(1, hello_of(0, NEW, method="c10d", job="ours"))
    assert [type(result) for result in group.join().values()] == [dict, dict]


@contextlib.contextmanager
def store(port: int, since: str) -> Iterator[None]:
    """What answers as the legacy store of a release does: of 2.2 or of 2.5."""

    def serve(conn: socket.socket) -> None:
        with contextlib.suppress(OSError), conn:
            if conn.recv(9) == b"\x00\xce\xf7\x85\x3c\x07\x07\x07\x07":
                conn.sendall(struct.pack("<4q", 1, 1, 1, 1))
                ping = conn.recv(5)
                if since == "2.5":
                    conn.sendall(ping[1:])

    with socket.create_server(("127.0.0.1", port)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    serve(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(("since", "what"), [("2.5", Unverified), ("2.2", ProtocolVersionError)])
def test_an_agent_that_comes_later_meets_the_store_and_is_refused_only_where_it_can_not_use_it(
    group: Group, since: str, what: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under c10d agents come and go, so a store is believed at once: elsewhere it would be FAR from now on."""
    late = Pace(*[time.monotonic() + FAR] * 2, 1.0, time.monotonic() + FAR)
    monkeypatch.setattr(exchange, "pace", lambda _seconds, _mode: late)
    with store(group.port, since):
        group.start(1, hello_of(0, "2.6.0", method="c10d"))
        error = group.join()[1]
    assert type(error) is what
    assert f"no guard answers at 127.0.0.1:{group.port}, but a TCPStore" in str(error)
    assert "agent 0 runs without the guard, or has formed its group" in str(error)


def test_an_agent_calls_no_longer_than_its_store_would(group: Group) -> None:
    """The store's timeout is short, that of the whole rendezvous long."""
    group.reach = 0.3
    group.start(1, hello_of(1, method="c10d"))
    error = group.join()[1]
    assert isinstance(error, ProtocolVersionError)
    assert "agent 0 never answered" in str(error)


@pytest.mark.parametrize(
    ("method", "releases", "eras"),
    [
        ("static", ("2.6.0", "2.13.0"), []),
        ("c10d", ("2.6.0", "2.13.0"), []),
        ("static", ("2.6.0", "2.2.2"), ["static"]),  # its store serves 2.2, but they assign the ranks otherwise
        ("c10d", ("2.6.0", "2.2.2"), ["c10d"]),
        ("static", ("2.5.1", "2.4.1"), []),
        ("static", ("2.6.0", "2.5.1"), []),
        ("c10d", ("2.6.0", "2.5.1"), ["c10d"]),
        ("static", ("2.0.1", "2.1.2"), []),  # gloo and keys are the workers' matter
    ],
)
def test_agents_are_compared_by_their_store_and_their_rendezvous(
    method: str, releases: tuple[str, str], eras: list[str]
) -> None:
    hellos = [hello_of(rank, torch, method=method) for rank, torch in enumerate(releases)]
    assert [each.era for each in decide(roster_of(hellos, "era"))] == eras


def worker(rank: int, torch: str, agent: str, serves: str) -> dict[str, Any]:
    return hello_of(rank, torch, method="agent", launcher=agent, serves=serves)


def test_workers_are_refused_whose_agents_store_is_of_another_era() -> None:
    pair = [worker(rank, NEW, OLD, "1.9 2.1") for rank in range(2)]
    (objection,) = decide(roster_of(pair, "era"))
    assert "the store is that of rank 0's agent, torch 2.1.2, which differs since 2.2" in objection.text
    assert "ranks 0-1 torch 2.2.2" in objection.text


def test_workers_are_admitted_whose_agents_store_serves_them() -> None:
    assert decide(roster_of([worker(rank, "2.13.0", "2.6.0", "2.2 2.5") for rank in range(2)], "era")) == []


def test_a_worker_says_which_release_started_it(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("agent", "host", 29500, "", 0, 2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a job")
    monkeypatch.setenv("TORCHSKEW_GUARD_AGENT", "2.1.2 a job")
    assert (own_hello(place)["launcher"], own_hello(place)["serves"]) == ("2.1.2", "1.9 2.1")
    assert own_hello(place._replace(method="tcp"))["launcher"] == ""
    monkeypatch.setenv("TORCHSKEW_GUARD_AGENT", "2.1.2 the job around it")
    assert (own_hello(place)["launcher"], own_hello(place)["serves"]) == ("", "2.2 2.5")


class Handler:
    """What the guard asks of torch's static rendezvous."""

    def __init__(self, port: int, rank: int, world: int = 2) -> None:
        self.master_addr, self.master_port, self.rank, self.world_size = "127.0.0.1", port, rank, world
        self.run_id, self.timeout, self._store = "none", dt.timedelta(seconds=8), None
        self.calls: list[dt.timedelta] = []

    def next_rendezvous(self) -> str:
        self.calls.append(self.timeout)
        return "a store"


def test_a_static_rendezvous_is_checked_before_its_first_store_only(stub: Stub, group: Group) -> None:
    handler, cover = Handler(group.port, rank=0), guarded_static(Handler.next_rendezvous)
    group.start(1, hello_of(1, OLD, method="static", job="none"))
    with pytest.raises(ProtocolVersionError, match="agent 1: torch 2.1.2 on node1"):
        cover(handler)
    assert handler.calls == []
    handler._store = "there"
    assert cover(handler) == "a store"


def test_a_static_rendezvous_alone_waits_for_nobody(stub: Stub, group: Group) -> None:
    handler = Handler(group.port, rank=0, world=1)
    assert guarded_static(Handler.next_rendezvous)(handler) == "a store"
    assert handler.calls == [dt.timedelta(seconds=8)]


@pytest.mark.slow
def test_warn_never_keeps_an_agent_from_its_store(
    stub: Stub, group: Group, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    handler = Handler(group.port, rank=1)
    assert guarded_static(Handler.next_rendezvous)(handler) == "a store"
    assert "torchskew guard, agent 1: agent 0 never answered" in capsys.readouterr().err
    assert handler.calls[0] < dt.timedelta(seconds=8)
    assert handler.timeout == dt.timedelta(seconds=8)


class Params:
    """What the guard asks of torch's parameters of a rendezvous."""

    def __init__(self, port: int, least: int = 2, **config: Any) -> None:
        self.endpoint, self.run_id, self.min_nodes, self.config = f"127.0.0.1:{port}", "a job", least, config

    def get_as_bool(self, name: str) -> bool | None:
        return self.config.get(name)

    def get_as_int(self, name: str, default: int) -> int:
        return self.config.get(name, default)


def parse_rendezvous_endpoint(endpoint: str, default_port: int) -> tuple[str, int]:
    host, _, port = endpoint.partition(":")
    return host, int(port or default_port)


def _matches_machine_hostname(host: str) -> bool:
    return host == "127.0.0.1"


def create_tcp_store(params: Params) -> str:
    return "a store"


@pytest.mark.parametrize("config", [{}, {"is_host": True}])
def test_a_dynamic_rendezvous_is_checked_before_its_store(stub: Stub, group: Group, config: dict[str, Any]) -> None:
    cover = guarded_c10d(create_tcp_store)
    group.start(1, hello_of(1, OLD, method="c10d", job="a job"))
    with pytest.raises(ProtocolVersionError, match="agent 1: torch 2.1.2 on node1"):
        cover(Params(group.port, **config))
    assert cover(Params(group.port, least=1)) == "a store"


def test_an_agent_announces_its_release_before_it_starts_workers(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD_AGENT", "")
    seen: list[str] = []

    class Agents:
        @property
        def spec(self) -> Any:
            return self

        rdzv_handler = spec

        def get_run_id(self) -> str:
            return "a job"

    announcing(lambda _self, _group: seen.append(os.environ["TORCHSKEW_GUARD_AGENT"]))(None, Agents())
    announcing(lambda _self, _group: seen.append(""))(None, None)  # a rendezvous of the user's own
    assert seen == ["2.6.0+cpu a job", ""]


def test_off_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "off")
    assert agents.check_agents(lambda: pytest.fail("asked")) == 0.0
