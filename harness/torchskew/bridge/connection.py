"""One client: from its first bytes to its era, from its messages to answers, with bounded buffers."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, Callable, Generator, List, Optional

from torchskew.bridge.attempts import Attempts
from torchskew.bridge.eras import (
    BEFORE_2_2,
    MAGIC,
    ONLY_2_1,
    OPCODES,
    STATUS,
    VALIDATE,
    Era,
    Field,
    Operation,
    era_of_first_byte,
)
from torchskew.bridge.eras import FIELDS as FIELDS_OF
from torchskew.bridge.fast import FAST
from torchskew.bridge.limits import Limits
from torchskew.bridge.older import as_since_2_0
from torchskew.bridge.operations import HANDLERS
from torchskew.bridge.reader import JunkError, Parsing, Reader
from torchskew.bridge.state import Client, Store

CHUNK = 1 << 18
SMALL = 1 << 13  # read at first: room for a whole chunk costs more than most messages take
GRACE = 0.2  # seconds that the value of 2.1's APPEND has to follow its key, before opcode 8 counts as 2.0's DELETE
_ONE_KEY = frozenset(operation for operation, fields in FIELDS_OF.items() if fields[:1] == (Field.KEY,))
_MANY_KEYS = frozenset(operation for operation, fields in FIELDS_OF.items() if fields[:1] != (Field.KEY,) and fields)
_WAITS = (Operation.WAIT, Operation.CHECK)


class Connection(Client):
    """Bytes in, answers out; it never blocks, and what it holds is counted against the store's memory."""

    def __init__(self, conn: socket.socket, peer: str, store: Store, attempts: Attempts) -> None:
        super().__init__()
        self.conn, self.peer = conn, peer
        self.store, self.attempts = store, attempts
        self.era = Era.UNKNOWN
        self.limits = Limits()
        self.reader = Reader(self.limits)
        self.unsent = bytearray()
        self.held = 0
        self.messages = 0
        self.doubtful: Optional[float] = None  # when opcode 8 has to be decided
        self.wants_write: Callable[[Connection], None] = lambda _: None
        self.identified: Callable[[Connection], None] = lambda _: None
        self.page: Callable[[], str] = lambda: ""
        self.ends = False  # once its answer is sent
        self.events = 0  # what the server waits for
        self._parsing: Generator[None, None, None] = self._converse()

    def send(self, data: bytes) -> None:
        """Queue an answer and have it sent."""
        self.unsent += data
        if not self.watched or len(self.unsent) <= self.limits.unsent:
            self.wants_write(self)
            return
        # A watcher that reads nothing would grow without end.
        self.unsent.clear()
        with contextlib.suppress(OSError):
            self.conn.shutdown(socket.SHUT_RDWR)

    def reached(self) -> str:
        """The address at which it reached the bridge, as IPv4 where it is one."""
        host = str(self.conn.getsockname()[0])
        return host[len("::ffff:") :] if host.startswith("::ffff:") and "." in host else host

    def receive(self) -> bool:
        """Read what is there and answer it; False when the client has closed. JunkError for what can't be answered."""
        try:
            data = self.conn.recv(CHUNK if self.reader.buffer else SMALL)
        except (BlockingIOError, InterruptedError):
            return True
        if not data:
            return False
        if self.reader.between and not self.reader.buffer:
            read = self._answer_whole(data)
            if read == len(data):
                return True
            data = data[read:]
        self.reader.buffer += data
        self.advance()
        return True

    def _answer_whole(self, data: bytes) -> int:
        """Answer the common operations as long as they are whole; how many bytes that took."""
        at, limits, fast = 0, self.limits, FAST[self.era]
        while at < len(data) and len(self.unsent) <= limits.unsent:
            common = fast.get(data[at])
            parsed = common[1](data, at + 1, limits) if common else None
            if common is None or parsed is None:
                break
            self._answer(common[0], parsed[0])
            at = parsed[1]
        return at

    def advance(self) -> None:
        """Answer every complete message, unless the client leaves too many answers unread."""
        if len(self.unsent) <= self.limits.unsent:
            next(self._parsing)
            self.reader.drop_read()
        self.account()

    def account(self) -> None:
        """Count the buffers as part of the store's memory."""
        held = self.reader.left() + len(self.unsent)
        if held == self.held:
            return
        self.store.size += held - self.held
        self.held = held
        if self.store.size > self.store.most and held > CHUNK:
            raise JunkError("the bridge's memory is full")

    def flush(self) -> bool:
        """Send what the socket takes; whether all is sent."""
        if self.unsent:
            try:
                sent = self.conn.send(self.unsent)
            except (BlockingIOError, InterruptedError):
                return False
            del self.unsent[:sent]
        return not self.unsent

    def close(self) -> None:
        """Forget the client and what it held."""
        self.store.forget(self)
        self.store.size -= self.held
        self.held = 0
        self._parsing.close()
        self.conn.close()

    def _learn(self, era: Era) -> None:
        first = self.era is Era.UNKNOWN
        self.era = era
        self.before_2_2 = era in BEFORE_2_2
        if first:
            self.identified(self)

    def _converse(self) -> Generator[None, None, None]:
        yield from self._open()
        while True:
            while len(self.unsent) > self.limits.unsent:
                yield
            operation, arguments = yield from self.reader.message(OPCODES[self.era], self.era)
            if self.era is Era.OLD and operation in ONLY_2_1:
                self._learn(Era.V2_1)
            if operation is Operation.APPEND_OR_DELETE:
                operation = yield from self._append_or_delete(arguments)
            self._answer(operation, arguments)

    def _open(self) -> Parsing:
        first = yield from self.reader.byte()
        if first == STATUS[0]:
            yield from self._tell_status()
        if first != VALIDATE:
            era = era_of_first_byte(first)
            if era is Era.UNKNOWN:
                raise JunkError(f"a first byte of {first:#04x}, which no TCPStore client sends")
            self.reader.position -= 1
            self._learn(era)
            return
        if (yield from self.reader.exactly(len(MAGIC))) != MAGIC:
            raise JunkError("a wrong number after VALIDATE")
        following = yield from self.reader.byte()
        self.reader.position -= 1
        self._learn(Era.PINGING if following == 13 else Era.VALIDATING)

    def _tell_status(self) -> Parsing:
        if (yield from self.reader.exactly(len(STATUS) - 1)) != STATUS[1:]:
            raise JunkError(f"a first byte of {STATUS[0]:#04x} without the rest of a question for the status")
        self._learn(Era.STATUS)
        self.ends = True
        self.send(f"{self.page()}\n".encode())
        while True:  # whatever follows
            yield

    def _append_or_delete(self, arguments: List[Any]) -> Generator[None, None, Operation]:
        """2.1 appends a value that follows in the same flush; 2.0 deletes, sends nothing more and waits."""
        until = time.monotonic() + GRACE
        while not self.reader.left():
            self.doubtful = until
            if time.monotonic() >= until:
                self.doubtful = None
                self._learn(Era.OLDEST)
                return Operation.DELETE
            yield
        self.doubtful = None
        self._learn(Era.V2_1)
        arguments.append((yield from self.reader.field(Field.VALUE)))
        return Operation.APPEND

    def _answer(self, operation: Operation, arguments: List[Any]) -> None:
        self.messages += 1
        if self.missing or self.barrier is not None:
            # Up to 2.0 nothing says that a wait is given up, but that the client asks again.
            self.store.stop_waiting(self)
        if operation in _ONE_KEY:
            arguments[0] = self.attempts.strip(arguments[0])
            if self.before_2_2:
                arguments[0] = as_since_2_0(arguments[0], self)
        elif operation in _MANY_KEYS and operation is not Operation.PING:
            arguments[0] = self.attempts.strip_all(arguments[0])
            if operation in _WAITS and self.before_2_2:
                arguments[0] = [as_since_2_0(key, self) for key in arguments[0]]
        answer = HANDLERS[operation](self.store, self, arguments)
        if answer is not None:
            self.unsent += answer
