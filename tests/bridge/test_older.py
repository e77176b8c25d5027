"""Ranks up to 2.0 beside later ones: each gets an address of the relay, which adds or takes what the other lacks."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from torchskew.bridge import gloo
from torchskew.bridge.older import BARRIER, SEQUENCE, UNSET
from torchskew.bridge.relay import blob_of, order_of, place_of

from tests.bridge.conftest import Bridge, Peer, i64, key, keys
from tests.patience import PATIENCE

GROUP = b"/default_pg/0//cpu//0/"
PAIR = struct.pack("<q", 77)  # the id that the later rank gives its pair with the older one
LOW, HIGH = "127.0.0.1", "127.0.0.2"  # gloo compares hosts first, and the relay is at 127.0.0.1


class Rank:
    """A rank's gloo: its listening socket, its client, and the connection that it comes to."""

    def __init__(self, bridge: Bridge, number: int, era: str, host: str) -> None:
        self.number, self.later = number, era not in ("2.0", "2.1")
        self.client: Peer = bridge.peer("2.1" if era == "2.0" else era)
        self.listening = socket.create_server((host, 0))
        self.listening.settimeout(PATIENCE)
        self.address = blob_of(socket.AF_INET, host, self.listening.getsockname()[1])
        self.pair = UNSET if era == "2.0" else PAIR
        self.preamble = era != "2.0"

    def publish(self) -> None:
        """As ranks do; a world of two."""
        if self.later:
            ids = b"".join(bytes(8) if peer == self.number else self.pair for peer in range(2))
            value = key(b"host") + key(self.address + self.pair) + ids
        else:
            self.client.set(GROUP + b"rank_%d" % self.number, b"host")
            value = self.address + self.pair
        self.client.set(GROUP + b"%d" % self.number, value)

    def meet(self, peer: int) -> socket.socket:
        """Connect as gloo does, from the address that it reads."""
        value = self.client.get(GROUP + b"%d" % peer)
        record = gloo.split_record(value)
        assert (record is not None) is self.later
        address = record[1] if record else value
        if order_of(self.address) < order_of(address):
            conn, _ = self.listening.accept()
            conn.settimeout(PATIENCE)
            if self.preamble:
                assert exactly(conn, 8) == self.pair
            return conn
        conn = socket.create_connection(place_of(address), PATIENCE)
        if self.preamble:
            conn.sendall(address[gloo.PLACE : gloo.ADDRESS])
        return conn


def exactly(conn: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := conn.recv(size - len(data))):
        data += more
    return data


@pytest.fixture
def ranks(bridge: Bridge, request: pytest.FixtureRequest) -> Iterator[list[Rank]]:
    made = [Rank(bridge, number, era, host) for number, (era, host) in enumerate(request.param)]
    for rank in made:
        rank.publish()
    yield made
    for rank in made:
        rank.listening.close()


@pytest.mark.parametrize(
    "ranks",
    [
        [(older, first), (later, second)][::order]
        for order in (1, -1)
        for older, first in (("2.0", LOW), ("2.0", HIGH))
        for later, second in (("2.1", LOW), ("2.1", HIGH), ("2.2", LOW), ("2.5", HIGH))
    ],
    indirect=True,
)
def test_a_connection_is_carried_whoever_calls_and_the_preamble_is_the_later_ranks_alone(ranks: list[Rank]) -> None:
    ends = [rank.meet(1 - rank.number) for rank in ranks]
    large = bytes(range(256)) * (1 << 13)
    for here, there in (ends, ends[::-1]):
        here.sendall(b"from one to the other")
        assert exactly(there, 21) == b"from one to the other"
    ends[0].sendall(large[: 1 << 18])
    assert exactly(ends[1], 1 << 18) == large[: 1 << 18]
    ends[0].shutdown(socket.SHUT_WR)
    assert ends[1].recv(1) == b""  # the end of one side is the other's
    ends[1].sendall(b"last words")
    ends[1].close()
    assert exactly(ends[0], 11) == b"last words"
    ends[0].close()


@pytest.mark.parametrize("ranks", [[("2.0", LOW), ("2.0", LOW)], [("2.1", LOW), ("2.2", LOW)]], indirect=True)
def test_ranks_of_one_side_get_each_others_own_addresses(ranks: list[Rank]) -> None:
    for rank, other in (ranks, ranks[::-1]):
        value = rank.client.get(GROUP + b"%d" % other.number)
        assert other.address in value


@pytest.mark.parametrize("ranks", [[("2.2", LOW), ("2.0", LOW)], [("2.0", LOW), ("2.2", LOW)]], indirect=True)
def test_an_older_rank_finds_what_a_later_one_does_not_leave(ranks: list[Rank]) -> None:
    """The sequence number of a later rank 0, and its part of the barrier; an older rank 0 leaves its own."""
    later, older = sorted(ranks, key=lambda rank: not rank.later)
    name = b"/default_pg" + BARRIER + b"1"
    assert older.client.ask(4, key(name) + i64(1), 8) == i64(2)
    assert older.client.ask(4, key(name) + i64(0), 8) == i64(2)
    assert later.client.ask(4, key(name) + i64(0), 8) == i64(1)
    made = older.client.ask(5, keys(GROUP[:-2] + SEQUENCE), 1) == b"\0"
    assert made is (later.number == 0)


@pytest.mark.parametrize("ranks", [[("2.2", LOW), ("2.0", LOW)]], indirect=True)
def test_nothing_is_left_of_ranks_that_have_gone(bridge: Bridge, ranks: list[Rank]) -> None:
    ends = [rank.meet(1 - rank.number) for rank in ranks]
    for end in ends:
        end.close()
    relay, store = bridge.server.store.older.relay, bridge.server.store
    for rank in ranks:
        rank.client.conn.close()
    until = time.monotonic() + PATIENCE
    while (relay.pairs or bridge.server.connections) and time.monotonic() < until:
        time.sleep(0.01)
    assert not relay.pairs
    assert store.size == sum(100 + len(name) + len(value) for name, value in store.values.items())


@pytest.mark.parametrize("ranks", [[("2.2", LOW), ("2.0", LOW)]], indirect=True)
def test_addresses_of_another_kind_stay_as_they_are(bridge: Bridge, ranks: list[Rank]) -> None:
    """What no relay can read: a family that is none, or a rank of the group that is not there."""
    strange = bridge.peer("2.1")
    strange.set(b"/g/0//cpu//0/0", b"\xee" * gloo.PLACE + UNSET)
    ranks[0].client.set(b"/g/0//cpu//0/1", key(b"host") + key(b"\xee" * gloo.PLACE + PAIR) + PAIR * 2)
    assert ranks[0].client.get(b"/g/0//cpu//0/0") == b"\xee" * gloo.PLACE + UNSET
    assert strange.get(b"/g/0//cpu//0/7") == b""


def test_keys_of_1_13_are_those_of_2_0(bridge: Bridge) -> None:
    """Up to 1.13 gloo's keys name no device, and the default group's store has no prefix; later clients stay."""
    older, later = bridge.peer("2.1"), bridge.peer("2.2")
    for name, same in (
        (b"/default_pg/mine/0", b"/default_pg/mine/0"),  # nothing has told the release yet
        (b"/default_pg/0//cpu//0/3", b"/default_pg/0//cpu//0/3"),
        (b"/default_pg/0/0/rank_1", b"/default_pg/0//cpu//0/rank_1"),
        (b"/default_pg/0/SEQ_NUM_STORE_KEY", b"/default_pg/0//cpu//SEQ_NUM_STORE_KEY"),
        (b"/default_pg/7/0/12", b"/default_pg/0//7//cpu//0/12"),
        (b"/default_pg/store_based_barrier_key:1", b"/default_pg/store_based_barrier_key:1"),
        (b"/default_pg/store_based_barrier_key:2", b"/default_pg/0//store_based_barrier_key:2"),
        (b"/default_pg/mine/0", b"/default_pg/0//mine/0"),
        (b"/mine/0/0/1", b"/mine/0/0/1"),
    ):
        older.set(name, b"value of " + name)
        assert later.get(same) == b"value of " + name
        assert older.ask(6, keys(name), 1) == b"\0"
    later.set(b"/default_pg/0/0/5", b"a user's own")
    assert later.get(b"/default_pg/0/0/5") == b"a user's own"


@pytest.mark.parametrize("first", ["1.13", "2.0"])
def test_a_peer_of_2_0_does_not_wait_for_the_number_that_1_13_leaves_after_the_barrier(
    bridge: Bridge, first: str
) -> None:
    """A rank 0 of 2.0 leaves it before the barrier; nobody else may, or the two would count from different numbers."""
    clients = [bridge.peer("2.1"), bridge.peer("2.1")]
    for number, (client, release) in enumerate(zip(clients, (first, "2.0"), strict=True)):
        group = b"/default_pg/0/0/" if release == "1.13" else GROUP
        client.set(group + b"rank_%d" % number, b"host")
        client.set(group + b"%d" % number, blob_of(socket.AF_INET, LOW, 1) + UNSET)
    there = clients[1].ask(5, keys(GROUP[:-2] + SEQUENCE), 1) == b"\0"
    assert there is (first == "1.13")


@pytest.mark.parametrize("ranks", [[("2.2", LOW), ("2.0", LOW)]], indirect=True)
def test_a_bridge_that_gets_no_thread_serves_on_and_leaves_addresses_as_they_are(
    bridge: Bridge, ranks: list[Rank], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as poor:
        poor.setattr(threading.Thread, "start", no_thread)
        value = ranks[0].client.get(GROUP + b"1")
        assert gloo.split_record(value) is not None
        assert ranks[1].address in value
    ends = [rank.meet(1 - rank.number) for rank in ranks]  # with threads again, as ever
    ends[0].sendall(b"hello")
    assert exactly(ends[1], 5) == b"hello"
    for end in ends:
        end.close()


@pytest.mark.parametrize("ranks", [[("2.0", LOW), ("2.2", HIGH)]], indirect=True)
def test_a_rank_that_is_gone_when_it_is_called_ends_the_pair(bridge: Bridge, ranks: list[Rank]) -> None:
    """Its address comes before every one that the relay can have, so it waits to be called."""
    older, later = ranks
    older.address = blob_of(
        socket.AF_INET, LOW, 256
    )  # nothing listens there; as gloo compares ports, this is the first
    older.publish()
    relay = bridge.server.store.older.relay
    with contextlib.suppress(ConnectionError), later.meet(0) as end:
        assert later.address not in older.client.get(GROUP + b"1")
        while end.recv(1):
            pass
    older.client.get(GROUP + b"1")
    until = time.monotonic() + PATIENCE
    while any(all(ends) for ends in list(relay.pairs.values())) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(all(ends) for ends in relay.pairs.values())
