"""The caps that keep one client from exhausting the server."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Every length on the wire is the client's word, so each has a cap."""

    key: int = 64 << 10
    keys: int = 128 << 10  # in one message, as stock stores have it
    value: int = 64 * MIB
    memory: int = 1024 * MIB  # everything stored, received and not yet sent
    unsent: int = 4 * MIB  # beyond this much unread output, a client's requests wait
    connections: int = 16_384
