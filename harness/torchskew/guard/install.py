"""The guard in a job: check() before one init_process_group, or install() before all of them."""

from __future__ import annotations

import functools
import inspect
import threading
import warnings
from typing import Any, Callable

from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.exchange import exchange
from torchskew.guard.hello import own_hello
from torchskew.guard.place import locate
from torchskew.guard.roster import Roster
from torchskew.guard.settings import MODES, chosen
from torchskew.guard.table import LAST_KNOWN

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
    nothing to check. Raises ProtocolVersionError (only warns under TORCHSKEW_GUARD=warn).
    """
    mode = chosen("TORCHSKEW_GUARD", MODES)
    place = None if mode == "off" else locate(init_method, world_size, rank)
    if place is None or place.world < 2 or str(backend).lower() in ("mpi", "fake"):
        return None
    mine = own_hello(place, str(backend or "").lower())
    try:
        roster = exchange(place, mine, _seconds(timeout))
    except ProtocolVersionError as error:
        if mode != "warn":
            raise
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return None
    newer = sorted({group["torch"] for group in roster["groups"] if not group["known"]})
    if newer and len({group["torch"].split("+")[0] for group in roster["groups"]}) > 1:
        text = "torch %s is newer than %d.%d, the last release this guard knows: it may be incompatible with the others"
        warnings.warn(text % (", ".join(newer), *LAST_KNOWN), RuntimeWarning, stacklevel=2)
    return roster


def _seconds(timeout: Any) -> float:
    if timeout is None:
        from torch.distributed import distributed_c10d

        timeout = distributed_c10d.default_pg_timeout
    return float(timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout)


def install() -> None:
    """Cover every later init_process_group of this process; calling it again changes nothing.

    A reference to init_process_group taken before is covered too, by way of torch's own rendezvous, except that
    the backend is not compared then.
    """
    from torch.distributed import distributed_c10d as c10d

    if getattr(c10d.init_process_group, "torchskew_guard", False):
        return
    import torch.distributed

    guarded = _guarded(c10d.init_process_group)
    c10d.init_process_group = torch.distributed.init_process_group = guarded
    stock = c10d.rendezvous

    @functools.wraps(stock)
    def rendezvous(url: str, rank: int = -1, world_size: int = -1, **more: Any) -> Any:
        if not getattr(_IN_INIT, "checked", False):
            check(None, url, more.get("timeout"), world_size, rank)
        return stock(url, rank, world_size, **more)

    c10d.rendezvous = rendezvous


def _guarded(stock: Callable[..., Any]) -> Callable[..., Any]:
    """init_process_group with the check before it, where it meets by address or file."""
    signature = inspect.signature(stock)

    @functools.wraps(stock)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        if given.get("store") is None:
            check(**{name: given[name] for name in inspect.signature(check).parameters if name in given})
        _IN_INIT.checked = True
        try:
            return stock(*args, **kwargs)
        finally:
            _IN_INIT.checked = False

    init_process_group.torchskew_guard = True  # type: ignore[attr-defined]
    return init_process_group
