"""A relay for stock clients that came to rank 0's guard: releases up to 2.4 don't connect again after a reset.

Where the stock init goes on, a process of its own carries their bytes to the store, as long as they are connected. It
is a process because the store may hold the interpreter's lock, and no thread of the guard outlives an init.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

STORE_SOON = 60.0  # seconds until the store must listen: its init begins at once
_RELAY = """from __future__ import annotations
import contextlib, json, os, socket, sys, threading, time
%s
port, seconds, clients = json.load(sys.stdin)
if os.fork() == 0:
    Carrier(port, seconds).start(clients)
"""


class Caller(NamedTuple):
    """A stock client: its connection, and what it has sent so far."""

    conn: socket.socket
    data: bytes


class Carrier:
    """The relay itself, run as text in a process of its own; it ends when the last connection has ended."""

    def __init__(self, port: int, seconds: float) -> None:
        """Where the store will listen, and how long to wait for it."""
        self.port, self.until = port, time.monotonic() + seconds

    def start(self, clients: list[tuple[int, str]]) -> None:
        """Serve each client (its descriptor, and its first bytes as hex) by a thread."""
        threading.stack_size(1 << 18)
        for number, first in clients:
            client = socket.socket(fileno=number)
            threading.Thread(target=self.serve, args=(client, bytes.fromhex(first))).start()

    def serve(self, client: socket.socket, first: bytes) -> None:
        """Connect one client to the store, until both sides have ended."""
        with contextlib.suppress(OSError, RuntimeError), client, self.store() as store:
            for conn in (client, store):
                conn.settimeout(None)
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            store.sendall(first)
            back = threading.Thread(target=self.pump, args=(store, client), daemon=True)
            back.start()
            self.pump(client, store)
            back.join()

    def store(self) -> socket.socket:
        """A connection to the store, as soon as it listens; OSError where it doesn't in time."""
        while True:
            try:
                return socket.create_connection(("localhost", self.port), timeout=5)
            except OSError:
                if time.monotonic() >= self.until:
                    raise
            time.sleep(0.005)

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        """Carry bytes one way until the source ends; then the target hears that too."""
        with contextlib.suppress(OSError):
            data = source.recv(1 << 16)
            while data:
                target.sendall(data)
                data = source.recv(1 << 16)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def relay(callers: list[Caller], port: int) -> None:
    """Give these clients to a relay, and forget them; OSError where none can start."""
    if not hasattr(os, "fork"):
        raise OSError("this system has no fork")
    numbers = [caller.conn.fileno() for caller in callers]
    clients = [(number, caller.data.hex()) for number, caller in zip(numbers, callers)]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _RELAY % inspect.getsource(Carrier)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=numbers,
        )  # fmt: skip
        process.communicate(json.dumps([port, STORE_SOON, clients]).encode(), timeout=10.0)
    except subprocess.SubprocessError as problem:
        raise OSError(str(problem)) from problem
    for caller in callers:
        caller.conn.close()  # without a reset: the relay has it
