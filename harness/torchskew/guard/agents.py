"""torchrun's agents: they say hello before the store of their rendezvous, as ranks do before theirs."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import time
from typing import Any, Callable, NamedTuple, cast

from torchskew.guard.aside import Seat
from torchskew.guard.bridge import Crossing, bridge_client, crossing, readiness
from torchskew.guard.budget import left_of
from torchskew.guard.exchange import exchange
from torchskew.guard.hello import FIELDS, Hello, own_hello, shown
from torchskew.guard.notes import bridge_note
from torchskew.guard.notice import say
from torchskew.guard.place import Place
from torchskew.guard.resolve import within_time
from torchskew.guard.settings import MODES, announce, chosen
from torchskew.guard.usher import dismiss, expect

_C10D_PORT, _C10D_JOIN, _C10D_READ = 29400, 600, 60  # torch's defaults: the last two in seconds


class Rendezvous(NamedTuple):
    """How the agents meet, seen from one. seconds: the rendezvous' timeout; reach: of them, until agent 0 is there."""

    place: Place
    job: str
    seconds: float
    reach: float = float("inf")


def check_agents(look: Callable[[], Rendezvous], bridges: list[Crossing] | None = None) -> float:
    """Compare with the other agents, as check() does with the other ranks; the seconds that led to nothing.

    look: finds out where they meet, in seconds where it asks for names. bridges: gets the bridge where they meet at
    one; None where they can't. Raises ProtocolVersionError as check() does.
    """
    mode, began = chosen("TORCHSKEW_GUARD", MODES), time.monotonic()
    if mode == "off":
        return 0.0
    with Seat(mode) as seat:
        meeting = look() if mode != "warn" else within_time(0.5, look)
        seat.place = meeting.place
        if meeting.place.world >= 2:
            mine = _hello(meeting)
            mine["bridge"] = readiness(mine, mode, led=bridges is not None)
            roster = exchange(meeting.place, mine, meeting.seconds, mode, meeting.reach)
            bridge = crossing(meeting.place, mine, roster)
            if bridge is not None and bridges is not None:
                bridges.append(bridge)
                say(-1 if meeting.place.method == "c10d" else bridge.rank, bridge_note(roster), "agent")
        return 0.0
    return time.monotonic() - began


def _hello(meeting: Rendezvous) -> Hello:
    """An agent's hello: its job is not in its environment."""
    hello = own_hello(meeting.place)
    return cast("Hello", {**hello, "job": shown(meeting.job)[: FIELDS["job"][1]]})


def guarded_static(stock: Callable[..., Any]) -> Callable[..., Any]:
    """StaticTCPRendezvous.next_rendezvous with the check before its first store."""

    @functools.wraps(stock)
    def next_rendezvous(self: Any) -> Any:
        if getattr(self, "_store", None) is not None:
            return stock(self)  # a restart of the workers: the agents met before
        whole = self.timeout
        try:
            expect()
            bridges: list[Crossing] = []
            spent = check_agents(lambda: _static(self), bridges)
            if bridges:
                self._store = bridge_client(bridges[0], whole)
            if spent > 0.1:
                self.timeout = left_of(whole, spent)
            return stock(self)
        finally:
            self.timeout = whole
            dismiss()

    next_rendezvous.torchskew_guard = next_rendezvous  # type: ignore[attr-defined]
    return next_rendezvous


def _static(handler: Any) -> Rendezvous:
    """Where the agents of a static rendezvous meet: each of them knows its number."""
    host, port = str(handler.master_addr), int(handler.master_port)
    place = Place("static", host, port, "", int(handler.rank), int(handler.world_size))
    return Rendezvous(place, str(handler.run_id), float(handler.timeout.total_seconds()))


def guarded_c10d(stock: Callable[..., Any]) -> Callable[..., Any]:
    """_create_tcp_store of the c10d backend with the check before it."""

    @functools.wraps(stock)
    def create_tcp_store(params: Any) -> Any:
        bridges: list[Crossing] = []
        check_agents(lambda: _c10d(params, stock.__globals__), bridges)
        try:
            if bridges:
                return bridge_client(bridges[0], dt.timedelta(seconds=params.get_as_int("read_timeout", _C10D_READ)))
            return stock(params)
        finally:
            dismiss()

    create_tcp_store.torchskew_guard = create_tcp_store  # type: ignore[attr-defined]
    return create_tcp_store


def _c10d(params: Any, torchs: dict[str, Any]) -> Rendezvous:
    """Where the agents of a dynamic rendezvous meet: who has the store becomes number 0, the others get theirs there.

    torchs: the names in the backend's own module, so that it is found out as torch finds it out right after.
    """
    host, port = torchs["parse_rendezvous_endpoint"](params.endpoint, default_port=_C10D_PORT)
    own = params.get_as_bool("is_host")
    if own is None:
        own = int(params.min_nodes) > 1 and torchs["_matches_machine_hostname"](host)
    place = Place("c10d", host, port, "", 0 if own else 1, int(params.min_nodes))
    seconds, reach = params.get_as_int("join_timeout", _C10D_JOIN), params.get_as_int("read_timeout", _C10D_READ)
    return Rendezvous(place, str(params.run_id), float(seconds), float(reach))


def announcing(stock: Callable[..., Any]) -> Callable[..., Any]:
    """SimpleElasticAgent._initialize_workers, so that the workers learn which release started them."""

    @functools.wraps(stock)
    def initialize_workers(self: Any, worker_group: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(Exception):  # a rendezvous of the user's own may lack any of this
            import torch

            announce(str(torch.__version__), str(worker_group.spec.rdzv_handler.get_run_id()))
        return stock(self, worker_group, *args, **kwargs)

    initialize_workers.torchskew_guard = initialize_workers  # type: ignore[attr-defined]
    return initialize_workers
