"""Rank 0 collects hellos on a port that takes bytes from anyone."""

from __future__ import annotations

import json
import os
import socket
import struct
import time

import pytest
from torchskew.guard.host import Host
from torchskew.guard.wire import HELLO, NONCE, frame

from tests.guard.ranks import PATIENCE, Group, connect, greeted, hello_of

SLOW = pytest.mark.slow


@SLOW
def test_a_late_rank_is_waited_for_until_the_deadline_and_then_only_missing(group: Group) -> None:
    group.seconds = 0.8
    began = time.monotonic()
    group.start(0, hello_of(0))
    error = group.join()[0]
    assert (error.kind, group.ended[0] >= began + 0.8) == ("missing", True)
    assert "rank 1 never said hello" in str(error)
    assert "stock" not in str(error)


@SLOW
@pytest.mark.parametrize(
    ("first", "release"),
    [("030500000000000000696e69742f0100000000000000", "1.9 to 2.1"), ("00cef7853c0d7f7f0102", "2.5 or later")],
)
@pytest.mark.usefixtures("early")
def test_a_stock_joiner_is_recognised_by_its_bytes_long_before_the_deadline(
    group: Group, first: str, release: str
) -> None:
    group.mode = "strict"
    group.start(0, hello_of(0))
    with connect(group.port) as stock:
        stock.sendall(bytes.fromhex(first))
        error = group.join()[0]
        stock.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):  # held unanswered, and not longer than the host lives
            stock.recv(1)
    assert error.kind == "one-sided"
    assert f"1 of {release}" in str(error)


def test_two_processes_with_one_number_are_refused_without_waiting_for_the_one_that_lacks(group: Group) -> None:
    group.start(0, hello_of(0, world=3))
    group.start(1, hello_of(1, world=3))
    group.start(2, hello_of(1, world=3, pid=999))
    errors = group.join()
    assert [errors[number].kind for number in range(3)] == ["group"] * 3


def test_a_rank_that_connects_again_is_not_taken_for_another(group: Group) -> None:
    group.start(0, hello_of(0, world=3))
    connect(group.port).close()
    lost, nonces = greeted(group.port)
    lost.sendall(frame(b"", nonces, json.dumps({**hello_of(1, world=3), "port": group.port}).encode()))
    group.start(1, hello_of(1, world=3))
    with lost, pytest.raises(ConnectionResetError):  # the newer one counts
        lost.recv(1)
    group.start(2, hello_of(2, world=3))
    assert [type(result) for result in group.join().values()] == [dict] * 3


def _junk(port: int, how: str) -> socket.socket:
    conn = connect(port)
    conn.sendall({
        "http": b"GET / HTTP/1.1\r\n\r\n",
        "half": HELLO[:7],
        "silent": b"",
        "oversize": HELLO + bytes(NONCE) + struct.pack("!I", 2**31) + bytes(3000),
        "garbage": HELLO + bytes(NONCE) + struct.pack("!I", 40) + os.urandom(72),
        "half-store": b"\x00",
    }[how])  # fmt: skip
    return conn


@pytest.mark.parametrize("how", ["http", "half", "silent", "oversize", "garbage", "half-store"])
def test_junk_does_not_disturb_an_honest_handshake(group: Group, how: str) -> None:
    group.start(0, hello_of(0))
    junk = [_junk(group.port, how) for _ in range(20)]
    group.start(1, hello_of(1))
    results = group.join()
    for conn in junk:
        conn.close()
    assert [type(result) for result in results.values()] == [dict, dict]


@SLOW
def test_a_flood_of_a_thousand_connections_neither_stops_the_handshake_nor_is_kept(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "pending_limit", 64)
    kept: set[int] = set()
    expire = Host._expire
    monkeypatch.setattr(Host, "_expire", lambda host: (kept.add(len(host.pending)), expire(host)))
    group.start(0, hello_of(0))
    flood = [connect(group.port) for _ in range(1000)]
    group.start(1, hello_of(1))
    results = group.join()
    for conn in flood:
        conn.close()
    assert [type(result) for result in results.values()] == [dict, dict]
    assert 32 < max(kept) <= 64


@SLOW
def test_slow_and_silent_connections_are_dropped_in_time(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "pending_seconds", 0.2)
    group.start(0, hello_of(0))
    with connect(group.port) as silent:
        silent.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):
            silent.recv(1)
    group.start(1, hello_of(1))
    assert [type(result) for result in group.join().values()] == [dict, dict]


def test_with_a_secret_a_stranger_can_neither_join_nor_have_the_group_refused(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD_SECRET", "ours")
    group.start(0, hello_of(0))
    knock = connect(group.port)
    knock.sendall(bytes.fromhex("030500000000000000696e69742f0100000000000000"))
    conn, nonces = greeted(group.port)
    conn.sendall(frame(b"guessed", nonces, json.dumps({**hello_of(1, "1.7.0"), "port": group.port}).encode()))
    with pytest.raises(ConnectionResetError):
        conn.recv(1)
    conn.close()
    group.start(1, hello_of(1))
    results = group.join()
    knock.close()
    assert [type(result) for result in results.values()] == [dict, dict]
