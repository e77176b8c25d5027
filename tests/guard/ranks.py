"""Ranks of the guard's tests: hellos as releases would send them, and threads that exchange them."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.exchange import exchange
from torchskew.guard.place import DIRECT, Place
from torchskew.guard.sockets import claim, dial, read_greeting
from torchskew.guard.table import SERVES, TABLE, era, known
from torchskew.guard.wire import HELLO

from tests import patience

# Seconds until a missing rank is given up, where a test shows that nothing waited for that.
FAR = 600.0
# Seconds that a test allows for what must happen at once, on a machine that is busy with other work.
PATIENCE = patience.PATIENCE

BUILD = {"git": "abc", "python": "3.11.7", "backend": "gloo", "job": "", "order": "little", "nccl": "", "settings": "",
         "launcher": "", "guess": "", "numpy": "2.1.0", "bridge": ""}  # fmt: skip


def hello_of(rank: int, torch: str = "2.6.0", world: int = 2, **more: Any) -> dict[str, Any]:
    """A hello as a rank of this release would say it."""
    eras = {kind: era(kind, torch) or "" for kind in TABLE}
    facts = {"rank": rank, "world": world, "pid": 100 + rank, "port": 0, "host": f"node{rank}", "torch": torch,
             "method": "tcp", "serves": " ".join(SERVES[eras["store"]]), "known": int(known(torch)),
             "last": "2.15"}  # fmt: skip
    return {**BUILD, **facts, **eras, **more}


class Group:
    """Ranks as threads of this process, each with its own hello."""

    def __init__(self, port: int, seconds: float = FAR) -> None:
        self.port, self.seconds, self.host, self.mode = port, seconds, "127.0.0.1", "enforce"
        self.reach = float("inf")
        self.results: dict[int, Any] = {}
        self.ended: dict[int, float] = {}
        self.threads: list[threading.Thread] = []

    def start(self, number: int, hello: dict[str, Any], path: str = "", *, named: bool = False) -> None:
        """named: the environment of a rank that meets by file names the address as well."""
        method = "tcp" if hello["method"] == "file" else hello["method"]
        where = ("file", self.host * named, self.port * named, path) if path else (method, self.host, self.port, "")
        place = Place(*where, hello["rank"], hello["world"])
        arguments = (number, place, {**hello, "port": place.port})
        self.threads.append(threading.Thread(target=self._run, args=arguments, daemon=True))
        self.threads[-1].start()

    def _run(self, number: int, place: Place, hello: dict[str, Any]) -> None:
        try:
            self.results[number] = exchange(place, hello, self.seconds, self.mode, self.reach)
            if number == 0 and place.method in DIRECT and not self.results[number]["bridge"]:
                store = claim(place.port)  # the store must get the port right after
                self.results["store"] = store
        except (ProtocolVersionError, Unverified) as error:
            self.results[number] = error
        self.ended[number] = time.monotonic()

    def join(self) -> dict[int, Any]:
        """Every rank's result; no rank may still wait, least of all for the deadline."""
        until = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(until - time.monotonic())
        store = self.results.pop("store", None)
        if store:
            store.close()
        waiting = sum(thread.is_alive() for thread in self.threads)
        assert waiting == 0, f"{waiting} of {len(self.threads)} ranks still wait after {PATIENCE:.0f} s"
        return self.results


def connect(port: int) -> socket.socket:
    """A connection to the hello port as soon as it listens."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            threading.Event().wait(0.005)


def greeted(port: int) -> tuple[socket.socket, bytes]:
    """A connection over which rank 0's guard has greeted, and both nonces."""
    conn, nonce = dial("127.0.0.1", port, HELLO, PATIENCE)
    return conn, nonce + read_greeting(conn, PATIENCE)
