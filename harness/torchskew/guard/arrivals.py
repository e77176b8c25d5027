"""Who came to rank 0's port: ranks that said hello, and stock clients that are held unanswered."""

from __future__ import annotations

import itertools
import socket
import time

from torchskew.guard.hello import Hello, Identity, identity


class Peer:
    """A connection to the hello port: what it sent so far, and how far it got."""

    __slots__ = ("conn", "data", "hello", "nonces", "peeks", "since")

    def __init__(self, conn: socket.socket) -> None:
        """Nothing is known of it yet."""
        self.conn, self.data, self.nonces, self.peeks = conn, b"", b"", False
        self.hello: Hello | None = None
        self.since = time.monotonic()


class Arrivals:
    """The ranks that said hello, each with its connection; rank 0 itself is not among them."""

    def __init__(self, world: int) -> None:
        """World is the size of rank 0's group."""
        self.world = world
        self.peers: dict[Identity, Peer] = {}
        self.numbers: dict[int, int] = {}
        self.wronged = float("inf")  # when the first hello came that no later one can put right

    def hellos(self) -> list[Hello]:
        """The hellos of all that arrived."""
        return [peer.hello for peer in self.peers.values() if peer.hello]

    def complete(self) -> bool:
        """Whether waiting longer changes nothing: all are here, or as many, and some of them are wrong."""
        enough = len(self.peers) + 1 >= self.world
        return enough and (self.wronged < float("inf") or all(self.numbers.get(rank) for rank in range(1, self.world)))

    def earlier(self, hello: Hello) -> Peer | None:
        """The connection over which the same process said hello before."""
        return self.peers.get(identity(hello))

    def numbered(self, hello: Hello) -> Hello:
        """The hello of an agent under c10d: it has no number of its own, and may ask for a group of another size."""
        free = next(number for number in itertools.count(1) if not self.numbers.get(number))
        hello["rank"], hello["world"] = free, self.world
        return hello

    def add(self, peer: Peer, hello: Hello) -> None:
        """Count a rank in."""
        peer.hello, peer.data = hello, b""
        rank = hello["rank"]
        self.peers[identity(hello)] = peer
        self.numbers[rank] = self.numbers.get(rank, 0) + 1
        odd = hello["world"] != self.world or not 0 < rank < hello["world"]
        if odd or self.numbers[rank] > 1:
            self.wronged = min(self.wronged, time.monotonic())

    def remove(self, peer: Peer) -> None:
        """Count a rank out whose connection ended, unless a newer connection of it counts."""
        if peer.hello and self.peers.get(identity(peer.hello)) is peer:
            del self.peers[identity(peer.hello)]
            self.numbers[peer.hello["rank"]] -= 1


class StockClients:
    """Clients without the guard: counted by store era, and held unanswered, so that they neither fail nor retry."""

    held_limit = 256

    def __init__(self) -> None:
        """Nobody knocked yet."""
        self.knocks: dict[str, int] = {}
        self.first = float("inf")  # when the first of them knocked
        self.held: list[Peer] = []

    def count(self, store_era: str) -> bool:
        """Count one; whether there is room to hold it."""
        self.knocks[store_era] = self.knocks.get(store_era, 0) + 1
        self.first = min(self.first, time.monotonic())
        return len(self.held) < self.held_limit
