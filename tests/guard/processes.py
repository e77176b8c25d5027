"""Ranks that a measurement starts as processes of their own: a port for them, and what they printed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def printed(running: Sequence[subprocess.Popen[str]], limit: float) -> list[tuple[str, str]]:
    """Both streams of each process when all have ended, each within these seconds; none is left, whatever happens."""
    try:
        return [each.communicate(timeout=limit) for each in running]
    finally:
        for each in running:
            each.kill()
            each.wait()
