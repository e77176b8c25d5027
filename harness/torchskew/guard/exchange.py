"""The exchange: rank 0 collects hellos, everyone gets the same roster, and everyone decides from it."""

from __future__ import annotations

import contextlib
import errno
import socket
import time

from torchskew.guard.folder import Folder
from torchskew.guard.hello import Hello
from torchskew.guard.host import Host
from torchskew.guard.joiner import Joiner
from torchskew.guard.pace import Pace, pace
from torchskew.guard.place import Place
from torchskew.guard.refusal import refusal
from torchskew.guard.roster import Roster
from torchskew.guard.settings import POLICIES, chosen, shared_secret
from torchskew.guard.sockets import bind
from torchskew.guard.stock import look
from torchskew.guard.verdict import decide


def exchange(place: Place, mine: Hello, seconds: float) -> Roster:
    """The roster of all ranks, the same on each of them; ProtocolVersionError where they may not form a group.

    seconds: until a rank that didn't come counts as missing; pace() has the other ends.
    """
    until, secret, policy = pace(seconds), shared_secret(), chosen("TORCHSKEW_GUARD_POLICY", POLICIES)
    if place.method == "file":
        roster = Folder(place, mine, secret, policy).exchange(until)
    else:
        server = _serve(place, until) if place.rank == 0 else None
        if server is None:
            roster = Joiner(place, mine, secret).ask(until)
        else:
            host = Host(server, place, mine, secret, policy)
            roster = host.gather(until)
            host.send(roster, not decide(roster))
    objections = decide(roster)
    if objections:
        raise refusal(roster, objections, place.rank)
    return roster


def _serve(place: Place, until: Pace) -> socket.socket | None:
    """A socket bound to the first port, or the second where the first is taken; None where a guard has it already."""
    while time.monotonic() < until.deadline:
        for port in [place.second] if place.method == "agent" else [place.port, place.second]:
            with contextlib.suppress(OSError):
                return bind(port)
            if port == place.port and look("localhost", port, 0.5).what == "guard":
                return None
        time.sleep(0.05)
    text = "rank 0 can't listen for hellos: ports %d and %d are taken. Set TORCHSKEW_GUARD_PORT to a free one."
    raise OSError(errno.EADDRINUSE, text % (place.port, place.second))
