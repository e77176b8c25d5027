"""The exchange over a shared folder, for file://: rank 0 opens a session, the others answer that one."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from typing import Iterator

from torchskew.guard.errors import Unverified
from torchskew.guard.hello import Hello, hello_body, identity, read_hello, shown
from torchskew.guard.host import Host
from torchskew.guard.joiner import Attempt, Joiner
from torchskew.guard.pace import Pace
from torchskew.guard.place import Place
from torchskew.guard.roster import MOST_ROSTER, Roster, names, pack_roster, roster_of, unpack_heard, within
from torchskew.guard.sockets import claim_first, peek
from torchskew.guard.wire import MOST_HELLO, NONCE, frame, is_marked, marked_nonce, unframe


class Folder:
    """The files beside the init file, seen from one rank.

    A file left by an earlier init never counts: a hello is bound to the session, the roster to every hello's nonce.
    """

    def __init__(self, place: Place, mine: Hello, secret: bytes, policy: str) -> None:
        """The folder is beside the init file."""
        self.place, self.mine, self.secret, self.policy = place, mine, secret, policy
        self.folder = place.path + ".torchskew"
        self.began = time.time()
        self.unread = float("inf")  # since when another rank's file is there that this guard can't read
        self.strange: set[str] = set()  # the names of such files, for rank 0
        self.before = b""  # the table that was there when this rank said hello: it answers an earlier one

    def exchange(self, until: Pace) -> Roster:
        """The roster, on every rank."""
        return (self._gather if self.mine["rank"] == 0 else self._answer)(until)

    def _waiting(self, until: Pace) -> Iterator[None]:
        """Polls until the deadline, or until it is proven that a stock rank wrote the init file."""
        pause, stock = 0.002, float("inf")
        while time.monotonic() < min(until.deadline, until.proven(stock), self._given_up(until)):
            yield
            if stock == float("inf") and self._stock():
                stock = time.monotonic()
            time.sleep(pause)
            pause = min(pause * 1.2, 0.1)

    def _given_up(self, until: Pace) -> float:
        """When a file that can't be read ends the wait: it is of a guard with another secret, or of another version."""
        return until.deadline if until.mode == "strict" else until.proven(self.unread)

    def _stock(self) -> bool:
        """Whether a rank without the guard has begun: nobody with it touches the init file before the roster."""
        with contextlib.suppress(OSError):
            status = os.stat(self.place.path)
            return status.st_size > 0 and status.st_mtime > self.began - 60
        return False

    # Rank 0.

    def _gather(self, until: Pace) -> Roster:
        """Open a session, collect hellos, leave the roster for everyone that said hello, and clear the folder."""
        self._remove(*self._names())
        session, heard = marked_nonce(), {}  # type: bytes, dict[str, Hello]
        self._put("session", session)
        hellos, door = [self.mine], None  # type: list[Hello], Host | None
        try:
            for _ in self._waiting(until):
                self._hear(session, heard)
                door = door or self._open_door(until)
                if door:
                    door.serve(0.0)
                came = {identity(hello): hello for hello in [*heard.values(), *_through(door)]}
                hellos = [self.mine, *came.values()]
                if len(hellos) >= self.place.world:
                    break
            roster = self._answer_all(session, hellos, set(heard), until)
            if door:
                door.send(roster, goes_on=False, end=until.end)
        except BaseException:
            if door:
                door.abandon()
            raise
        self._clear(set(heard) | self.strange, until)
        return roster

    def _answer_all(self, session: bytes, hellos: list[Hello], heard: set[str], until: Pace) -> Roster:
        """The roster, left for everyone that said hello in the folder."""
        knocks = {"file": 1} if len(hellos) < self.place.world and self._stock() else {}
        roster = roster_of(hellos, self.policy, knocks)
        roster["where"], roster["aside"] = shown(str(self.place)), until.aside_now()
        self._put("table", frame(self.secret, session, pack_roster(dict(roster, heard=sorted(heard)))))
        return roster

    def _open_door(self, until: Pace) -> Host | None:
        """When ranks are late: where those that meet by address find this one, if the environment names an address."""
        if not self.place.port or time.monotonic() < until.proof:
            return None
        try:
            door = Host(claim_first(self.place.spares), self.place, self.mine, self.secret, self.policy)
        except OSError:  # something else has these ports
            return None
        door.open()
        return door

    def _hear(self, session: bytes, heard: dict[str, Hello]) -> None:
        """Read the hellos that are new."""
        for name in self._names()[: 2 * self.place.world + 64]:
            if len(name) != 2 * NONCE or name in heard or not re.match("[0-9a-f]+$", name):
                continue
            hello = self._hello(session, name)
            if hello:
                heard[name] = hello
            else:
                self.strange.add(name)
                self.unread = min(self.unread, time.monotonic())

    def _hello(self, session: bytes, name: str) -> Hello | None:
        """The hello in a rank's file, None where there is none of this session that can be read."""
        with contextlib.suppress(ValueError):
            data = _bytes_of(self._at(name), MOST_HELLO)
            return read_hello(unframe(self.secret, session + bytes.fromhex(name), data, MOST_HELLO) or b"")
        return None

    def _clear(self, heard: set[str], until: Pace) -> None:
        """Remove everything once each rank has read the roster, or after a second; the next session does the rest."""
        end = min(until.end, time.monotonic() + 1.0)
        while time.monotonic() < end and heard & set(self._names()):
            time.sleep(0.002)
        self._remove("session", "table")

    # The other ranks.

    def _answer(self, until: Pace) -> Roster:
        """Say hello to each session that opens, until a roster names this hello."""
        nonce, answered, asked = os.urandom(NONCE), b"", 0.0
        name = nonce.hex()
        for _ in self._waiting(until):
            session = _bytes_of(self._at("session"), NONCE)
            if len(session) == NONCE and session != answered:
                answered, self.unread, self.before = session, float("inf"), _bytes_of(self._at("table"), MOST_ROSTER)
                body = hello_body(self.mine, marked=is_marked(session))
                self._put(name, frame(self.secret, session + nonce, body))
            roster = self._roster(answered, name)
            if roster is None and self.place.port and until.strays(asked):
                asked = time.monotonic()
                roster = self._elsewhere(until)
            if roster is not None:
                self._remove(name)
                return roster
        self._remove(name)
        if time.monotonic() >= self._given_up(until):
            raise Unverified("rank 0 left no roster for this rank at %s that this guard can read" % str(self.place))
        alone = roster_of([self.mine], self.policy, {"file": 1} if self._stock() else {})
        alone["missing"], alone["where"], alone["aside"] = "0", shown(str(self.place)), until.aside_now()
        return alone

    def _roster(self, session: bytes, name: str) -> Roster | None:
        """The roster of this session, None while there is none that names this hello."""
        data = _bytes_of(self._at("table"), MOST_ROSTER)
        if not session or data in (b"", self.before):
            return None
        with contextlib.suppress(ValueError):
            roster, heard = unpack_heard(unframe(self.secret, session, data, MOST_ROSTER) or b"")
            if name in heard and names(roster, self.place.rank):
                return roster
        self.unread = min(self.unread, time.monotonic())
        return None

    def _elsewhere(self, until: Pace) -> Roster | None:
        """The roster of a rank 0 that meets by address and misses this rank, at the address in the environment."""
        for port in (self.place.port, *self.place.spares):
            if until.left < 4 * until.greeting:
                break
            with contextlib.suppress(OSError, ValueError):
                roster = peek(self.place.host, port, until.greeting)
                method = [group["method"] for group in roster["groups"][:1]]
                awaited = bool(self.secret) or within(self.place.rank, roster["missing"])
                if awaited and method != ["file"] and roster["world"] == self.place.world:
                    joiner = Joiner(self.place, self.mine, self.secret)
                    attempt = Attempt(port, time.monotonic(), until, patience=0.1)
                    return joiner.attempt(attempt, joiner.nothing_seen())[0]
        return None

    # Files.

    def _at(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _names(self) -> list[str]:
        with contextlib.suppress(OSError):
            return os.listdir(self.folder)
        return []

    def _put(self, name: str, data: bytes) -> None:
        """A whole file or none, for readers on any machine; a reader of an earlier init may remove the folder."""
        part = self._at("%s.%d.part" % (name, os.getpid()))
        for last in (False, False, True):
            try:
                os.makedirs(self.folder, exist_ok=True)
                with open(part, "wb") as file:
                    file.write(data)
                os.replace(part, self._at(name))
            except OSError:
                if last:
                    raise
                continue
            return

    def _remove(self, *names: str) -> None:
        """Remove these files, and the folder when it is empty then."""
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(self._at(name))
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)


def _through(door: Host | None) -> list[Hello]:
    """The hellos that came by address."""
    return door.arrivals.hellos() if door else []


def _bytes_of(path: str, most: int) -> bytes:
    """The file's bytes, b"" when it isn't there or is no file: to open a pipe would block."""
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            return file.read(most) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return b""
