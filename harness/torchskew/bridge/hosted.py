"""Runs a bridge as the child of a rank: on a listening socket that the parent made, until the parent has ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from typing import List

from torchskew.bridge.serve import raise_descriptors
from torchskew.bridge.server import Server
from torchskew.bridge.status import Log

LOOKS = 0.5  # seconds between looks for the parent: a signal at its end would come at its thread's end already
READY = "ready"


def main(arguments: List[str]) -> int:
    """PARENT DESCRIPTOR: the process to end with, and the socket. Prints READY once clients are served."""
    parent, descriptor = map(int, arguments)
    listening = socket.socket(fileno=descriptor)
    listening.setblocking(False)
    raise_descriptors()
    server = Server(listening, Log())
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    threading.Thread(target=_end_with, args=(parent, server), daemon=True).start()
    sys.stdout.write(READY + "\n")
    sys.stdout.close()
    server.run()
    return 0


def _end_with(parent: int, server: Server) -> None:
    """Stop the server once another process has become this one's parent."""
    while os.getppid() == parent:
        time.sleep(LOOKS)
    server.stop()
