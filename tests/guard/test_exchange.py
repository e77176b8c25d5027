"""All ranks of a group get the same roster, or the same refusal, over real sockets."""

from __future__ import annotations

import socket
import threading

import pytest
from torchskew.guard import exchange, joiner
from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.sockets import reset

from tests.guard.ranks import Group, hello_of

SLOW = pytest.mark.slow


def test_every_rank_gets_the_same_table_and_the_store_gets_the_port(group: Group) -> None:
    for rank in range(3):
        group.start(rank, hello_of(rank, "2.6.0" if rank else "2.13.0", world=3))
    tables = list(group.join().values())
    assert len(tables) == 3
    assert all(table == tables[0] for table in tables)


@pytest.mark.parametrize("odd", range(3))
def test_one_odd_rank_at_any_position_is_refused_on_every_rank(group: Group, odd: int) -> None:
    for rank in range(3):
        group.start(rank, hello_of(rank, "2.1.2" if rank == odd else "2.2.2", world=3))
    errors = group.join()
    assert [type(errors[rank]) for rank in range(3)] == [ProtocolVersionError] * 3
    assert all("2.1.2" in str(error) and "2.2.2" in str(error) for error in errors.values())


def test_with_the_check_removed_the_mismatch_goes_through(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative proof: nothing but decide() refuses."""
    for module in (exchange, joiner):
        monkeypatch.setattr(module, "decide", lambda roster: [])
    for rank, name in enumerate(("2.1.2", "2.2.2")):
        group.start(rank, hello_of(rank, name))
    assert [type(result) for result in group.join().values()] == [dict, dict]


@SLOW
def test_one_rank_without_the_guard_leaves_the_others_no_table(group: Group) -> None:
    """Negative proof: who says no hello is missed."""
    group.seconds = 1.0
    group.start(0, hello_of(0, world=3))
    group.start(1, hello_of(1, world=3))
    errors = group.join()
    assert [errors[rank].kind for rank in (0, 1)] == ["missing", "missing"]
    assert "rank 2 never said hello" in str(errors[1])


def test_a_second_exchange_on_the_same_port_starts_afresh(group: Group) -> None:
    for _ in range(3):
        for rank in range(2):
            group.start(rank, hello_of(rank))
        assert [type(result) for result in group.join().values()] == [dict, dict]
        group.results.clear()


def test_where_the_first_port_is_taken_the_second_carries_the_hello(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other, socket.socket() as agent:
        other.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TORCHSKEW_GUARD_PORT", str(other.getsockname()[1]))
        other.close()
        agent.bind(("0.0.0.0", group.port))
        agent.listen()
        threading.Thread(target=_closing, args=(agent,), daemon=True).start()
        for rank, name in enumerate(("2.1.2", "2.2.2")):
            group.start(rank, hello_of(rank, name))
        errors = group.join()
        assert [errors[rank].kind for rank in range(2)] == ["version", "version"]
        agent.shutdown(socket.SHUT_RDWR)


def _closing(server: socket.socket) -> None:
    """Resets every client, as a legacy store does with bytes it doesn't know."""
    try:
        while True:
            conn = server.accept()[0]
            conn.recv(100)
            reset(conn)
    except OSError:
        return


def test_hellos_travel_over_ipv6_too(group: Group) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    group.host = "::1"
    for rank, name in enumerate(("2.1.2", "2.2.2")):
        group.start(rank, hello_of(rank, name))
    assert [error.kind for error in group.join().values()] == ["version", "version"]
