"""Reads messages out of the bytes of a connection, resuming where they ended, so that no byte is parsed twice."""

from __future__ import annotations

import struct
from typing import Any, Dict, Generator, List, Tuple

from torchskew.bridge.eras import FIELDS, Era, Field, Operation
from torchskew.bridge.limits import Limits

LENGTH = struct.Struct("<Q")
INTEGER = struct.Struct("<q")
Parsing = Generator[None, None, Any]  # yields when it needs more bytes


class JunkError(Exception):
    """Bytes that no client of any era sends, or more than a cap allows."""


class Reader:
    """The bytes received and not yet understood."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.buffer = bytearray()
        self.position = 0
        self.between = False  # whether what comes next is the first byte of a message

    def left(self) -> int:
        """How many bytes are there."""
        return len(self.buffer) - self.position

    def drop_read(self) -> None:
        """Free what was understood."""
        if self.position:
            del self.buffer[: self.position]
            self.position = 0

    def exactly(self, size: int) -> Parsing:
        """The next bytes."""
        while len(self.buffer) - self.position < size:
            yield
        start = self.position
        self.position = start + size
        return bytes(self.buffer[start : self.position])

    def byte(self) -> Parsing:
        """The next byte as a number."""
        while len(self.buffer) == self.position:
            yield
        self.position += 1
        return self.buffer[self.position - 1]

    def counted(self, most: int) -> Parsing:
        """Bytes after their length."""
        (size,) = LENGTH.unpack((yield from self.exactly(8)))
        if size > most:
            raise JunkError(f"a length of {size:,} bytes; at most {most:,} are taken")
        return (yield from self.exactly(size))

    def field(self, field: Field) -> Parsing:
        """One part of a message."""
        if field is Field.KEY:
            return (yield from self.counted(self.limits.key))
        if field is Field.VALUE:
            return (yield from self.counted(self.limits.value))
        if field is Field.INTEGER:
            return INTEGER.unpack((yield from self.exactly(8)))[0]
        if field is Field.NONCE:
            return (yield from self.exactly(4))
        return (yield from self.several(pairs=field is Field.PAIRS))

    def several(self, *, pairs: bool) -> Parsing:
        """Keys, or keys with values, after their count."""
        (count,) = LENGTH.unpack((yield from self.exactly(8)))
        if count > self.limits.keys:
            raise JunkError(f"{count:,} keys in one message; at most {self.limits.keys:,} are taken")
        parts: List[Any] = []
        size = 0
        for _ in range(count):
            key = yield from self.counted(self.limits.key)
            value = (yield from self.counted(self.limits.value)) if pairs else b""
            size += len(key) + len(value)
            if size > self.limits.value:
                raise JunkError(f"a message of more than {self.limits.value:,} bytes")
            parts.append((key, value) if pairs else key)
        return parts

    def message(self, opcodes: Dict[int, Operation], era: Era) -> Generator[None, None, Tuple[Operation, List[Any]]]:
        """The next operation and its arguments."""
        self.between = True
        number = yield from self.byte()
        self.between = False
        if number not in opcodes:
            raise JunkError(f"operation {number}, which clients of {era.value} don't have")
        operation = opcodes[number]
        arguments = []
        for field in FIELDS[operation]:
            arguments.append((yield from self.field(field)))  # noqa: PERF401 - a comprehension can't yield
        return operation, arguments
