"""Gloo's addresses between 2.1 and 2.2, in constructed bytes."""

from __future__ import annotations

import struct

import pytest
from torchskew.bridge import gloo

from tests.bridge.conftest import Bridge, keys


def ids(rank: int, world: int) -> list[bytes]:
    return [struct.pack("<q", 0 if peer == rank else 100 * rank + peer) for peer in range(world)]


def record(rank: int, world: int) -> bytes:
    address = bytes([rank + 1]) * 128 + ids(rank, world)[1 if rank == 0 else 0]
    return struct.pack("<Q", 4) + b"host" + struct.pack("<Q", 136) + address + b"".join(ids(rank, world))


def addresses(rank: int, world: int) -> bytes:
    return b"".join(bytes([rank + 1]) * 128 + each for peer, each in enumerate(ids(rank, world)) if peer != rank)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_each_form_becomes_the_other(world: int) -> None:
    for rank in range(world):
        key = b"/pg/0//cpu//0/%d" % rank
        assert gloo.as_2_1(key, record(rank, world)) == addresses(rank, world)
        assert gloo.as_2_2(key, addresses(rank, world), b"host") == record(rank, world)


def test_any_other_value_stays_as_it_is() -> None:
    for value in (b"", b"x" * 136, b"\xff" * 400, record(0, 2)[:-1]):
        assert gloo.as_2_1(b"/a/0", value) == value
    assert gloo.as_2_1(b"/a/name", record(0, 2)) == record(0, 2)
    assert gloo.as_2_2(b"/a/0", addresses(0, 2), None) == addresses(0, 2)
    assert gloo.as_2_2(b"/a/0", b"x" * 137, b"host") == b"x" * 137


def test_every_reader_gets_its_own_form_from_the_bridge(bridge: Bridge) -> None:
    old, new = bridge.peer("2.1"), bridge.peer("2.2")
    old.tell(6, keys(b"/g/rank_1"))
    new.set(b"/g/1", record(1, 2))
    assert old.receive(1) == b"\0"  # the host name that 2.1 waits for was left
    assert old.get(b"/g/rank_1") == b"host"
    assert old.get(b"/g/1") == addresses(1, 2)
    assert new.get(b"/g/1") == record(1, 2)
    old.set(b"/g/rank_0", b"host")
    old.set(b"/g/0", addresses(0, 2))
    assert new.get(b"/g/0") == record(0, 2)
    assert old.get(b"/g/0") == addresses(0, 2)
