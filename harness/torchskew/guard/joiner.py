"""The other ranks' side: a joiner says hello to rank 0, and recognises a stock store in its place."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import NamedTuple, Optional

from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.hello import Hello
from torchskew.guard.pace import Pace
from torchskew.guard.place import Place
from torchskew.guard.refusal import refusal
from torchskew.guard.roster import Group, Roster, roster_of
from torchskew.guard.sockets import dial, read_greeting, receive, receive_roster
from torchskew.guard.stock import Listener, look
from torchskew.guard.table import HOLDS_GIL, SEEN
from torchskew.guard.verdict import Objection, decide
from torchskew.guard.wire import HELLO, frame

BUSY = 5.0  # seconds for a guard that is only busy
HUNG_UP = "its guard closed the connection (%s). Is TORCHSKEW_GUARD_SECRET the same on every rank?"


class Line(NamedTuple):
    """An open connection to a guard that has greeted, and the nonces of both sides."""

    conn: socket.socket
    nonces: bytes


class Sighting(NamedTuple):
    """A stock store on the first port, and when the attempt began that met it first."""

    store: Listener
    since: float


class Signs(NamedTuple):
    """What a joiner has seen so far, handed from attempt to attempt.

    taken: something else than a guard may have the first port. trouble: why the last attempt there failed.
    """

    taken: bool
    trouble: str = "nothing listened"
    seen: Optional[Sighting] = None

    @property
    def since(self) -> float:
        """Since when a store stands where the guard should be; infinity where none does."""
        return self.seen.since if self.seen else float("inf")


class Attempt(NamedTuple):
    """One try at a port: when it began, the pace of the whole exchange, and the seconds in which a guard greets."""

    port: int
    began: float
    until: Pace
    patience: float


class Joiner:
    """Reaches rank 0's guard; has no state of its own, what it sees on the way is in the signs."""

    def __init__(self, place: Place, mine: Hello, secret: bytes) -> None:
        """Mine is this rank's hello."""
        self.place, self.secret, self.mine = place, secret, mine
        self.body = json.dumps(mine).encode()

    def ask(self, until: Pace) -> Roster:
        """The roster that rank 0 sends; ProtocolVersionError when no guard is there."""
        signs, pause, asked = self.nothing_seen(), 0.01, 0.0
        while time.monotonic() < until.deadline:
            for second in (True, False) if self.place.method == "agent" else (False, True):
                if second and not (signs.taken or until.strays(asked)):
                    continue
                asked = time.monotonic() if second else asked
                port = self.place.second if second else self.place.port
                roster, signs = self.attempt(Attempt(port, time.monotonic(), until, until.greeting), signs)
                if roster is not None:
                    return roster
            if time.monotonic() >= until.proven(signs.since):
                signs = self._looked(signs, signs.since, until.greeting)
                if signs.seen:
                    raise self._one_sided(signs.seen.store)
            next_step = min(until.deadline, until.proven(signs.since))
            time.sleep(min(pause, max(0.0, next_step - time.monotonic())))
            pause = min(pause * 1.5, 0.25)
        raise self._missing(signs)

    def nothing_seen(self) -> Signs:
        """The signs before the first attempt: under torchrun the agent's store has the first port."""
        return Signs(taken=self.place.method == "agent")

    def attempt(self, attempt: Attempt, signs: Signs) -> tuple[Roster | None, Signs]:
        """The roster, None where no guard of this group has the port; and the signs after it."""
        line, signs = self._reach(attempt, signs)
        if line is None:
            return None, signs
        with contextlib.closing(line.conn):
            try:
                line.conn.sendall(frame(self.secret, line.nonces, self.body))
                roster = receive_roster(line.conn, self.secret, line.nonces, attempt.until.deadline + 1.0)
                if not decide(roster):
                    self._await_store(line.conn, roster["groups"][0])
            except (OSError, ValueError) as problem:
                ours = signs.taken or attempt.port == self.place.port
                return None, signs._replace(trouble=HUNG_UP % problem) if ours else signs
        return roster, signs

    def _reach(self, attempt: Attempt, signs: Signs) -> tuple[Line | None, Signs]:
        """A connection to the guard on a port, None where none greets; and the signs after it."""
        conn = None
        try:
            conn, nonce = dial(self.place.host, attempt.port, HELLO, BUSY)
            try:
                return Line(conn, nonce + read_greeting(conn, attempt.patience)), signs
            except socket.timeout:
                signs = self._examined(attempt, signs)
                seconds = min(BUSY, attempt.until.deadline - time.monotonic())
                if seconds <= 0 or self._occupied(attempt.port, signs):
                    raise
                return Line(conn, nonce + read_greeting(conn, seconds)), signs
        except (OSError, ValueError) as problem:
            if conn is not None:
                conn.close()
            return None, self._unanswered(attempt, problem, signs)

    def _unanswered(self, attempt: Attempt, problem: Exception, signs: Signs) -> Signs:
        """The signs after an attempt that reached no guard."""
        first, refused = attempt.port == self.place.port, isinstance(problem, ConnectionRefusedError)
        absent = refused or isinstance(problem, socket.gaierror)
        if first:
            trouble = "nothing listened" if refused else str(problem) if absent else "no guard answered"
            signs = signs._replace(trouble=trouble)
        if absent:
            return signs._replace(taken=signs.taken and not first)
        return self._examined(attempt, signs)

    def _examined(self, attempt: Attempt, signs: Signs) -> Signs:
        """The signs after a port answered, but not as a guard: on the first one a store is looked for."""
        if attempt.port != self.place.port:
            return signs
        signs = signs._replace(taken=True)
        return signs if signs.seen else self._looked(signs, attempt.began, attempt.patience)

    def _looked(self, signs: Signs, since: float, patience: float) -> Signs:
        """The signs after a look for a store on the first port; an agent's store may be there, and proves nothing."""
        if self.place.method != "tcp":
            return signs._replace(seen=None)
        listener = look(self.place.host, self.place.port, patience)
        return signs._replace(seen=Sighting(listener, since) if listener.what == "store" else None)

    def _occupied(self, port: int, signs: Signs) -> bool:
        """Whether a port that doesn't greet belongs to something else than a guard that is only busy."""
        if port != self.place.port:
            return self.place.method != "agent"
        return signs.seen is not None or self.place.method == "agent"

    def _await_store(self, conn: socket.socket, host: Group) -> None:
        """Until rank 0's store listens, a second at most: a client that comes too early pauses for up to a second."""
        until = time.monotonic() + 1.0
        with contextlib.suppress(OSError):
            receive(conn, 1, until)
        conn.close()
        while host["method"] == "tcp" and host["store"] in HOLDS_GIL and time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection((self.place.host, self.place.port), timeout=1.0).close()
                return
            time.sleep(0.002)

    def _one_sided(self, store: Listener) -> ProtocolVersionError:
        text = "no guard answers at %s, but a TCPStore %s (%s): rank 0 runs without the guard, or has formed its group"
        return self._refusal("one-sided", text % (self.place, SEEN[store.era], store.backend), {store.era: 1})

    def _missing(self, signs: Signs) -> ProtocolVersionError:
        text = "rank 0 never answered at %s: %s" % (self.place, signs.trouble)
        return self._refusal("missing", text, {signs.seen.store.era: 1} if signs.seen else None)

    def _refusal(self, kind: str, text: str, knocks: dict[str, int] | None) -> ProtocolVersionError:
        roster = roster_of([self.mine], "era", knocks)
        roster["missing"] = "0"
        return refusal(roster, [Objection(kind, text)], self.mine["rank"])
