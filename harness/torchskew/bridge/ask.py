"""Asks a running bridge for its status page, with bytes that no client of a store sends."""

from __future__ import annotations

import socket
import sys
import time
from typing import Optional

from torchskew.bridge.eras import STATUS

PATIENCE = 5.0  # seconds for a bridge to answer
MOST = 1 << 16


def status(host: Optional[str], port: int) -> int:
    """Print the page of the bridge on a port; the exit code is 1, with the reason, where none answers."""
    host = host or "127.0.0.1"
    try:
        page = _page(host, port)
    except ConnectionRefusedError:
        problem = "nothing listens there. Start one with `torchskew bridge`."
    except (OSError, OverflowError) as error:
        problem = f"{error or type(error).__name__}"
    else:
        if page.startswith(b"status: "):
            sys.stdout.write(page.decode(errors="replace"))
            return 0
        problem = f"what listens there is no bridge: it sent no status page in {PATIENCE:.0f} s."
    sys.stderr.write(f"torchskew bridge: no status from {host} port {port}: {problem}\n")
    return 1


def _page(host: str, port: int) -> bytes:
    """What answers before the connection ends, or in PATIENCE; nothing where it is not for us."""
    until = time.monotonic() + PATIENCE
    page = b""
    with socket.create_connection((host, port), timeout=PATIENCE) as conn:
        conn.sendall(STATUS)
        while len(page) < MOST:
            conn.settimeout(max(0.01, until - time.monotonic()))
            try:
                more = conn.recv(MOST)
            except (ConnectionResetError, socket.timeout):  # a stock store closes, or is silent
                return page
            if not more:
                break
            page += more
    return page
