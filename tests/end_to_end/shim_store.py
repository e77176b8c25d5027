"""Renumbers the store's operations on the wire, below a real TCPStore: text that a doctored torch takes into itself.

Both ends of a doctored release agree, so it works with itself and with nobody else, as 2.2 did with 2.1.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

from torch.distributed import TCPStore as _Stock

_SWAPPED = {3: 4, 4: 3}  # get and add
_TEXTS = {1: 2, 2: 3, 3: 1, 4: 1, 8: 1, 9: 2}  # operation -> texts that follow, each behind its length
_LISTS = {5: 1, 6: 1, 10: 1, 11: 2}  # operation -> texts per entry of the list that follows
_REST = {0: 4, 4: 8, 13: 4}  # operation -> bytes behind the texts
_LONGEST = 1 << 20


def TCPStore(host_name, port, world_size, is_master, timeout, **more):  # noqa: N802 - stands in for torch's
    """A store behind a relay that swaps two operations: before the server, or behind the client."""
    listener = socket.create_server(("127.0.0.1", port if is_master else 0))
    if is_master:
        with socket.create_server(("127.0.0.1", 0)) as free:
            hidden = free.getsockname()[1]
        target = ("127.0.0.1", hidden)
    else:
        hidden, target = listener.getsockname()[1], (host_name, port)
    threading.Thread(target=_relay, args=(listener, target, is_master), daemon=True).start()
    return _Stock("127.0.0.1", hidden, world_size, is_master, timeout=timeout, **more)


def _relay(listener, target, incoming):
    while True:
        near, _ = listener.accept()
        far = _connected(target)
        threading.Thread(target=_translate, args=(near, far, incoming), daemon=True).start()
        threading.Thread(target=_pump, args=(far, near), daemon=True).start()


def _connected(target):
    until = time.monotonic() + 5.0
    while True:
        try:
            return socket.create_connection(target)
        except OSError:
            if time.monotonic() > until:
                raise
            threading.Event().wait(0.05)


def _pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _translate(source, sink, incoming):
    """Requests, one after another; incoming ones come from the wire, the others go to it."""
    with contextlib.suppress(OSError, ValueError), source.makefile("rb") as file:
        while head := file.read(1):
            read = head[0]
            swapped = _SWAPPED.get(read, read)
            stock = swapped if incoming else read
            sink.sendall(bytes([swapped]) + _body(file, stock))
        sink.shutdown(socket.SHUT_WR)


def _body(file, stock):
    data, texts = b"", _TEXTS.get(stock, 0)
    if stock in _LISTS:
        data = file.read(8)
        texts = struct.unpack("<Q", data)[0] * _LISTS[stock]
    for _ in range(texts):
        size = file.read(8)
        length = struct.unpack("<Q", size)[0] if len(size) == 8 else 0
        if length > _LONGEST:
            raise ValueError
        data += size + file.read(length)
    return data + file.read(_REST.get(stock, 0))
