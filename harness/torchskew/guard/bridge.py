"""A bridge that rank 0 hosts under TORCHSKEW_GUARD=bridge: where its code is, its process, and the ranks' clients.

The bridge is the package torchskew.bridge, which needs the standard library alone. It is not part of the one file
that jobs copy: rank 0's Python must be able to import it.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import importlib.util
import os
import select
import socket
import subprocess
import sys
from typing import Any, NamedTuple

from torchskew.guard.hello import FIELDS, Hello, shown
from torchskew.guard.notice import say
from torchskew.guard.place import AGENTS, Place
from torchskew.guard.roster import BRIDGED_BY, READY, Roster

BRIDGE_SOON = 20.0  # seconds for the bridge to start, less where the init has less
_RUN = """import sys
sys.path.insert(0, sys.argv[1])
from torchskew.bridge.hosted import main
sys.exit(main(sys.argv[2:]))
"""
# Whose it is, the bridge, and its port once it serves.
_CHILDREN: list[tuple[int, subprocess.Popen[bytes], int]] = []


class Crossing(NamedTuple):
    """Where a rank meets the others at a bridge, and which of how many it is."""

    host: str
    port: int
    rank: int
    world: int


def readiness(mine: Hello, mode: str, *, led: bool) -> str:
    """What a rank's hello says of a bridge: "" where its mode is another, READY, or why it can't use one.

    led: the store that this init gets is the guard's to choose.
    """
    if mode != "bridge":
        return ""
    reason = READY
    backends = {part.rpartition(":")[2] for part in mine["backend"].split(",")}
    if mine["method"] not in BRIDGED_BY:
        reason = "it meets by %s" % {"store": "a store that it was given"}.get(mine["method"], mine["method"])
    elif not led:
        reason = "guard.check() only compares: guard.install() is needed, too"
    elif mine["method"] in AGENTS:
        pass  # an agent has no backend
    elif backends == {""} and _may_be_nccl():
        reason = "its backend is not named, and may be NCCL"
    elif not backends <= {"gloo", ""}:
        reason = "its backend is %s" % mine["backend"]
    return reason[: FIELDS["bridge"][1]]


def _may_be_nccl() -> bool:
    """Whether a group without a named backend can be one of NCCL, for tensors of a GPU."""
    import torch.distributed

    return bool(getattr(torch.distributed, "is_nccl_available", bool)())


def crossing(place: Place, mine: Hello, roster: Roster) -> Crossing | None:
    """Where this rank's store is, if its group has a bridge, and this rank said that it can use one."""
    port = roster["bridge"]
    led = port.isdigit() and mine["bridge"] == READY
    return Crossing(place.host, int(port), place.rank, place.world) if led else None


def host_bridge(server: socket.socket, seconds: float) -> str:
    """Give a listening socket to a bridge of its own process: its port as text, or why there is none.

    The process ends with this one, however that ends.
    """
    folder = _bridge_folder()
    if not folder:
        return "rank 0's Python can't import torchskew.bridge; the folder that has torchskew belongs on PYTHONPATH"
    command = [sys.executable, "-I", "-S", "-c", _RUN, folder, str(os.getpid()), str(server.fileno())]
    try:
        # A session of its own: a signal to the job's process group, as by ctrl-C, is for the ranks.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, pass_fds=[server.fileno()],
                                   start_new_session=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError, ValueError) as problem:
        return shown("rank 0 can't start it: %s" % problem)
    if not _CHILDREN:
        atexit.register(end_bridges)
    _CHILDREN.append((os.getpid(), process, 0))
    with contextlib.suppress(OSError), process.stdout as answers:  # type: ignore[union-attr]
        if select.select([answers], [], [], min(seconds, BRIDGE_SOON))[0] and answers.readline() == b"ready\n":
            port = int(server.getsockname()[1])
            _CHILDREN[-1] = (os.getpid(), process, port)
            return str(port)
    end_bridges()
    return "rank 0's bridge did not start: its process ended with %s" % process.returncode


def _bridge_folder() -> str:
    """The folder to import the bridge from, "" where there is none."""
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec("torchskew")
        for place in (spec.submodule_search_locations if spec else None) or ():
            if os.path.isfile(os.path.join(place, "bridge", "hosted.py")):
                return os.path.dirname(os.path.abspath(place))
    return ""


def end_bridges() -> None:
    """End the bridges of this process, not those of one that it was forked from: Python 3.8 would."""
    mine = [each for each in _CHILDREN if each[0] == os.getpid()]
    for each in mine:
        _CHILDREN.remove(each)
        _, process, port = each
        if process.poll() and port:  # neither alive nor ended in order, as by the end of the whole container
            text = "the bridge at port %d of this host has ended before this process, with %d: new groups failed since"
            say(-1, text % (port, process.returncode))
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_idle_bridges() -> None:
    """End the bridges of this process where no group is left that may need them, as a stock store ends with its own."""
    if not _CHILDREN:
        return
    rpc: Any = sys.modules.get("torch.distributed.rpc.api")
    import torch.distributed

    if not torch.distributed.is_initialized() and not getattr(rpc, "_is_current_rpc_agent_set", bool)():
        end_bridges()


def bridge_client(meeting: Crossing, timeout: Any) -> Any:
    """A store of torch that is this rank's client of the bridge; what torch raises where it can't be reached.

    timeout: a timedelta, torch's own where None.
    """
    from torch.distributed import TCPStore

    options = {"timeout": timeout} if isinstance(timeout, dt.timedelta) else {}
    where = (meeting.host, meeting.port, meeting.world, False)
    try:
        return TCPStore(*where, **options)
    except RuntimeError as problem:
        # Builds of 2.6 and later without libuv ask for it all the same, also in a client, which makes no use of it.
        if "libuv" not in str(problem):
            raise
        return TCPStore(*where, use_libuv=False, **options)
