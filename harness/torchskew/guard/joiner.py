"""The other ranks' side: a joiner says hello to rank 0, and recognises a stock store in its place."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from typing import NamedTuple, Optional

from torchskew.guard.errors import Unverified
from torchskew.guard.hello import Hello, hello_body
from torchskew.guard.notice import say
from torchskew.guard.pace import Pace
from torchskew.guard.place import AGENTS, DIRECT, Place
from torchskew.guard.refusal import refusal
from torchskew.guard.roster import Group, Roster, names, roster_of
from torchskew.guard.search import Line, greetings
from torchskew.guard.sockets import dial, read_greeting, receive, receive_roster
from torchskew.guard.stock import Listener, look
from torchskew.guard.table import HOLDS_GIL, SEEN, SERVES
from torchskew.guard.verdict import Objection, decide, refuses
from torchskew.guard.wire import HELLO, NONCE, frame, is_marked

NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EINVAL)  # the network has no way to the host
BUSY = 5.0  # seconds for a guard that is only busy
AGENT_PAUSE = 1.0  # seconds between looks at the port of an agent's store, where no guard is expected
LOOKS = 9  # times its patience is what a look for a store takes at most
HUNG_UP = "its guard closed the connection (%s). Is TORCHSKEW_GUARD_SECRET the same on every rank?"


class Sighting(NamedTuple):
    """A stock store on the first port, and when the attempt began that met it first."""

    store: Listener
    since: float


class Signs(NamedTuple):
    """What a joiner has seen so far, handed from attempt to attempt.

    taken: something else than a guard may have the first port. trouble: why the last attempt there failed. nameless:
    since when the host's name has no address. rejected: when a guard there first took a hello and gave no roster, which
    a port that is closed since then does not undo. silent: something there takes connections, and is no guard.
    """

    taken: bool
    trouble: str = "nothing listened"
    seen: Optional[Sighting] = None
    rejected: float = float("inf")
    nameless: float = float("inf")
    silent: bool = False

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

    def __init__(self, place: Place, mine: Hello, secret: bytes, reach: float = float("inf")) -> None:
        """Mine is this rank's hello; reach: seconds after which nobody is called any more."""
        self.place, self.secret, self.mine, self.reach = place, secret, mine, reach

    @property
    def noun(self) -> str:
        """What this process is."""
        return "agent" if self.place.method in AGENTS else "rank"

    def ask(self, until: Pace) -> Roster:
        """The roster that rank 0 sends; ProtocolVersionError or Unverified when no guard sends one."""
        signs, pause, asked, called, noted = self.nothing_seen(), 0.01, 0.0, 0.0, False
        agent, calls_end = self.place.method == "agent", min(until.deadline, time.monotonic() + self.reach)
        while time.monotonic() < (min(calls_end, until.handover) if signs.silent else calls_end):
            roster = None
            if signs.taken or until.strays(asked):
                asked = time.monotonic()
                roster = self.among_spares(until)
            if roster is None and (not agent or time.monotonic() >= called + AGENT_PAUSE):
                called = time.monotonic()
                roster, signs = self.attempt(Attempt(self.place.port, called, until, until.greeting), signs)
            if roster is not None:
                return roster
            signs = self._weighed(signs, until)
            if time.monotonic() > signs.nameless + 1.0 and not noted:
                say(self.place.rank, signs.trouble + ", and is tried again", self.noun)
                noted = True
            rejected = signs.rejected if until.mode != "strict" else float("inf")
            next_step = min(calls_end, until.proven(min(signs.since, rejected)))
            time.sleep(min(pause, max(0.0, next_step - time.monotonic())))
            pause = min(pause * 1.5, 0.25)
        raise self._nobody(signs, until)

    def _weighed(self, signs: Signs, until: Pace) -> Signs:
        """Raises when a sign has held long enough to end the wait; the signs otherwise."""
        if time.monotonic() >= until.proven(signs.since):
            signs = self._looked(signs, signs.since, until)
            if signs.seen:
                raise self._one_sided(signs.seen.store, until)
        if time.monotonic() >= until.proven(signs.rejected) and until.mode != "strict":
            raise Unverified("the releases of the other ranks are unknown: %s" % signs.trouble)
        return signs

    def among_spares(self, until: Pace) -> Roster | None:
        """The roster of this group's guard on one of the spare ports; what else listens there is left alone."""
        seconds = min(2 * until.greeting, max(0.001, until.deadline - time.monotonic()))
        with contextlib.suppress(OSError):
            for line in greetings(self.place.host, self.place.spares, seconds):
                with contextlib.suppress(OSError, ValueError):
                    return self._roster(line, until, marked=is_marked(line.nonces[NONCE:]))
        return None

    def nothing_seen(self) -> Signs:
        """The signs before the first attempt: under torchrun the agent's store has the first port."""
        return Signs(taken=self.place.method == "agent")

    def attempt(self, attempt: Attempt, signs: Signs) -> tuple[Roster | None, Signs]:
        """The roster, None where no guard of this group has the port; and the signs after it."""
        line, signs = self._reach(attempt, signs)
        if line is None:
            return None, signs
        # A guard without the mark is of 0.1, or one that takes no hello but a whole one: the next try has that.
        marked = is_marked(line.nonces[NONCE:]) or signs.rejected < float("inf")
        try:
            return self._roster(line, attempt.until, marked=marked), signs
        except (OSError, ValueError) as problem:
            since = min(signs.rejected, time.monotonic())
            return None, signs._replace(trouble=HUNG_UP % problem, rejected=since, silent=False)

    def _roster(self, line: Line, until: Pace, *, marked: bool) -> Roster:
        """What rank 0 sends over a line, once the joiners may go on; ValueError or OSError when it sends none."""
        with contextlib.closing(line.conn):
            line.conn.settimeout(min(BUSY, until.left))
            line.conn.sendall(frame(self.secret, line.nonces, hello_body(self.mine, marked=marked)))
            roster = receive_roster(line.conn, self.secret, line.nonces, min(until.end, until.deadline + 1.0))
            if not self._listed(roster):
                raise ValueError("its roster is of another group")
            if not refuses(decide(roster), until.mode, bool(roster["aside"])):
                self._await_store(line.conn, roster["groups"][0], min(until.end, time.monotonic() + 1.0))
        return roster

    def _listed(self, roster: Roster) -> bool:
        """Whether a roster is of this rank's group; an agent under c10d does not know its number."""
        if self.place.method != "c10d":
            return names(roster, self.place.rank)
        return roster["more"] > 0 or any(group["git"] == self.mine["git"] for group in roster["groups"])

    def _reach(self, attempt: Attempt, signs: Signs) -> tuple[Line | None, Signs]:
        """A connection to the guard on a port, None where none greets; and the signs after it."""
        conn = None
        try:
            seconds = max(0.01, min(BUSY, attempt.until.deadline - time.monotonic()))
            conn, nonce = dial(self.place.host, attempt.port, HELLO, seconds)
            try:
                return Line(conn, nonce + read_greeting(conn, attempt.patience)), signs
            except socket.timeout:
                signs = self._examined(attempt, signs)
                seconds = min(BUSY, attempt.until.handover - time.monotonic())
                if seconds <= 0 or signs.seen is not None or self.place.method == "agent":
                    raise
                return Line(conn, nonce + read_greeting(conn, seconds)), signs
        except (OSError, ValueError) as problem:
            if conn is not None:
                conn.close()
            signs = signs._replace(silent=conn is not None and self.place.method in DIRECT)
            return None, self._unanswered(attempt, problem, signs)

    def _unanswered(self, attempt: Attempt, problem: Exception, signs: Signs) -> Signs:
        """The signs after an attempt that reached no guard."""
        refused, nameless = isinstance(problem, ConnectionRefusedError), isinstance(problem, socket.gaierror)
        away = isinstance(problem, OSError) and problem.errno in NO_WAY
        trouble = "nothing listened" if refused else str(problem) if away else "no guard answered"
        if nameless:
            trouble = "the name %s does not resolve on this %s (%s)" % (self.place.host, self.noun, problem)
        since = min(signs.nameless, attempt.began) if nameless else float("inf")
        if signs.rejected == float("inf"):
            signs = signs._replace(trouble=trouble)
        signs = signs._replace(nameless=since)
        if refused or nameless or away:
            return signs._replace(taken=self.place.method == "agent")
        return self._examined(attempt, signs)

    def _examined(self, attempt: Attempt, signs: Signs) -> Signs:
        """The signs after the port answered, but not as a guard: a store is looked for."""
        signs, until = signs._replace(taken=True), attempt.until
        late = not until.aside and time.monotonic() + LOOKS * until.greeting > until.handover
        return signs if signs.seen or late else self._looked(signs, attempt.began, until)

    def _looked(self, signs: Signs, since: float, until: Pace) -> Signs:
        """The signs after a look for a store on the first port; an agent's store may be there, and proves nothing."""
        if self.place.method not in DIRECT or until.left < LOOKS * until.greeting:
            return signs._replace(seen=None)
        listener = look(self.place.host, self.place.port, until.greeting)
        return signs._replace(seen=Sighting(listener, since) if listener.what == "store" else None)

    def _await_store(self, conn: socket.socket, host: Group, until: float) -> None:
        """Until rank 0's store listens, a second at most: a client that comes too early pauses for up to a second."""
        with contextlib.suppress(OSError):
            receive(conn, 1, until)
        conn.close()
        while host["method"] in DIRECT and host["store"] in HOLDS_GIL and time.monotonic() < until:
            with contextlib.suppress(OSError):
                seconds = max(0.01, until - time.monotonic())
                socket.create_connection((self.place.host, self.place.port), timeout=seconds).close()
                return
            time.sleep(0.002)

    def _one_sided(self, store: Listener, until: Pace) -> Exception:
        """A store that this release's client can't use is proof; any other may be the one that it should use."""
        text = "no guard answers at %s, but a TCPStore %s (%s): %s 0 runs without the guard, or has formed its group"
        text %= self.place, SEEN[store.era], store.backend, self.noun
        foreign = bool(self.mine["serves"]) and self.mine["store"] not in SERVES.get(store.era, ())
        return self._ended(Objection("one-sided", text, proof=foreign), {store.era: 1}, until.mode, aside=True)

    def _nobody(self, signs: Signs, until: Pace) -> Exception:
        text = "%s 0 never answered at %s: %s" % (self.noun, self.place, signs.trouble)
        knocks = {signs.seen.store.era: 1} if signs.seen else {}
        aside = until.aside or signs.silent
        return self._ended(Objection("missing", text, proof=False), knocks, until.mode, aside=aside)

    def _ended(self, objection: Objection, knocks: dict[str, int], mode: str, *, aside: bool) -> Exception:
        """What the wait ends with: a refusal, or one line where the stock init goes on."""
        if not refuses([objection], mode, aside):
            return Unverified(objection.text)
        roster = roster_of([self.mine], "era", knocks)
        roster["missing"] = "0"
        return refusal(roster, [objection], -1 if self.place.method == "c10d" else self.place.rank)
