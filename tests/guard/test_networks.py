"""Two hosts and a network between them: a mismatch is refused, and no release is blamed for what the network did."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from torchskew.guard import sockets
from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.joiner import Joiner
from torchskew.guard.pace import pace
from torchskew.guard.place import Place
from torchskew.guard.sockets import connect

from tests.guard.networks import BAD, GOOD, missing, network
from tests.guard.ranks import FAR, PATIENCE, hello_of

hosts = pytest.mark.slow
MATCH, MISMATCH = ("2.6.0", "2.13.0", "2.13.0"), ("2.2.2", "2.1.2", "2.1.2")


@pytest.fixture
def permitted() -> None:
    reason = missing()
    if reason and os.environ.get("CI") and os.geteuid() == 0 and "not permitted" not in reason:
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@hosts
@pytest.mark.parametrize("name", GOOD)
def test_ranks_on_two_hosts_form_or_are_refused_by_their_releases_alone(name: str, permitted: None) -> None:
    """Nobody waits for the deadline, which is FAR."""
    with network(name) as (made, where):
        assert {each.what for each in made.group(MATCH, where).values()} == {"formed"}
        refused = made.group(MISMATCH, where)
    assert sorted(refused) == [0, 1, 2]
    for each in refused.values():
        assert each.what == "version"
        assert "rank 0: torch 2.2.2 on node0" in each.text
        assert "ranks 1-2: torch 2.1.2 on node" in each.text


@hosts
@pytest.mark.parametrize("name", BAD)
def test_a_fault_of_the_network_is_no_releases_fault(name: str, permitted: None) -> None:
    with network(name) as (made, where):
        ended = made.group(MISMATCH, where, seconds=2.0)
    assert {each.what for each in ended.values()} == {"missing"}
    assert not [each.text for each in ended.values() if "era differs" in each.text or "Incompatible" in each.text]
    assert "ranks 1-2 never said hello" in ended[0].text
    assert "2.1.2" not in ended[0].text
    assert "rank 0 never answered" in ended[1].text
    assert "2.2.2" not in ended[1].text
    reasons = {"unresolved": "the name rank0.test does not resolve on this rank", "wrong_interface": "No route to host"}
    assert reasons.get(name, "no guard answered") in ended[1].text


@pytest.mark.slow
def test_a_name_that_does_not_resolve_is_said_once_and_soon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    place = Place("tcp", "rank0.test", 29500, "", 1, 2)
    with pytest.raises((ProtocolVersionError, Unverified), match="the name rank0.test does not resolve on this rank"):
        Joiner(place, {**hello_of(1), "port": 29500}, b"").ask(pace(1.6))
    said = capsys.readouterr().err
    assert said.count("torchskew guard, rank 1: the name rank0.test does not resolve on this rank") == 1


@contextlib.contextmanager
def dead() -> Iterator[int]:
    """A port of this machine to which nothing answers: its queue is full, so the kernel drops what more comes."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            conn = stack.enter_context(socket.socket())
            conn.setblocking(False)
            conn.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def test_a_connection_is_to_the_address_that_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with dead() as port, socket.create_server(("127.0.0.1", 0)) as server:
        ports = port, server.getsockname()[1]
        every = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", each)) for each in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: list(every))
        reached: list[object] = []

        def reach() -> None:
            with connect("rank0.test", port, FAR) as conn:
                reached.append(conn.getpeername())

        thread = threading.Thread(target=reach, daemon=True)
        thread.start()
        thread.join(PATIENCE)  # the kernel gives the dead address up after two minutes
        assert reached == [server.getsockname()]


def test_a_connection_that_nobody_takes_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect("127.0.0.1", port, 600.0)


def test_an_address_is_tried_again_only_while_none_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    begin = sockets._begin_to_connect
    monkeypatch.setattr(sockets, "_begin_to_connect", lambda *args: (begun.append(args[1]), begin(*args))[1])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect("127.0.0.1", port, 600.0)
    assert len(begun) == 1
    with dead() as silent, pytest.raises(TimeoutError):
        connect("127.0.0.1", silent, 0.4)
    assert len(begun) == 3
