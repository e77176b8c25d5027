"""Junk, half messages, floods: no client stops another."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bridge.conftest import MAGIC, NONCE, Bridge, key, keys

HUGE = (1 << 62).to_bytes(8, "little")
OPENINGS = {"2.1": b"", "2.2": MAGIC, "2.5": MAGIC + b"\x0d" + NONCE}


@pytest.mark.parametrize(
    "junk", [b"\xff", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\0", b"\x01" + HUGE, MAGIC + b"\x01" + HUGE, MAGIC + b"\x63"]
)
def test_junk_is_closed_at_once(bridge: Bridge, junk: bytes) -> None:
    with bridge.raw(junk) as conn, contextlib.suppress(ConnectionResetError):
        assert conn.recv(1) == b""


@pytest.mark.parametrize("half", [b"", b"\0", b"\x03\x05", MAGIC, MAGIC + b"\x01\x05\0\0"])
def test_half_a_message_stops_nobody(bridge: Bridge, half: bytes) -> None:
    with bridge.raw(half):
        peer = bridge.peer("2.5")
        peer.set(b"/a", b"1")
        assert peer.get(b"/a") == b"1"


def test_silent_connections_make_room_when_the_cap_is_reached(bridge: Bridge) -> None:
    idle = [bridge.raw(b"") for _ in range(30)]
    peer = bridge.peer("2.5")
    assert peer.get(b"/x") == b""
    assert len(bridge.server.connections) <= 20
    for each in idle:
        each.close()


def test_a_full_store_closes_only_who_fills_it(bridge: Bridge) -> None:
    honest, greedy = bridge.peer("2.5"), bridge.peer("2.5")
    with pytest.raises(ConnectionError):  # noqa: PT012 - which of the sets fails is open
        for number in range(40):
            greedy.set(b"/%d" % number, bytes(1 << 16))
    assert honest.get(b"/x") == b""


def test_a_number_that_is_none_closes_only_its_client(bridge: Bridge) -> None:
    honest, other = bridge.peer("2.5"), bridge.peer("2.2")
    honest.set(b"/t", b"text")
    with pytest.raises(ConnectionError):
        other.ask(4, key(b"/t") + bytes(8), 8)
    assert honest.get(b"/t") == b"text"


def test_who_leaves_while_waiting_leaves_nothing(bridge: Bridge) -> None:
    honest, leaves = bridge.peer("2.5"), bridge.peer("2.5")
    leaves.tell(6, keys(b"/a", b"/b"))
    assert leaves.silent()
    leaves.conn.close()
    honest.get(b"/x")
    honest.set(b"/a", b"1")
    honest.set(b"/b", b"1")
    assert bridge.server.store.waiting == {}


@pytest.mark.slow
@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_no_bytes_crash_the_bridge_or_harm_an_honest_client(bridge: Bridge, opening: bytes) -> None:
    honest = bridge.peer("2.5")
    part = st.one_of(
        st.binary(max_size=20),
        st.integers(0, 20).map(lambda number: bytes([number])),
        st.binary(max_size=9).map(key),
        st.integers(0, 3).map(lambda number: number.to_bytes(8, "little")),
    )

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(part, max_size=12).map(b"".join))
    def fuzz(data: bytes) -> None:
        with bridge.raw(opening + data):
            honest.set(b"/honest/key", data[:50])
            assert honest.get(b"/honest/key") == data[:50]

    fuzz()
    assert bridge.thread.is_alive()
