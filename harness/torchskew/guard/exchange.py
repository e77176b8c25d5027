"""The exchange: rank 0 collects hellos, everyone gets the same roster, and everyone decides from it."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, NamedTuple, cast

from torchskew.guard.errors import Unverified
from torchskew.guard.folder import Folder
from torchskew.guard.given_store import GivenStore
from torchskew.guard.hello import Hello
from torchskew.guard.host import Host
from torchskew.guard.joiner import Joiner
from torchskew.guard.pace import Pace, pace
from torchskew.guard.place import Place
from torchskew.guard.refusal import refusal
from torchskew.guard.resolve import numeric
from torchskew.guard.roster import Roster, number_in
from torchskew.guard.settings import POLICIES, chosen, shared_secret
from torchskew.guard.sockets import claim, claim_first, peek
from torchskew.guard.verdict import decide, refuses


def exchange(place: Place, mine: Hello, seconds: float, mode: str = "enforce", reach: float = float("inf")) -> Roster:
    """The roster of all ranks, the same on each of them, where they may form a group.

    seconds: the init's own timeout; pace() has the other ends. reach: seconds after which nobody is called any more.
    Raises ProtocolVersionError where they may not form a group, and Unverified where that could not be found out and
    the stock init goes on.
    """
    until, policy = pace(seconds, mode), chosen("TORCHSKEW_GUARD_POLICY", POLICIES)
    _ = place.spares  # a misspelt port is an error at once, and not only where it is needed
    try:
        if mode == "warn" and place.host:
            place = place._replace(host=numeric(place.host, 0.6 * (until.deadline - time.monotonic())))
        roster = _roster(Ask(place, mine, seconds, policy, reach), until)
    except (OSError, MemoryError) as problem:
        raise Unverified("the releases of the other ranks could not be compared: %s" % problem) from problem
    return _admitted(roster, mode, number_in(roster, mine) if place.method == "c10d" else place.rank)


def exchange_in(store: Any, mine: Hello, seconds: float, mode: str = "enforce") -> Roster:
    """As exchange(), through a store that the init is given."""
    policy, until = chosen("TORCHSKEW_GUARD_POLICY", POLICIES), pace(seconds, mode).apart(seconds)
    given = GivenStore(store, mine, shared_secret(), policy)
    roster = given.exchange(until)
    if refuses(decide(roster), mode, bool(roster["aside"])):
        given.part(min(until.end, time.monotonic() + 5.0))
    return _admitted(roster, mode, mine["rank"])


def _admitted(roster: Roster, mode: str, rank: int) -> Roster:
    """The roster itself, where its ranks may form a group."""
    objections = decide(roster)
    if refuses(objections, mode, bool(roster["aside"])):
        raise refusal(roster, objections, rank)
    if objections:
        raise Unverified(objections[-1].text)
    return roster


class Ask(NamedTuple):
    """What one rank knows before it hears from the others; seconds: the init's own timeout."""

    place: Place
    mine: Hello
    seconds: float
    policy: str
    reach: float


def _roster(ask: Ask, until: Pace) -> Roster:
    """What rank 0 says, by way of a folder or an address."""
    place, mine, secret = ask.place, ask.mine, shared_secret()
    if place.method == "file":
        return Folder(place, mine, secret, ask.policy).exchange(until)
    server = _serve(place) if place.rank == 0 else None
    if place.method == "agent" or (server and server.getsockname()[1] != place.port):
        until = until.apart(ask.seconds)
    if server is None:
        if place.method == "c10d":
            place, mine, until = place._replace(rank=1), cast("Hello", {**mine, "rank": 1}), until.at_once()
        return Joiner(place, mine, secret, ask.reach).ask(until)
    host = Host(server, place, mine, secret, ask.policy)
    try:
        roster = host.gather(until)
        host.bridge(roster, until)
        host.send(roster, not refuses(decide(roster), until.mode, bool(roster["aside"])), until.end)
    except BaseException:
        host.abandon()
        raise
    return roster


def _serve(place: Place) -> socket.socket | None:
    """A listening socket on the first port or a spare one; None where a guard has the first: a second rank 0 is here.

    Under c10d several agents may think that they are number 0; whoever gets the port is. OSError where no port is
    free.
    """
    if place.method != "agent":
        with contextlib.suppress(OSError):
            return claim(place.port)
        with contextlib.suppress(OSError, ValueError):
            peek("127.0.0.1", place.port, 0.1)
            return None
    if place.method == "c10d":
        return None
    try:
        return claim_first(place.spares)
    except OSError as problem:
        text = "rank 0 can't listen for hellos: port %d and the spare ports %s are taken (%s)"
        raise OSError(text % (place.port, ", ".join(map(str, place.spares)), problem.strerror)) from problem
