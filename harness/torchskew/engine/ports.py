"""Ports nobody else uses: the kernel holds each lease, for every torchskew on the machine, and frees it with us."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from torchskew.errors import MachineError

# Below the range from which kernels give outgoing connections their ports, above the well-known services.
FIRST, LAST = 20000, 32000
RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def leasable_ports() -> range:
    """The ports we lease: FIRST..LAST, cut where this machine's range of outgoing ports begins.

    Every second one: the guard of a cell uses the next one where the cell's own is taken.
    """
    try:
        low = int(RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError):
        low = LAST
    return range(FIRST, max(FIRST + 1000, min(LAST, low)), 2)


class Leases(Protocol):
    """Where an attempt gets its port, on the machine of its rank 0."""

    def lease(self) -> AbstractContextManager[int]:
        """A port that nobody else has until the block ends; MachineError where none is free."""


class Ports:
    """Leases ports one after another, starting where no other process of this machine is likely to be."""

    def __init__(self) -> None:
        """Start somewhere that depends on the process, so that two runs rarely even meet."""
        ports = leasable_ports()
        start = (os.getpid() * 379) % len(ports)
        self._next = itertools.cycle([*ports[start:], *ports[:start]])
        self._lock = threading.Lock()
        self._count = len(ports)

    @contextmanager
    def lease(self) -> Iterator[int]:
        """A port that is ours until the block ends.

        Raises:
            MachineError: every port of the range is taken.
        """
        holder = self._bind_next()
        try:
            yield holder.getsockname()[1]
        finally:
            holder.close()

    def _bind_next(self) -> socket.socket:
        with self._lock:
            for _ in range(self._count):
                if holder := bind_exclusively(next(self._next)):
                    return holder
        ports = leasable_ports()
        raise MachineError(
            f"no free port between {ports.start} and {ports.stop - 1}: all {len(ports)} are in use. "
            "Stop what listens there (`ss -ltn`), or run fewer cells at once (-j)."
        )


def bind_exclusively(port: int) -> socket.socket | None:
    """Bind the port without listening, or None if it is taken.

    The bind is exclusive: it fails where any socket is bound, another torchskew's lease too. Only then the
    socket says that it shares its address, so that rank 0's store (which says the same) may listen there.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.bind(("", port))
    except OSError:
        holder.close()
        return None
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return holder
