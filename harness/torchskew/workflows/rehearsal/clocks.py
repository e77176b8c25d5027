"""Clocks that differ between nodes: libfaketime shifts what a node's processes take for the time of day."""

from __future__ import annotations

import glob
from collections.abc import Mapping

from torchskew.model.runtimes import RUNTIMES
from torchskew.runtimes.venv.sleep import broken_sleep
from torchskew.workflows.rehearsal.planned import CLOCK_SKEW

# Where packages put it; Debian's is libfaketime.
PLACES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)


def library() -> str | None:
    """Path of libfaketime on this machine, or None."""
    return next((path for place in PLACES for path in sorted(glob.glob(place))), None)


def unsupported(runtime: str) -> dict[str, str]:
    """Why the clocks of this runtime's nodes can't be shifted, under its name; empty where they can."""
    if RUNTIMES[runtime].own_network:
        return {CLOCK_SKEW: f"nodes of the {runtime} runtime don't have this machine's libfaketime"}
    if library() is None:
        return {CLOCK_SKEW: "this machine lacks libfaketime (Debian: apt-get install libfaketime)"}
    why = broken_sleep(settings(100.0))
    return {CLOCK_SKEW: f"a Python can't sleep under this machine's libfaketime: {why}"} if why else {}


def settings(offset: float) -> Mapping[str, str]:
    """The environment of a process whose clock is off by so many seconds; timeouts and waits go on as before."""
    preload = library()
    if not offset or preload is None:
        return {}
    return {
        "LD_PRELOAD": preload,
        "FAKETIME": f"{offset:+.1f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }
