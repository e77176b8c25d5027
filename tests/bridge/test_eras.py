"""Every operation of every era, by constructed bytes."""

from __future__ import annotations

import pytest

from tests.bridge.conftest import MAGIC, NONCE, Bridge, i64, key, keys

ERAS = ["2.1", "2.2", "2.5"]


@pytest.mark.parametrize("era", ERAS)
def test_values_numbers_and_keys(bridge: Bridge, era: str) -> None:
    peer = bridge.peer(era)
    before = int.from_bytes(peer.ask(7, b"", 8), "little")
    peer.set(b"/a", b"xyz")
    assert peer.get(b"/a") == b"xyz"
    assert peer.get(b"/none") == b""
    assert peer.ask(4, key(b"/n") + i64(5), 8) == i64(5)
    assert peer.ask(4, key(b"/n") + i64(-7), 8) == i64(-2)
    assert peer.get(b"/n") == b"-2"
    assert peer.ask(7, b"", 8) == i64(before + 2)
    assert peer.ask(5, keys(b"/a", b"/n"), 1) == b"\0"
    assert peer.ask(5, keys(b"/a", b"/z"), 1) == b"\1"
    assert peer.ask(8, key(b"/a"), 8) == i64(1)
    assert peer.ask(8, key(b"/a"), 8) == i64(0)


@pytest.mark.parametrize("era", ERAS)
def test_compare_set_answers_as_stock_stores_do(bridge: Bridge, era: str) -> None:
    peer = bridge.peer(era)
    assert peer.ask(2, key(b"/c") + key(b"x") + key(b"y"), 9) == key(b"x")  # not there: the expected value comes back
    assert peer.ask(2, key(b"/c") + key(b"") + key(b"y"), 9) == key(b"y")
    assert peer.ask(2, key(b"/c") + key(b"n") + key(b"z"), 9) == key(b"y")
    assert peer.ask(2, key(b"/c") + key(b"y") + key(b"z"), 9) == key(b"z")


@pytest.mark.parametrize("era", ERAS)
def test_append_and_several_keys_in_one_message(bridge: Bridge, era: str) -> None:
    peer = bridge.peer(era)
    peer.tell(9, key(b"/a") + key(b"12"))
    peer.tell(9, key(b"/a") + key(b"3"))
    assert peer.get(b"/a") == b"123"
    peer.tell(11, (2).to_bytes(8, "little") + key(b"/p") + key(b"P") + key(b"/q") + key(b"Q"))
    assert peer.ask(10, keys(b"/p", b"/none", b"/q"), 26) == key(b"P") + key(b"") + key(b"Q")


@pytest.mark.parametrize("waits", ERAS)
@pytest.mark.parametrize("sets", ERAS)
def test_a_wait_ends_when_the_last_key_is_set_in_any_era(bridge: Bridge, waits: str, sets: str) -> None:
    waiting, setting = bridge.peer(waits), bridge.peer(sets)
    waiting.tell(6, keys(b"/a", b"/b"))
    setting.set(b"/a", b"1")
    assert waiting.silent()
    setting.set(b"/b", b"1")
    assert waiting.receive(1) == b"\0"
    assert waiting.ask(6, keys(b"/a"), 1) == b"\0"


@pytest.mark.parametrize("era", ERAS)
def test_a_cancelled_wait_is_answered_once(bridge: Bridge, era: str) -> None:
    peer, other = bridge.peer(era), bridge.peer("2.5")
    peer.tell(6, keys(b"/late"))
    assert peer.ask(12, b"", 1) == b"\1"
    other.set(b"/late", b"1")
    assert peer.silent()
    assert bridge.server.store.waiting == {}


def test_queues_wake_one_client_for_each_value(bridge: Bridge) -> None:
    first, second, pushes = bridge.peer("2.5"), bridge.peer("2.5"), bridge.peer("2.5")
    assert first.ask(15, key(b"/q"), 8) == i64(0)
    first.tell(6, keys(b"/q"))
    assert first.silent()
    second.tell(6, keys(b"/q"))
    pushes.tell(14, key(b"/q") + key(b"v"))
    assert first.receive(1) == b"\0"
    assert second.silent()
    assert pushes.ask(16, key(b"/q"), 8) == i64(1)
    assert pushes.ask(5, keys(b"/q"), 1) == b"\0"
    assert first.ask(15, key(b"/q"), 17) == i64(1) + key(b"v")
    assert pushes.ask(17, b"", 8) == i64(0)  # a queue is no key


def test_a_barrier_lets_everyone_go_at_its_count_and_latecomers_at_once(bridge: Bridge) -> None:
    first, second = bridge.peer("2.5"), bridge.peer("2.5")
    first.tell(18, key(b"/bar") + i64(2))
    assert first.silent()
    assert second.ask(18, key(b"/bar") + i64(2), 1) == b"\0"
    assert first.receive(1) == b"\0"
    assert first.ask(18, key(b"/bar") + i64(2), 1) == b"\0"
    assert first.ask(17, b"", 20) == i64(1) + key(b"/bar")
    first.tell(18, key(b"/other") + i64(9))
    assert first.ask(12, b"", 1) == b"\1"
    assert bridge.server.store.barriers == {}


def test_2_0_deletes_with_the_number_with_which_2_1_appends(bridge: Bridge) -> None:
    peer = bridge.peer("2.0")
    peer.set(b"/a", b"1")
    assert peer.asks(b"\x08" + key(b"/a"), 8) == i64(1)
    assert peer.asks(b"\x08" + key(b"/a"), 8) == i64(0)
    assert peer.get(b"/a") == b""


def test_a_watcher_of_2_0_hears_every_change(bridge: Bridge) -> None:
    watcher, peer = bridge.raw(b"\x07" + key(b"/w")), bridge.peer("2.5")
    with watcher:
        assert watcher.recv(1) == b"\3"
        peer.set(b"/w", b"1")
        assert watcher.recv(99) == b"\1" + key(b"/w") + key(b"") + key(b"1")
        peer.set(b"/w", b"2")
        assert watcher.recv(99) == b"\0" + key(b"/w") + key(b"1") + key(b"2")
        peer.ask(8, key(b"/w"), 8)
        assert watcher.recv(99) == b"\2" + key(b"/w") + key(b"2") + key(b"")


def test_the_prefix_of_torchruns_attempt_is_taken_off(bridge: Bridge) -> None:
    old, new = bridge.peer("2.2"), bridge.peer("2.5")
    old.set(b"//worker/attempt_3/default_pg/0", b"1")
    assert new.get(b"/default_pg/0") == b"1"
    old.set(b"//worker/attempt_4/default_pg/0", b"2")  # another attempt stays apart
    assert new.get(b"/default_pg/0") == b"1"


def test_each_connection_is_one_line_with_its_era(bridge: Bridge) -> None:
    for era in ERAS:
        bridge.peer(era).get(b"/x")
    spoken = [line.partition("speaks ")[2] for line in bridge.log.written]
    assert spoken == ["2.1 or older", "2.2 to 2.4", "2.5 or later"]


def test_the_probe_of_an_older_release_gets_what_it_knows(bridge: Bridge) -> None:
    with bridge.raw(b"\x06") as conn:
        assert len(conn.recv(8)) == 8
    with bridge.raw(MAGIC + b"\x07" * 4) as conn:
        assert len(conn.recv(32)) == 32
        conn.sendall(b"\x0d" + NONCE)
        assert conn.recv(9) == b""  # 2.2 to 2.4 have no PING
