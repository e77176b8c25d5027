"""What each era of clients sends: its opening bytes, its operations by number, and what follows each opcode."""

from __future__ import annotations

import enum
from typing import Dict, Tuple

MAGIC = b"\xce\xf7\x85\x3c"
STATUS = b"\x81torchskew bridge status\n"  # asks for a page; no client of any era begins with its first byte
VALIDATE = 0  # the first byte of every client since 2.2, followed by MAGIC


class Era(enum.Enum):
    """Which releases speak like this connection."""

    UNKNOWN = "not known yet"
    STATUS = "torchskew bridge --status"
    WATCHER = "1.9 to 2.0, a connection for watched keys"
    OLDEST = "1.9 to 2.0"
    OLD = "2.1 or older"
    V2_1 = "2.1"
    VALIDATING = "2.2 to 2.4"
    PINGING = "2.5 or later"


BEFORE_2_2 = frozenset({Era.OLDEST, Era.OLD, Era.V2_1})


class Operation(enum.Enum):
    """What a client can ask for, whatever the number it sends."""

    __hash__ = object.__hash__  # Enum's own is Python, called several times a message

    SET = enum.auto()
    COMPARE_SET = enum.auto()
    GET = enum.auto()
    ADD = enum.auto()
    CHECK = enum.auto()
    WAIT = enum.auto()
    COUNT_KEYS = enum.auto()
    WATCH = enum.auto()
    DELETE = enum.auto()
    APPEND = enum.auto()
    APPEND_OR_DELETE = enum.auto()
    MULTI_GET = enum.auto()
    MULTI_SET = enum.auto()
    CANCEL_WAIT = enum.auto()
    PING = enum.auto()
    QUEUE_PUSH = enum.auto()
    QUEUE_POP = enum.auto()
    QUEUE_LENGTH = enum.auto()
    LIST_KEYS = enum.auto()
    BARRIER = enum.auto()


class Field(enum.Enum):
    """One part of a message after its opcode."""

    KEY = enum.auto()  # u64 length and bytes
    VALUE = enum.auto()  # the same, with a higher cap
    INTEGER = enum.auto()  # i64
    NONCE = enum.auto()  # four bytes
    KEYS = enum.auto()  # u64 count, then as many keys
    PAIRS = enum.auto()  # u64 count, then as many keys and values


_KEY = (Field.KEY,)
FIELDS: Dict[Operation, Tuple[Field, ...]] = {
    Operation.SET: (Field.KEY, Field.VALUE),
    Operation.COMPARE_SET: (Field.KEY, Field.VALUE, Field.VALUE),
    Operation.GET: _KEY,
    Operation.ADD: (Field.KEY, Field.INTEGER),
    Operation.CHECK: (Field.KEYS,),
    Operation.WAIT: (Field.KEYS,),
    Operation.COUNT_KEYS: (),
    Operation.WATCH: _KEY,
    Operation.DELETE: _KEY,
    Operation.APPEND: (Field.KEY, Field.VALUE),
    Operation.APPEND_OR_DELETE: _KEY,
    Operation.MULTI_GET: (Field.KEYS,),
    Operation.MULTI_SET: (Field.PAIRS,),
    Operation.CANCEL_WAIT: (),
    Operation.PING: (Field.NONCE,),
    Operation.QUEUE_PUSH: (Field.KEY, Field.VALUE),
    Operation.QUEUE_POP: _KEY,
    Operation.QUEUE_LENGTH: _KEY,
    Operation.LIST_KEYS: (),
    Operation.BARRIER: (Field.KEY, Field.INTEGER),
}

_O = Operation
_FIRST = (_O.SET, _O.COMPARE_SET, _O.GET, _O.ADD, _O.CHECK, _O.WAIT, _O.COUNT_KEYS)
_MULTI = (_O.MULTI_GET, _O.MULTI_SET, _O.CANCEL_WAIT)
# 2.0 and 2.1 begin alike; opcode 8 deletes up to 2.0 and appends in 2.1, so connection.py has to find out.
_OLD = dict(enumerate((*_FIRST, _O.DELETE, _O.APPEND_OR_DELETE, *_MULTI)))
_NEW = dict(enumerate((*_FIRST, _O.DELETE, _O.APPEND, *_MULTI), start=1))
_QUEUES = (_O.QUEUE_PUSH, _O.QUEUE_POP, _O.QUEUE_LENGTH, _O.LIST_KEYS, _O.BARRIER)
OPCODES: Dict[Era, Dict[int, Operation]] = {
    Era.UNKNOWN: {},
    Era.STATUS: {},
    Era.WATCHER: {7: _O.WATCH},
    Era.OLDEST: dict(enumerate((*_FIRST, _O.WATCH, _O.DELETE))),
    Era.OLD: _OLD,
    Era.V2_1: {**_OLD, 8: _O.APPEND},
    Era.VALIDATING: _NEW,
    Era.PINGING: {**_NEW, **dict(enumerate((_O.PING, *_QUEUES), start=13))},
}
# What only 2.1 has among the clients before 2.2.
ONLY_2_1 = frozenset({_O.DELETE, _O.MULTI_GET, _O.MULTI_SET, _O.CANCEL_WAIT})


def era_of_first_byte(byte: int) -> Era:
    """The era of a client that doesn't validate; UNKNOWN for junk."""
    if byte == 7:
        return Era.WATCHER
    return Era.OLD if 1 <= byte <= 11 else Era.UNKNOWN
