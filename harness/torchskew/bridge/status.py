"""What the bridge says: one line for each connection, and a status page."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Iterable

from torchskew.bridge.connection import Connection
from torchskew.bridge.state import Store

BURST = 100  # lines about junk in a minute, so that a port scan doesn't fill a disk


class Log:
    """Lines on standard error."""

    def __init__(self) -> None:
        self.minute, self.lines = 0, 0

    def line(self, text: str) -> None:
        """Write one line; nothing breaks when nobody reads it."""
        try:
            sys.stderr.write(f"torchskew bridge: {text}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return

    def junk(self, text: str) -> None:
        """Write one line of those that a stranger can cause, at most BURST a minute."""
        minute = int(time.monotonic() // 60)
        if minute != self.minute:
            if self.lines > BURST:
                self.line(f"{self.lines - BURST} more lines like these in that minute")
            self.minute, self.lines = minute, 0
        self.lines += 1
        if self.lines <= BURST:
            self.line(text)


def page(store: Store, connections: Iterable[Connection]) -> str:
    """The status as a few lines."""
    clients = list(connections)
    eras = Counter(client.era.value for client in clients)
    waits = sum(bool(client.missing) or client.barrier is not None for client in clients)
    ranks = sorted({client.rank for client in clients if client.rank is not None})
    return "\n  ".join(
        [
            f"status: {len(clients)} connections, {len(store.keys())} keys, {store.size:,} of {store.most:,} bytes",
            f"{waits} clients wait, {len(store.queues)} queues, {sum(client.messages for client in clients)} messages",
            *(f"{count} of {era}" for era, count in sorted(eras.items())),
            *([f"ranks seen: {', '.join(map(str, ranks))}"] if ranks else []),
        ]
    )
