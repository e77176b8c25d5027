"""What the store holds: values, queues, and the clients that wait for a key, watch one or stand at a barrier."""

from __future__ import annotations

import re
from collections import deque
from typing import Callable, Deque, Dict, Iterable, List, Optional, Set, Tuple

from torchskew.bridge import gloo
from torchskew.bridge.older import Older
from torchskew.bridge.reader import JunkError

ENTRY = 100  # bytes that an entry costs beside its key and value, roughly
_INTEGER = re.compile(rb"\s*([+-]?[0-9]{1,19})")


class Client:
    """What the store needs to know of a connection."""

    def __init__(self) -> None:
        self.missing: Set[bytes] = set()  # keys that its wait lacks
        self.barrier: Optional[bytes] = None
        self.watched: Set[bytes] = set()
        self.before_2_2 = False
        self.of_1_13 = False
        self.rank: Optional[int] = None
        self.groups: Dict[bytes, int] = {}  # prefix of a group's addresses -> its rank there, in the order of joining

    def reached(self) -> str:
        """The address at which it reached the bridge."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Queue an answer."""
        raise NotImplementedError


class Store:
    """The keys of a job; every change that a client may wait for goes through `put`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0
        self.values: Dict[bytes, bytes] = {}
        self.old_form: Set[bytes] = set()  # keys set by a client before 2.2
        self.derived: Set[bytes] = set()  # host names that 2.1 looks for, which no client has set
        self.queues: Dict[bytes, Deque[bytes]] = {}
        self.waiting: Dict[bytes, Dict[Client, None]] = {}
        self.watching: Dict[bytes, Dict[Client, None]] = {}
        self.barriers: Dict[bytes, Dict[Client, None]] = {}
        self.older = Older(self)
        self.changed: Callable[[bytes, Optional[bytes], Optional[bytes]], None] = lambda *_: None

    def _take(self, size: int) -> None:
        if size > 0 and self.size + size > self.most:
            raise JunkError(f"the store is full: {self.most:,} bytes")
        self.size += size

    def put(self, key: bytes, value: bytes, client: Client) -> None:
        """Set a value and wake whoever waits for it."""
        before = self.values.get(key)
        self._take(len(value) - len(before) if before is not None else ENTRY + len(key) + len(value))
        self.values[key] = value
        if self.derived:
            self.derived.discard(key)
        if client.before_2_2:
            self.old_form.add(key)
        elif self.old_form:
            self.old_form.discard(key)
        if self.waiting:
            self.wake(key)
        if self.watching:
            self.changed(key, before, value)

    def derive(self, key: bytes, client: Client) -> None:
        """Leave the host name of a record for peers of 2.1, who wait for it first."""
        record, host = gloo.split_record(self.values[key]), gloo.host_key(key)
        if record is not None and host is not None and host not in self.values:
            self.put(host, record[0], client)
            self.derived.add(host)

    def read(self, key: bytes, client: Client) -> bytes:
        """A value in the form that the client's release reads; empty for a missing key, as in stock stores."""
        value = self.values.get(key, b"")
        if client.groups and len(value) >= gloo.ADDRESS and gloo.rank_of(key) is not None:
            relayed = self.older.read(key, value, client)
            if relayed is not None:
                return relayed
        if client.before_2_2:
            return value if key in self.old_form else gloo.as_2_1(key, value)
        if key in self.old_form:
            return gloo.as_2_2(key, value, self.values.get(gloo.host_key(key) or b""))
        return value

    def add(self, key: bytes, amount: int, client: Client) -> int:
        """Add to the number under a key."""
        before = self.values.get(key)
        if before is not None:
            number = _INTEGER.match(before)
            if number is None:
                raise JunkError("ADD to a value that is no number")
            amount += int(number.group(1))
        amount = (amount + (1 << 63)) % (1 << 64) - (1 << 63)
        self.put(key, b"%d" % amount, client)
        return amount

    def compare_set(self, key: bytes, pair: Tuple[bytes, bytes], client: Client) -> bytes:
        """Set the second value where the first is there; the answer is what is there then, as stock stores give it."""
        expected, desired = pair
        before = self.values.get(key)
        if before is None and expected:
            return expected
        if before is None or before == expected:
            self.put(key, desired, client)
            return desired
        return self.read(key, client)

    def delete(self, key: bytes) -> int:
        """How many keys were removed."""
        before = self.values.pop(key, None)
        if before is None:
            return 0
        self.size -= ENTRY + len(key) + len(before)
        self.old_form.discard(key)
        self.derived.discard(key)
        self.changed(key, before, None)
        return 1

    def keys(self) -> List[bytes]:
        """The keys that clients have set."""
        return [key for key in self.values if key not in self.derived]

    def lacks(self, keys: Iterable[bytes]) -> Set[bytes]:
        """Those that hold neither a value nor a queue with something in it."""
        return {key for key in keys if key not in self.values and not self.queues.get(key)}

    def wait(self, keys: Set[bytes], client: Client) -> None:
        """Answer the client once each of these keys has been set; nobody else waits."""
        self._take(sum(ENTRY + len(key) for key in keys))
        client.missing = keys
        for key in keys:
            self.waiting.setdefault(key, {})[client] = None

    def wake(self, key: bytes) -> None:
        """Take a key off every wait; a wait that lacks no other is over."""
        for client in self.waiting.pop(key, ()):
            self._has(client, key)

    def _has(self, client: Client, key: bytes) -> None:
        client.missing.discard(key)
        self.size -= ENTRY + len(key)
        if not client.missing:
            client.send(b"\x00")

    def push(self, key: bytes, value: bytes) -> None:
        """Append to a queue, and wake the client that has waited longest for that alone."""
        self._take(ENTRY + len(value) + (0 if key in self.queues else ENTRY + len(key)))
        self.queues.setdefault(key, deque()).append(value)
        clients = self.waiting.get(key, {})
        first = next((client for client in clients if len(client.missing) == 1), None)
        if first is not None:
            del clients[first]
            if not clients:
                del self.waiting[key]
            self._has(first, key)

    def pop(self, key: bytes) -> Tuple[int, bytes]:
        """The length of a queue before, and its first value."""
        queue = self.queues.get(key)
        if not queue:
            return 0, b""
        length, value = len(queue), queue.popleft()
        self.size -= ENTRY + len(value)
        if not queue:
            del self.queues[key]
            self.size -= ENTRY + len(key)
        return length, value

    def arrive(self, key: bytes, world: int, client: Client) -> None:
        """Count a client at a barrier, and answer everyone there once the count is complete."""
        count = self.add(key, 1, client)
        if count < world:
            client.barrier = key
            self.barriers.setdefault(key, {})[client] = None
            return
        client.send(b"\x00")
        for other in self.barriers.pop(key, ()):
            other.barrier = None
            other.send(b"\x00")

    def watch(self, key: bytes, client: Client) -> None:
        """Report every change of a key from now on."""
        if key not in client.watched:
            self._take(ENTRY + len(key))
            client.watched.add(key)
            self.watching.setdefault(key, {})[client] = None

    def stop_waiting(self, client: Client) -> None:
        """Forget what a client waits for, unanswered."""
        for key in client.missing:
            self._leave(self.waiting, key, client)
        client.missing = set()
        if client.barrier is not None:
            clients = self.barriers[client.barrier]
            del clients[client]
            if not clients:
                del self.barriers[client.barrier]
            client.barrier = None

    def join(self, prefix: bytes, rank: int, client: Client) -> None:
        """Remember which rank of a group a client is."""
        if prefix not in client.groups:
            self._take(ENTRY + len(prefix))
        client.groups[prefix] = rank

    def forget(self, client: Client) -> None:
        """The client is gone."""
        self.stop_waiting(client)
        self.size -= sum(ENTRY + len(prefix) for prefix in client.groups)
        client.groups = {}
        for key in client.watched:
            self._leave(self.watching, key, client)
        client.watched = set()

    def _leave(self, table: Dict[bytes, Dict[Client, None]], key: bytes, client: Client) -> None:
        clients = table[key]
        del clients[client]
        self.size -= ENTRY + len(key)
        if not clients:
            del table[key]
