"""What the guard's waiting leaves of an init's timeout: the stock init gets that much, its group keeps the whole.

A group that has formed can be given another timeout since 2.13. In older ones gloo keeps the one of its init for
good, so there the init gets the whole, and its waits end earlier (ending.py).
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from torchskew.guard.notice import say

LEAST = dt.timedelta(seconds=1)  # for a stock init that has all it needs
_RESTORED = {"", "none", "undefined", "cpu", "cuda", "gloo", "nccl"}  # what may be in a backend's name


def left_of(whole: dt.timedelta, spent: float) -> dt.timedelta:
    """What is left of a timeout after these seconds, a second at least where it had that much."""
    return max(whole - dt.timedelta(seconds=spent), min(whole, LEAST))


def restorable(backend: Any) -> bool:
    """Whether a group of this torch and backend can be given its whole timeout once it has formed."""
    import torch
    from torch.distributed import distributed_c10d

    others = backend is None and getattr(getattr(torch, "xpu", None), "is_available", bool)()
    known = _RESTORED.issuperset(re.split("[:,]", str(backend or "").lower()))
    return known and not others and hasattr(getattr(distributed_c10d, "ProcessGroup", None), "set_timeout")


def restore(whole: dt.timedelta, rank: int, *, given_store: bool) -> None:
    """Give the group that has formed its whole timeout, and its store, unless that was given and never had less."""
    from torch.distributed import distributed_c10d

    try:
        distributed_c10d._get_default_group().set_timeout(whole)  # noqa: SLF001 - torch.distributed.set_timeout: 2.14
        if not given_store:
            distributed_c10d._get_default_store().set_timeout(whole)  # noqa: SLF001 - no public name
    except Exception as problem:  # noqa: BLE001 - whatever torch says, the group has formed
        say(rank, "the group's timeout is shorter than asked for: %s: %s" % (type(problem).__name__, problem))
