"""Rank 0's side of the exchange over an address: it collects every rank's hello and sends all of them one roster."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time

from torchskew.guard.arrivals import Arrivals, Peer, StockClients
from torchskew.guard.bridge import end_bridges, host_bridge
from torchskew.guard.greeting import greeting_era
from torchskew.guard.hello import Hello, read_hello, shown
from torchskew.guard.notice import say
from torchskew.guard.pace import Pace
from torchskew.guard.place import DIRECT, Place
from torchskew.guard.relay import Caller, relay
from torchskew.guard.roster import Roster, pack_roster, roster_of
from torchskew.guard.sockets import deliver, reset, tune
from torchskew.guard.table import HOLDS_GIL
from torchskew.guard.usher import attend, part, usher
from torchskew.guard.verdict import decide, no_bridge, refuses
from torchskew.guard.wire import GREETING, HELLO, MOST_HELLO, OPENING, PEEK, frame, marked_nonce, unframe

# What accept() says where this process has no room for a connection; anything else is one connection's own trouble.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Host:
    """Collects hellos on one port that takes bytes from anyone.

    Sizes, counts and times are bounded, and a connection that says nothing sensible in time is reset. Stock clients
    are held unanswered: as with a port that doesn't listen yet, they wait.
    """

    pending_limit, pending_seconds = 512, 5.0

    def __init__(self, server: socket.socket, place: Place, mine: Hello, secret: bytes, policy: str) -> None:
        """The server listens; mine is this rank's own hello."""
        self.server, self.place, self.mine, self.secret, self.policy = server, place, mine, secret, policy
        self.selector = selectors.DefaultSelector()
        self.pending: dict[socket.socket, Peer] = {}
        self.arrivals, self.stock = Arrivals(place.world), StockClients()
        self.bridged = False  # a bridge has the port

    def gather(self, until: Pace) -> Roster:
        """Wait for every rank until the deadline; less where the group is wrong or stock clients come instead."""
        self.open()
        while not self.arrivals.complete():
            now = time.monotonic()
            proven = until.proven(self.stock.first)
            strict_stranger = self.secret and until.mode == "strict"
            limit = min(until.deadline, self.arrivals.wronged + 1.0, until.deadline if strict_stranger else proven)
            if now >= limit:
                break
            self.serve(min(limit - now, 0.25))
        roster = self.roster()
        roster["aside"] = until.aside_now()
        return roster

    def open(self) -> None:
        """From now on ranks are answered."""
        self.server.setblocking(False)
        self.selector.register(self.server, selectors.EVENT_READ)

    def serve(self, seconds: float) -> None:
        """Read from whoever sent something, for these seconds at most."""
        for key, _ in self.selector.select(seconds):
            if key.fileobj is self.server:
                self._accept()
            elif key.data.conn.fileno() >= 0:
                self._read(key.data)
        self._expire()

    def roster(self) -> Roster:
        """Who is here so far."""
        roster = roster_of([self.mine, *self.arrivals.hellos()], self.policy, self.stock.knocks)
        roster["where"] = shown(str(self.place))
        return roster

    def bridge(self, roster: Roster, until: Pace) -> None:
        """Where these ranks can't mix and a bridge helps, give it this port; the roster says so, or why there is none.

        Every rank has reached this port, so no firewall is between them and the bridge.
        """
        objections = decide(roster)
        if refuses(objections, until.mode, bool(roster["aside"])) and not no_bridge(roster, objections):
            roster["bridge"] = host_bridge(self.server, max(1.0, until.deadline - time.monotonic()))
            self.bridged = roster["bridge"].isdigit()

    def _accept(self) -> None:
        """Take what came; a connection that ended before it was taken ends nothing else."""
        for _ in range(128):
            try:
                conn, _ = self.server.accept()
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno in _NO_ROOM:
                    self._make_room()
                continue
            try:
                conn.setblocking(False)
                tune(conn)
                self.selector.register(conn, selectors.EVENT_READ, Peer(conn))
            except OSError:
                reset(conn)
                continue
            self._admit(self.selector.get_key(conn).data)

    def _admit(self, peer: Peer) -> None:
        """A connection that may be anyone's."""
        self.pending[peer.conn] = peer
        if len(self.pending) > max(self.pending_limit, self.place.world):
            self._evict()
        if peer.conn.fileno() >= 0:
            self._read(peer)

    def _make_room(self) -> None:
        """Without room for a connection: drop an undecided one, or wait for a moment."""
        if self.pending:
            self._evict()
        else:
            time.sleep(0.01)

    def _evict(self) -> None:
        """Make room for a newcomer: drop the oldest that sent nothing, else the oldest."""
        silent = (peer for peer in self.pending.values() if not peer.nonces)
        self._drop(next(silent, next(iter(self.pending.values()))))

    def _expire(self) -> None:
        """Drop connections that have been undecided for too long."""
        old = time.monotonic() - self.pending_seconds
        while self.pending and next(iter(self.pending.values())).since < old:
            self._drop(next(iter(self.pending.values())))

    def _drop(self, peer: Peer) -> None:
        self.pending.pop(peer.conn, None)
        self.arrivals.remove(peer)
        if peer.conn.fileno() >= 0:
            self.selector.unregister(peer.conn)
            reset(peer.conn)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.conn.recv(MOST_HELLO)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or peer.hello:
            self._drop(peer)  # it left, or it talks on after its hello
            return
        peer.data += data
        try:
            if not peer.nonces:
                self._open(peer)
            if peer.nonces:
                self._hear(peer)
        except (ValueError, OSError):
            self._drop(peer)

    def _open(self, peer: Peer) -> None:
        """The first bytes: a guard's opening is greeted, a stock client is recognised, anything else is refused."""
        start = peer.data[: len(HELLO)]
        if start in (HELLO, PEEK) and len(peer.data) >= OPENING:
            ours = marked_nonce()
            peer.peeks, peer.nonces = start == PEEK, peer.data[len(HELLO) : OPENING] + ours
            peer.data = peer.data[OPENING:]
            peer.conn.send(GREETING + ours)
        elif not (HELLO.startswith(start) or PEEK.startswith(start)):
            store_era = greeting_era(peer.data)
            if store_era == "":
                raise ValueError("junk")
            if store_era:
                self._hold(peer, store_era)

    def _hold(self, peer: Peer, store_era: str) -> None:
        """Leave a stock client unanswered until this rank's part is over."""
        if not self.stock.count(store_era):
            raise ValueError("too many")
        del self.pending[peer.conn]
        self.selector.unregister(peer.conn)
        self.stock.held.append(peer)

    def _hear(self, peer: Peer) -> None:
        """What follows the opening: a peek is answered with the roster so far, a hello counts its rank in."""
        if peer.peeks:
            self._answer_peek(peer)
            raise ValueError("answered")
        body = unframe(self.secret, peer.nonces, peer.data, MOST_HELLO)
        if body is None:
            return
        hello = read_hello(body)
        if hello is None or hello["port"] != self.place.port:
            raise ValueError("no hello, or of another group")
        if self.place.method == "c10d":
            if hello["job"] != self.mine["job"]:
                raise ValueError("of another job, whose agents may meet at the same store")
            hello = self.arrivals.numbered(hello)
        earlier = self.arrivals.earlier(hello)
        if earlier:
            self._drop(earlier)
        del self.pending[peer.conn]
        self.arrivals.add(peer, hello)

    def _answer_peek(self, peer: Peer) -> None:
        """Show who is here; where a secret is set, a stranger learns the group's size alone."""
        roster = roster_of([], self.policy) if self.secret else self.roster()
        roster["world"] = self.place.world
        peer.conn.send(frame(b"", peer.nonces, pack_roster(roster)))

    def send(self, roster: Roster, goes_on: bool, end: float) -> None:
        """Free the port first, so that no store's client lands on it; then send everyone the roster.

        Joiners that go on start once rank 0's store listens: an usher tells them, this rank goes on at once. On a port
        that no store needs, ranks that come during the init are answered as well.
        """
        frees_gil = self.mine["store"] not in HOLDS_GIL
        answers = frees_gil or self.place.method == "agent"  # no client of an agent's store waits in its constructor
        if goes_on and roster["missing"] and answers and self.server.getsockname()[1] != self.place.port:
            self._tell(list(self.arrivals.peers.values()), roster, min(end, time.monotonic() + 1.0))
            attend(self._answer_late, self._free_port)
            return
        self._free_port(relayed=goes_on)
        peers = list(self.arrivals.peers.values())
        if goes_on and self.place.method in DIRECT and frees_gil:
            self._deliver(peers, roster, min(end, time.monotonic() + 1.0))
            usher([peer.conn for peer in peers], self.place.port)
        else:
            self._tell(peers, roster, min(end, time.monotonic() + 2.0))

    def _deliver(self, peers: list[Peer], roster: Roster, until: float) -> None:
        body = pack_roster(roster)
        deliver([(peer.conn, frame(self.secret, peer.nonces, body)) for peer in peers], until)

    def _tell(self, peers: list[Peer], roster: Roster, until: float) -> None:
        """Send these the roster, let them go and part from them."""
        for peer in peers:
            with contextlib.suppress(KeyError, ValueError, RuntimeError):  # not there, or the selector is closed
                self.selector.unregister(peer.conn)
        self._deliver(peers, roster, until)
        part([peer.conn for peer in peers], until)

    def _answer_late(self, seconds: float) -> None:
        """Send who comes within these seconds all that is known, at once: the stock init waits for late ranks."""
        self.serve(seconds)
        late = [peer for peer in self.arrivals.peers.values() if peer.conn.fileno() >= 0]
        if late:
            roster = self.roster()
            roster["aside"] = 1
            for objection in decide(roster):
                if objection.proof:
                    say(self.place.rank, "a rank came late that can't join: %s" % objection.text)
            self._tell(late, roster, time.monotonic() + 0.05)

    def _free_port(self, *, relayed: bool = False) -> None:
        """Nobody finds this rank from now on. Who was not counted in is reset, or handed to the store that follows."""
        relayed = relayed and bool(self.stock.held)
        if relayed:
            self.serve(0.0)  # who came at the last moment
        self.selector.close()
        if self.bridged:
            self.server.close()  # what a reset sets would hold for the bridge's connections, too
        else:
            reset(self.server)
        stock = [*self.stock.held, *(peer for peer in self.pending.values() if not peer.nonces)]
        if relayed:
            with contextlib.suppress(OSError):
                relay([Caller(peer.conn, peer.data) for peer in stock], self.place.port)
        for peer in [*stock, *self.pending.values()]:
            if peer.conn.fileno() >= 0:
                reset(peer.conn)

    def abandon(self) -> None:
        """After a failure: no socket stays open, and no bridge."""
        if self.bridged:
            end_bridges()
        self._free_port()
        for peer in self.arrivals.peers.values():
            reset(peer.conn)
