"""The guard in a job: check() before one init_process_group, or install() before all of them."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import sys
import threading
import time
from typing import Any, Callable, Mapping

from torchskew.guard.agents import announcing, guarded_c10d, guarded_static  # noqa: F401 - the hook's rows
from torchskew.guard.aside import Seat
from torchskew.guard.bridge import bridge_client, crossing, end_idle_bridges, readiness
from torchskew.guard.budget import left_of, restorable, restore
from torchskew.guard.ending import ending_by
from torchskew.guard.exchange import exchange, exchange_in
from torchskew.guard.hello import own_hello
from torchskew.guard.notes import notes
from torchskew.guard.notice import warn
from torchskew.guard.place import Place, locate
from torchskew.guard.roster import Roster
from torchskew.guard.settings import MODES, chosen, launcher
from torchskew.guard.start import StartHook
from torchskew.guard.usher import dismiss, expect

_IN_INIT = threading.local()


def check(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: Any = None,
    world_size: int = -1,
    rank: int = -1,
) -> Roster | None:
    """Exchange versions with every rank of the group that init_process_group with these arguments would form.

    timeout: seconds or a timedelta, torch's default where None. Returns the roster of all ranks, None where there is
    nothing to check or nothing could be compared (it says so then). Raises ProtocolVersionError where the group is
    known not to work, under TORCHSKEW_GUARD=strict also where that could not be found out, and never under warn.
    """
    return _compare(backend, timeout, lambda: locate(init_method, world_size, rank))


def _compare(backend: Any, timeout: Any, look: Callable[[], Place | None], store: Any = None) -> Roster | None:
    """As check(), for a group that meets where a look says, or in a store that its init is given."""
    mode = chosen("TORCHSKEW_GUARD", MODES)
    if mode == "off":
        return None
    with Seat(mode) as seat:
        seat.place = place = look()
        if place is None or place.world < 2 or str(backend).lower() in ("mpi", "fake"):
            return None
        mine, seconds = own_hello(place, str(backend or "").lower()), _seconds(timeout, backend)
        mine["bridge"] = readiness(mine, mode, led=getattr(_IN_INIT, "led", False))
        roster = exchange(place, mine, seconds, mode) if store is None else exchange_in(store, mine, seconds, mode)
        for note in notes(roster):
            warn(place.rank, note)
        _note_agent(place)
        _IN_INIT.crossing = crossing(place, mine, roster)
        return roster
    return None


def _note_agent(place: Place) -> None:
    """Warn where the agent that started this worker is of another release, although the group may form."""
    import torch

    agent = launcher() if place.method == "agent" else ""
    if agent not in ("", str(torch.__version__)):
        warn(place.rank, "this worker runs torch %s, the agent that started it %s" % (torch.__version__, agent))


def _seconds(timeout: Any, backend: str | None = None) -> float:
    """The init's timeout as torch reads it: since 2.2 nccl has a default of its own."""
    if timeout is None:
        from torch.distributed import distributed_c10d

        own = getattr(distributed_c10d, "default_pg_nccl_timeout", None) if str(backend).lower() == "nccl" else None
        timeout = own or distributed_c10d.default_pg_timeout
    return float(timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout)


class _Installed(StartHook):
    """The hook of this process: the guard is here already."""

    def guarded(self, stock: Any, maker: str) -> Any:
        """What this guard makes of a function."""
        return globals()[maker](stock)


_HOOK = _Installed(__name__)


def install() -> None:
    """Cover every later init_process_group of this process, and the agents of torchrun; again, it changes nothing.

    A reference to init_process_group that others took before is covered too, by way of torch's own rendezvous, except
    that the backend is not compared then.
    """
    import torch.distributed.distributed_c10d  # noqa: F401 - what is covered first

    _HOOK.watch()


def uninstall() -> None:
    """Undo install(), or what a start-up hook did in this process; calling it without one changes nothing.

    A function that something else has wrapped since then stays as it is: it is not ours to take apart.
    """
    sys.meta_path[:] = [each for each in sys.meta_path if not hasattr(each, "COVERED")]
    for where, rows in StartHook.COVERED.items():
        for name, _ in rows:
            _uncover(where, *name.rpartition(".")[::2])


def _uncover(where: str, owner: str, attribute: str) -> None:
    """Restore one function, wherever torch.distributed has it."""
    for module in filter(None, (sys.modules.get(where), sys.modules.get("torch.distributed"))):
        holder = getattr(module, owner, None) if owner else module
        cover: Any = getattr(holder, attribute, None)
        if getattr(cover, "torchskew_guard", holder) is cover and cover is not None:
            if owner:
                setattr(holder, attribute, cover.__wrapped__)
            else:
                StartHook.replace(attribute, cover, cover.__wrapped__)


def guarded_init(stock: Callable[..., Any]) -> Callable[..., Any]:
    """init_process_group with the check before it."""
    signature = inspect.signature(stock)

    @functools.wraps(stock)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        try:
            expect()
            end_idle_bridges()
            _IN_INIT.led = _is_led()
            spent = _spent(lambda: _before_init(given.arguments))
            _IN_INIT.checked = True
            return _within_timeout(stock, given, spent)
        finally:
            _IN_INIT.checked, _IN_INIT.spent = False, 0.0
            _IN_INIT.led, _IN_INIT.crossing = False, None
            dismiss()

    init_process_group.torchskew_guard = init_process_group  # type: ignore[attr-defined]
    return init_process_group


def _is_led() -> bool:
    """Whether torch's rendezvous, through which a rank comes to a bridge, is covered: something else may be there."""
    from torch.distributed import distributed_c10d

    return hasattr(distributed_c10d.rendezvous, "torchskew_guard")


def _spent(compare: Callable[[], Roster | None]) -> float:
    """The seconds that a comparison took of the init's timeout: none where all ranks are there, or nobody waited."""
    began = time.monotonic()
    compared = compare()
    spent = time.monotonic() - began
    return spent if compared is None and spent > 0.1 else 0.0


def _within_timeout(stock: Callable[..., Any], given: inspect.BoundArguments, spent: float) -> Any:
    """The stock init with what is left of its timeout: a missing rank costs nobody more than without the guard."""
    asked, backend = given.arguments.get("timeout"), given.arguments.get("backend")
    if not spent or not isinstance(asked, (dt.timedelta, type(None))):
        return stock(*given.args, **given.kwargs)
    whole = dt.timedelta(seconds=_seconds(asked, backend))
    if not restorable(backend):
        _IN_INIT.spent = spent  # for the store, where that waits for the ranks
        with ending_by(time.monotonic() + left_of(whole, spent).total_seconds()):
            return stock(*given.args, **given.kwargs)
    given.arguments["timeout"] = left_of(whole, spent)
    result = stock(*given.args, **given.kwargs)
    rank = given.arguments.get("rank", -1)
    restore(whole, rank if type(rank) is int else -1, given_store=given.arguments.get("store") is not None)
    return result


def _before_init(given: Mapping[str, Any]) -> Roster | None:
    """Compare what an init with these arguments would bring together."""
    if given.get("store") is None:
        return check(**{name: given[name] for name in inspect.signature(check).parameters if name in given})
    rank, world = (value if type(value) is int else -1 for value in (given.get("rank"), given.get("world_size")))
    place = Place("store", "", 0, "", rank, world) if 0 <= rank < world else None
    return _compare(given.get("backend"), given.get("timeout"), lambda: place, given["store"])


def guarded_rendezvous(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The rendezvous of torch with the check before it: for what meets without init_process_group."""

    @functools.wraps(stock)
    def rendezvous(url: str, rank: int = -1, world_size: int = -1, **more: Any) -> Any:
        spent = getattr(_IN_INIT, "spent", 0.0)
        if not getattr(_IN_INIT, "checked", False):
            _IN_INIT.led, _IN_INIT.crossing = True, None
            try:
                spent = _spent(lambda: check(None, url, more.get("timeout"), world_size, rank))
            finally:
                _IN_INIT.led = False
        meeting, _IN_INIT.crossing = getattr(_IN_INIT, "crossing", None), None
        if meeting is not None:
            return iter([(bridge_client(meeting, more.get("timeout")), meeting.rank, meeting.world)])
        if isinstance(more.get("timeout"), dt.timedelta) and spent:
            more["timeout"] = left_of(more["timeout"], spent)
        return stock(url, rank, world_size, **more)

    rendezvous.torchskew_guard = rendezvous  # type: ignore[attr-defined]
    return rendezvous
