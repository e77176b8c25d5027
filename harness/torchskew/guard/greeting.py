"""The store era of a stock client, by the bytes with which it opens a connection."""

from __future__ import annotations

import struct


def greeting_era(data: bytes) -> str | None:
    """The store era of a stock client by its first bytes; "" for anything else, None while too few came."""
    for opcode, name in ((2, "1.7"), (3, "1.9")):
        stock = bytes([opcode]) + struct.pack("<Q", 5) + b"init/"
        if data[:14] == stock[: len(data)]:
            return name if len(data) >= 14 else None
    validate = b"\x00" + struct.pack("<I", 0x3C85F7CE)
    if data[:5] != validate[: len(data)]:
        return ""
    if len(data) < 6:
        return None
    return {4: "2.2", 13: "2.5"}.get(data[5], "")
