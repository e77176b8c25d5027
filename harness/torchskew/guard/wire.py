"""The wire: the bytes that open a connection between guards, and the frames that follow."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct

# 0xff is an opcode of no TCPStore: an old server closes, a newer one ignores it, none is left waiting for more.
HELLO, PEEK, GREETING = b"\xfftorchskew-hello/1\n", b"\xfftorchskew-peek/1\n\n", b"torchskew-guard/1\n"
NONCE, MAC, MOST_HELLO, GO = 16, 32, 4096, b"G"
OPENING = len(HELLO) + NONCE


def marked_nonce() -> bytes:
    """A nonce of rank 0 by which joiners know that it takes a hello with fields it does not know; 0.1's has no mark."""
    head = os.urandom(NONCE // 2)
    return head + _mark(head)


def is_marked(nonce: bytes) -> bool:
    """Whether marked_nonce() made these bytes."""
    return nonce[NONCE // 2 :] == _mark(nonce[: NONCE // 2])


def _mark(head: bytes) -> bytes:
    return hashlib.sha256(b"torchskew takes more fields" + head).digest()[: NONCE - NONCE // 2]


def _mac(secret: bytes, nonces: bytes, body: bytes) -> bytes:
    """Binds a message to this connection's two nonces; without a secret it only detects damage."""
    return hmac.new(secret or b"torchskew", nonces + body, "sha256").digest()


def frame(secret: bytes, nonces: bytes, body: bytes) -> bytes:
    """A body as it travels: its length, its code, itself."""
    return struct.pack("!I", len(body)) + _mac(secret, nonces, body) + body


def unframe(secret: bytes, nonces: bytes, data: bytes, most: int) -> bytes | None:
    """The body of a whole frame, None while it is incomplete; ValueError when it can't become one."""
    if len(data) < 4:
        return None
    (size,) = struct.unpack("!I", data[:4])
    if size > most:
        raise ValueError("too long")
    if len(data) < 4 + MAC + size:
        return None
    body = data[4 + MAC : 4 + MAC + size]
    if not hmac.compare_digest(data[4 : 4 + MAC], _mac(secret, nonces, body)):
        raise ValueError("wrong secret")
    return body
