"""Stock PyTorch recognised by its bytes: a client that knocks on a guard's port, a store where a guard should be."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from typing import NamedTuple, Optional

from torchskew.guard.roster import Roster
from torchskew.guard.sockets import connect, peek, receive


class Listener(NamedTuple):
    """What listens on a port: "guard" (with its roster), "store" (with era and back end), "other" or "nothing".

    "unresolved": the host's name has no address.
    """

    what: str
    era: str = ""
    backend: str = ""
    roster: Optional[Roster] = None


def look(host: str, port: int, patience: float = 0.5) -> Listener:
    """What listens on a port.

    Sends whole messages only: half a message freezes every legacy store for all its clients.
    """
    try:
        return Listener("guard", roster=peek(host, port, patience))
    except socket.timeout:
        backend = "libuv"
    except socket.gaierror:
        return Listener("unresolved")
    except ConnectionRefusedError:
        return Listener("nothing")
    except (OSError, ValueError):
        backend = "legacy"
    try:
        store_era = _store_since_2_2(host, port, patience) or _store_before(host, port, patience)
    except OSError:
        return Listener("nothing")
    return Listener("store", store_era, backend) if store_era else Listener("other")


def _request(conn: socket.socket, data: bytes, size: int, patience: float) -> bytes:
    """The answer, b"" when the server closed or kept silent."""
    try:
        conn.sendall(data)
        return receive(conn, size, time.monotonic() + patience)
    except OSError:
        return b""


def _counts(data: bytes, many: int) -> bool:
    """Whether these bytes are plausible numbers of keys."""
    return len(data) == 8 * many and all(0 <= count < 1 << 40 for count in struct.unpack("<%dq" % many, data))


def _store_since_2_2(host: str, port: int, patience: float) -> str:
    """VALIDATE, four times the number of keys, and PING.

    An older server reads one absurd length and closes. A store of 2.2 to 2.4 closes at PING; one that is silent is
    only busy, and which it is remains open.
    """
    with contextlib.closing(connect(host, port, patience)) as conn:
        if not _counts(_request(conn, b"\x00\xce\xf7\x85\x3c" + b"\x07" * 4, 32, patience), 4):
            return ""
        nonce = b"\x7f\x7f" + os.urandom(2)
        try:
            conn.sendall(b"\x0d" + nonce)
            return "2.5" if receive(conn, 4, time.monotonic() + patience) == nonce else ""
        except socket.timeout:
            return ""
        except OSError:
            return "2.2"


def _store_before(host: str, port: int, patience: float) -> str:
    """Two messages over no keys, whole and without effect in every old store: CHECK (WAIT up to 1.8), then WAIT.

    Up to 1.8 the second is the number of keys and a rest, so that store waits until this connection closes, at once.
    """
    with contextlib.closing(connect(host, port, patience)) as conn:
        if _request(conn, b"\x04" + bytes(8), 1, patience) != b"\x00":
            return ""
        first = _request(conn, b"\x05" + bytes(8), 1, patience)
        conn.settimeout(0.01)
        with contextlib.suppress(OSError):
            first += conn.recv(7)
        return {1: "1.9", 8: "1.7"}.get(len(first), "")
