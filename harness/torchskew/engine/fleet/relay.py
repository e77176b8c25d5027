"""On a node: agents and ports that the driver uses for cells whose ranks are on several nodes.

Nothing here raises: what goes wrong is told as the end of its key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from torchskew.engine.fleet.addresses import reached_by
from torchskew.engine.fleet.messages import LineEnded, LineOpened, LineRequest, LineSpoke, PortLeased, Relayed
from torchskew.engine.ports import Ports
from torchskew.errors import HarnessError, MachineError
from torchskew.runtimes.base import Channel


class Relay:
    """Carries lines between the driver and agents of this node. Every method may be called from any thread."""

    def __init__(self, put: Callable[[Relayed], None], ports: Ports) -> None:
        """put: takes what the driver is to hear."""
        self._put, self._ports = put, ports
        self._lines: dict[int, _Line] = {}
        self._leases: dict[int, AbstractContextManager[int]] = {}
        self._lock = threading.Lock()

    def open(self, request: LineRequest, start: Callable[[], Channel]) -> None:
        """Start an agent, and read what it writes until it ends."""
        try:
            host, rank_env = request.address, {}
            if request.interface:
                name, host = reached_by(request.interface)
                rank_env = {"GLOO_SOCKET_IFNAME": name}
            channel = start()
        except (HarnessError, OSError, KeyError) as error:
            self._put(LineEnded(key=request.key, why=f"{type(error).__name__}: {error}"))
            return
        with self._lock:
            self._lines[request.key] = _Line(channel)
        self._put(LineOpened(key=request.key, host=host, share=channel.share, rank_env=rank_env))
        threading.Thread(target=self._read, args=(request.key, channel), name="line", daemon=True).start()

    def write(self, key: int, number: int, text: bytes) -> None:
        """Send the agent the line with this number; numbers begin at 0 and may come in any order."""
        line = self._lines.get(key)
        if line is None:
            self._put(LineEnded(key=key, why="the agent is no longer there"))
            return
        with suppress(MachineError):  # it is gone, which its reader tells
            line.write(number, text)

    def hang_up(self, key: int) -> None:
        """End an agent; one that does not end is reported when the runtime is closed."""
        if line := self._lines.get(key):
            with suppress(MachineError):
                line.channel.close()

    def lease(self, key: int) -> None:
        """Hold a port of this node for the driver."""
        lease = self._ports.lease()
        try:
            port = lease.__enter__()
        except MachineError as error:
            self._put(LineEnded(key=key, why=str(error)))
            return
        with self._lock:
            self._leases[key] = lease
        self._put(PortLeased(key=key, port=port))

    def give_back(self, key: int) -> None:
        """The driver needs this port no longer."""
        with self._lock:
            lease = self._leases.pop(key, None)
        if lease is not None:
            lease.__exit__(None, None, None)

    def end(self) -> None:
        """Give every port back. Agents end with their runtime."""
        for key in list(self._leases):
            self.give_back(key)

    def _read(self, key: int, channel: Channel) -> None:
        why = ""
        try:
            for text in channel.lines():
                self._put(LineSpoke(key=key, text=text))
        except (HarnessError, OSError) as error:
            why = str(error)
        with self._lock:
            self._lines.pop(key, None)
        self._put(LineEnded(key=key, why=why, errors=channel.errors()))


class _Line:
    """One agent's input. Calls of the driver run side by side, so lines are put in order by their numbers."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._early: dict[int, bytes] = {}
        self._next = 0
        self._lock = threading.Lock()

    def write(self, number: int, text: bytes) -> None:
        with self._lock:
            self._early[number] = text
            while self._next in self._early:
                self.channel.send(self._early.pop(self._next))
                self._next += 1
