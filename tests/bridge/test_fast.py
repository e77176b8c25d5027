"""Whole messages are read by the fast parsers, parts of them by the reader: both must come to the same."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from random import Random

import pytest
from torchskew.bridge.attempts import Attempts
from torchskew.bridge.connection import Connection
from torchskew.bridge.eras import FIELDS, OPCODES, Era, Field
from torchskew.bridge.fast import FAST
from torchskew.bridge.limits import Limits
from torchskew.bridge.reader import JunkError, Reader
from torchskew.bridge.state import Store

from tests.bridge import fuzz
from tests.bridge.conftest import MAGIC, key

COUNT_KEYS = 7
Make = Callable[[Era, Random], bytes]
LIMITS = Limits(key=1 << 10, value=1 << 16, keys=100)


def talk(parts: list[bytes]) -> tuple[bytes, dict[bytes, bytes], int, str]:
    """What a connection answers, what its store holds then, how many messages it took, and what it called junk."""
    ours, theirs = socket.socketpair()
    store, junk = Store(1 << 20), ""
    with ours, theirs:
        connection = Connection(theirs, "peer", store, Attempts())
        connection.limits = connection.reader.limits = LIMITS
        try:
            for part in parts:
                ours.sendall(part)
                connection.receive()
        except JunkError as problem:
            junk = str(problem)
        return bytes(connection.unsent), store.values, connection.messages, junk


def messages(era: Era, rng: Random) -> bytes:
    """Thirty whole messages of the operations that are read fast, and some others between them."""
    data, fast = b"", FAST[era]
    for number in rng.choices([*fast, *fast, *fast, COUNT_KEYS], k=30):
        data += bytes([number])
        for field in FIELDS[OPCODES[era][number]]:
            several = field is Field.KEYS
            data += struct.pack("<Q", 1) + key(rng.choice(fuzz.NAMES[:6])) if several else sound(field, rng)
    return data


def sound(field: Field, rng: Random) -> bytes:
    """A part that breaks no cap, and a value that is a number."""
    if field is Field.VALUE:
        return key(b"%d" % rng.randrange(10**6))
    return key(rng.choice(fuzz.NAMES[:6])) if field is Field.KEY else fuzz.field(field, rng)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("era", [Era.VALIDATING, Era.PINGING])
@pytest.mark.parametrize("make", [messages, lambda era, rng: fuzz.conversation(era, rng)[10:]], ids=["sound", "any"])
def test_a_conversation_byte_by_byte_is_answered_as_one_in_one_piece(make: Make, era: Era, seed: int) -> None:
    opening = MAGIC if era is Era.VALIDATING else fuzz.OPENINGS[era]
    rest = b"\x07" + make(era, Random(seed))
    single = [rest[at : at + 1] for at in range(len(rest))]  # no part is a whole message: all of them take the slow way
    assert talk([opening, rest[:1], rest[1:]] if rest[1:] else [opening, rest]) == talk([opening, *single])


def test_whole_messages_never_reach_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(reader: Reader, field: object) -> None:
        raise AssertionError(f"the reader was asked for {field} with {reader.left()} bytes")

    several = struct.pack("<Q", 1) + key(b"/a")
    whole = b"\x01" + key(b"/a") + key(b"1"), b"\x03" + key(b"/a"), b"\x05" + several, b"\x06" + several
    monkeypatch.setattr(Reader, "field", never)
    answers, values, messages, _ = talk([MAGIC + b"\x07", b"".join(whole)])
    assert (answers[8:], values, messages) == (key(b"1") + b"\0\0", {b"/a": b"1"}, 5)


@pytest.mark.parametrize("cap", [b"\x03" + key(b"k" * 1025), b"\x01" + key(b"k") + key(bytes((1 << 16) + 1))])
def test_a_cap_holds_for_whole_messages(cap: bytes) -> None:
    assert "at most" in talk([MAGIC + b"\x07", cap])[3]


def test_each_era_with_values_reads_them_fast() -> None:
    eras = {Era.OLDEST, Era.OLD, Era.V2_1, Era.VALIDATING, Era.PINGING}
    assert {era for era, parsers in FAST.items() if len(parsers) == 5} == eras
