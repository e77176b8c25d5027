"""Runs a bridge in the foreground until a signal ends it."""

from __future__ import annotations

import resource
import signal
import socket
import sys
from typing import List, Optional

from torchskew.bridge.ask import status
from torchskew.bridge.server import Server, listen
from torchskew.bridge.status import Log


def serve(host: Optional[str], port: int) -> int:
    """Serve until SIGTERM or SIGINT; SIGUSR1 writes a status page. The exit code: 4 where the port can't be had."""
    log = Log()
    try:
        server = Server(listen(host, port), log)
    except socket.gaierror:
        log.line(f"--bind {host}: not a literal address. Write an IP address; the bridge never looks up names.")
        return 4
    except (OSError, OverflowError) as problem:
        log.line(f"can't listen on port {port}: {problem}. Choose another --port, or end what listens there.")
        return 4
    raise_descriptors()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    signal.signal(signal.SIGUSR1, lambda *_: server.ask_status())
    address = server.server.getsockname()
    log.line(f"listens on {address[0]} port {address[1]}; SIGUSR1 writes its status, SIGTERM ends it")
    server.run()
    log.line("ended")
    return 0


def raise_descriptors() -> None:
    """As many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: List[str]) -> int:
    """`python -m torchskew.bridge PORT [HOST]`, for a machine without the harness's own dependencies."""
    asks = arguments[:1] == ["--status"]
    given = arguments[1:] if asks else arguments
    if len(given) not in (1, 2) or not given[0].isdigit():
        sys.stderr.write("usage: python -m torchskew.bridge [--status] PORT [HOST]\n")
        return 4
    return (status if asks else serve)(given[1] if len(given) == 2 else None, int(given[0]))
