"""The exchange through a store that init_process_group is given: each rank leaves its hello there, rank 0 a roster.

Only set, get of a key that is there, and add are used: a wait that times out can leave a store of 2.0 or older out of
step. Keys begin with torchskew/ and the number of this rank's inits through this store, so no earlier init counts.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import time
from typing import Any

from torchskew.guard.errors import Unverified
from torchskew.guard.hello import Hello, read_hello
from torchskew.guard.pace import Pace
from torchskew.guard.roster import MOST_ROSTER, Roster, names, pack_roster, roster_of, unpack_roster
from torchskew.guard.wire import MOST_HELLO, frame, unframe


class GivenStore:
    """A store as one rank uses it; RuntimeError where the store itself fails."""

    def __init__(self, store: Any, mine: Hello, secret: bytes, policy: str) -> None:
        """The store is torch's, connected; mine is this rank's hello."""
        self.store, self.mine, self.secret, self.policy = store, mine, secret, policy
        self.prefix, self.arrived = "", 0  # arrived: the ranks that rank 0 has heard

    def exchange(self, until: Pace) -> Roster:
        """The roster, on every rank."""
        rank = self.mine["rank"]
        self.prefix = "torchskew/%d/" % self.store.add("torchskew/inits/%d" % rank, 1)
        return self._gather(until) if rank == 0 else self._answer(until)

    def _gather(self, until: Pace) -> Roster:
        """Read each hello that comes before the deadline, and leave a roster for all of them."""
        hellos, late = {0: self.mine}, set(range(1, self.mine["world"]))
        pause = 0.002
        while late and time.monotonic() < until.deadline:
            for rank in [rank for rank in sorted(late) if self._has(str(rank))]:
                hello = read_hello(self._get(str(rank), MOST_HELLO))
                if hello is None or hello["rank"] != rank:
                    raise Unverified("rank %d left no hello that this guard can read in the store" % rank)
                hellos[rank] = hello
                late.remove(rank)
            time.sleep(pause if late else 0.0)
            pause = min(pause * 1.3, 0.1)
        roster = roster_of([hellos[rank] for rank in sorted(hellos)], self.policy)
        roster["where"], roster["aside"], self.arrived = "the given store", until.aside_now(), len(hellos) - 1
        self._put("roster", pack_roster(roster))
        return roster

    def _answer(self, until: Pace) -> Roster:
        """Leave this rank's hello, and wait for the roster."""
        self._put(str(self.mine["rank"]), json.dumps(self.mine).encode())
        pause, end = 0.002, min(until.end, until.deadline + min(1.0, 5 * until.settle))
        while not self._has("roster"):
            if time.monotonic() >= end:
                raise Unverified("rank 0 left no roster in the given store")
            time.sleep(pause)
            pause = min(pause * 1.3, 0.1)
        roster = unpack_roster(self._get("roster", MOST_ROSTER))
        with contextlib.suppress(Exception):  # rank 0's store may end as soon as it counted this, before it replies
            self.store.add(self.prefix + "read", 1)
        if not names(roster, self.mine["rank"]):
            raise Unverified("the roster in the given store is of another group")
        return roster

    def part(self, until: float) -> None:
        """Rank 0 waits until every rank has read the roster: the store may be its own, and end with it.

        The other ranks have all they need, and touch the store no more.
        """
        if self.mine["rank"]:
            return
        with contextlib.suppress(Exception):  # a store that is gone keeps nobody waiting
            while time.monotonic() < until and self.store.add(self.prefix + "read", 0) < self.arrived:
                time.sleep(0.002)

    def _put(self, name: str, body: bytes) -> None:
        """A value, and after it the sign that it is there."""
        framed = frame(self.secret, self.prefix.encode(), body)
        self.store.set(self.prefix + name, binascii.b2a_hex(framed).decode())
        self.store.add(self.prefix + name + "/set", 1)

    def _has(self, name: str) -> bool:
        return bool(self.store.add(self.prefix + name + "/set", 0))

    def _get(self, name: str, most: int) -> bytes:
        """What another rank left; ValueError where that is not whole and genuine."""
        value = self.store.get(self.prefix + name)
        return unframe(self.secret, self.prefix.encode(), binascii.a2b_hex(value), most) or b""
