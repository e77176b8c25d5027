"""What each operation does and answers, the same for every era."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from torchskew.bridge import gloo
from torchskew.bridge.eras import Operation
from torchskew.bridge.older import BARRIER
from torchskew.bridge.reader import INTEGER, LENGTH, JunkError
from torchskew.bridge.state import Client, Store

READY, NOT_READY = b"\x00", b"\x01"
CANCELLED = b"\x01"
UPDATED, CREATED, DELETED, REGISTERED = b"\x00", b"\x01", b"\x02", b"\x03"  # answers to WATCH


def counted(data: bytes) -> bytes:
    """Bytes after their length, as they travel."""
    return LENGTH.pack(len(data)) + data


def _set(store: Store, client: Client, arguments: List[Any]) -> None:
    key, value = arguments
    store.put(key, value, client)
    if len(value) >= gloo.ADDRESS and gloo.rank_of(key) is not None:
        _note_address(store, client, key, value)


def _note_address(store: Store, client: Client, key: bytes, value: bytes) -> None:
    if not client.before_2_2 and gloo.split_record(value) is not None:
        store.derive(key, client)
        client.rank = gloo.rank_of(key) if client.rank is None else client.rank
    elif client.before_2_2 and (gloo.host_key(key) or b"") in store.values:
        client.rank = gloo.rank_of(key) if client.rank is None else client.rank
    store.older.note(key, value, client)


def _compare_set(store: Store, client: Client, arguments: List[Any]) -> bytes:
    key, expected, desired = arguments
    return counted(store.compare_set(key, (expected, desired), client))


def _get(store: Store, client: Client, arguments: List[Any]) -> bytes:
    return counted(store.read(arguments[0], client))


def _add(store: Store, client: Client, arguments: List[Any]) -> bytes:
    count = store.add(arguments[0], arguments[1], client)
    if BARRIER in arguments[0]:
        count += store.older.missing(client)
    return INTEGER.pack(count)


def _check(store: Store, client: Client, arguments: List[Any]) -> bytes:
    del client
    return NOT_READY if store.lacks(arguments[0]) else READY


def _wait(store: Store, client: Client, arguments: List[Any]) -> Optional[bytes]:
    missing = store.lacks(arguments[0])
    if not missing:
        return READY
    store.wait(missing, client)
    return None


def _count_keys(store: Store, client: Client, arguments: List[Any]) -> bytes:
    del client, arguments
    return INTEGER.pack(len(store.values) - len(store.derived))


def _watch(store: Store, client: Client, arguments: List[Any]) -> bytes:
    store.watch(arguments[0], client)
    return REGISTERED


def _delete(store: Store, client: Client, arguments: List[Any]) -> bytes:
    del client
    return INTEGER.pack(store.delete(arguments[0]))


def _append(store: Store, client: Client, arguments: List[Any]) -> None:
    key, value = arguments
    store.put(key, store.values.get(key, b"") + value, client)


def _multi_get(store: Store, client: Client, arguments: List[Any]) -> bytes:
    size = sum(8 + len(store.values.get(key, b"")) for key in arguments[0])
    if store.size + size > store.most:
        raise JunkError(f"an answer of {size:,} bytes")
    return b"".join(counted(store.read(key, client)) for key in arguments[0])


def _multi_set(store: Store, client: Client, arguments: List[Any]) -> None:
    for key, value in arguments[0]:
        _set(store, client, [key, value])


def _cancel_wait(store: Store, client: Client, arguments: List[Any]) -> bytes:
    del store, client, arguments  # connection.py ends the wait before any operation
    return CANCELLED


def _ping(store: Store, client: Client, arguments: List[Any]) -> bytes:
    del store, client
    nonce: bytes = arguments[0]
    return nonce


def _queue_push(store: Store, client: Client, arguments: List[Any]) -> None:
    del client
    store.push(arguments[0], arguments[1])


def _queue_pop(store: Store, client: Client, arguments: List[Any]) -> bytes:
    del client
    length, value = store.pop(arguments[0])
    return INTEGER.pack(length) + (counted(value) if length else b"")


def _queue_length(store: Store, client: Client, arguments: List[Any]) -> bytes:
    del client
    return INTEGER.pack(len(store.queues.get(arguments[0], ())))


def _list_keys(store: Store, client: Client, arguments: List[Any]) -> bytes:
    del client, arguments
    keys = store.keys()
    return INTEGER.pack(len(keys)) + b"".join(map(counted, keys))


def _barrier(store: Store, client: Client, arguments: List[Any]) -> None:
    store.arrive(arguments[0], arguments[1], client)


HANDLERS: Dict[Operation, Callable[[Store, Client, List[Any]], Optional[bytes]]] = {
    Operation.SET: _set,
    Operation.COMPARE_SET: _compare_set,
    Operation.GET: _get,
    Operation.ADD: _add,
    Operation.CHECK: _check,
    Operation.WAIT: _wait,
    Operation.COUNT_KEYS: _count_keys,
    Operation.WATCH: _watch,
    Operation.DELETE: _delete,
    Operation.APPEND: _append,
    Operation.MULTI_GET: _multi_get,
    Operation.MULTI_SET: _multi_set,
    Operation.CANCEL_WAIT: _cancel_wait,
    Operation.PING: _ping,
    Operation.QUEUE_PUSH: _queue_push,
    Operation.QUEUE_POP: _queue_pop,
    Operation.QUEUE_LENGTH: _queue_length,
    Operation.LIST_KEYS: _list_keys,
    Operation.BARRIER: _barrier,
}


def report_change(store: Store, key: bytes, before: Optional[bytes], after: Optional[bytes]) -> None:
    """Send a change to the clients that watch a key."""
    kind = CREATED if before is None else DELETED if after is None else UPDATED
    for client in list(store.watching.get(key, ())):
        client.send(kind + counted(key) + counted(before or b"") + counted(after or b""))
