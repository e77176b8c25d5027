"""A started version in a container: lines in and out of the attached stream, and a story when it dies."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from torchskew.errors import AgentError, HarnessError, MachineError
from torchskew.runtimes.docker.container_api import SHARE, ContainerApi

_HEADER = 8  # bytes before each piece: which stream, three zeros, length
_STDERR = 2
_LAST_LINES = 32
_GRACE = 5.0  # seconds between TERM and KILL, and again until we give up


class Container:
    """The `Channel` of one container. stream: what attaching gave, kept alive here; host: set by who starts it."""

    def __init__(self, daemon: ContainerApi, ident: str, stream: Any) -> None:
        self.id = ident
        self.host = ""
        self.share = SHARE
        self.rank_env: Mapping[str, str] = {}
        self._daemon = daemon
        self._stream = stream
        self._socket: socket.socket = getattr(stream, "_sock", stream)
        self._socket.settimeout(None)
        self._words: deque[str] = deque(maxlen=_LAST_LINES)
        self._sending = threading.Lock()
        self._closing = threading.Lock()
        self._closed = False
        self._over = False  # its stream ended, so it did

    def send(self, line: bytes) -> None:
        """Write one line; AgentError when the container is gone, with what it died of."""
        if self._over:
            raise AgentError(f"the agent is gone. {self.story()}")
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError as error:
            raise AgentError(f"the agent can't be written to: {error.strerror or error}. {self.story()}") from error

    def lines(self) -> Iterator[bytes]:
        """Lines of its standard output until it ends; its standard error is kept on the way."""
        rest = bytearray()
        for kind, piece in self._pieces():
            if kind == _STDERR:
                self._words.extend(piece.decode(errors="replace").splitlines())
                continue
            rest += piece
            if b"\n" in piece:
                *whole, last = rest.split(b"\n")
                rest = bytearray(last)
                yield from (bytes(line) for line in whole)
        if rest:
            yield bytes(rest)

    def errors(self) -> str:
        """The end of its standard error, at most 32 lines."""
        return "\n".join(self._words)

    def story(self) -> str:
        """What became of the container, in a sentence or two."""
        try:
            state = self._daemon.state(self.id)
        except HarnessError as error:
            return str(error)
        if state.get("OOMKilled"):
            return "Its container ran out of memory."
        if state.get("Running"):
            return "Its container still runs."
        why = f" ({state['Error']})" if state.get("Error") else ""
        return f"Its container ended with {state.get('ExitCode')}{why}. {self.errors()}".strip()

    def look_inside(self, pid: int) -> str:
        """A shell beside it; the file system is read-only, so tools come from the image."""
        return f"docker exec -it {self.id[:12]} sh -c 'cat /proc/{pid}/status; exec sh'"

    def close(self) -> None:
        """TERM, then KILL on a monotonic deadline, then removal; idempotent.

        Raises:
            MachineError: why it can't be removed.
        """
        with self._closing:
            if self._closed:
                return
            try:
                self._end()
                self._daemon.remove(self.id)
            except MachineError as error:
                fix = "Remove it with `docker rm -f`."
                raise MachineError(f"the container {self.id[:12]} can't be removed: {error} {fix}") from error
            finally:
                self._shut()
            self._closed = True

    def _end(self) -> None:
        for name in ("TERM", "KILL"):
            deadline = time.monotonic() + _GRACE
            self._daemon.signal(self.id, name)
            if self._daemon.ended(self.id, max(0.1, deadline - time.monotonic())):
                return
        raise MachineError(f"it did not end within {_GRACE:.0f} s of KILL.")

    def _shut(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who reads lines
        except OSError:
            return  # the daemon closed it when the container ended
        finally:
            self._stream.close()
            self._socket.close()

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        while True:
            header = self._exactly(_HEADER)
            piece = self._exactly(int.from_bytes(header[4:], "big")) if len(header) == _HEADER else b""
            if not piece:
                self._over = True
                return
            yield header[0], piece

    def _exactly(self, size: int) -> bytes:
        """That many bytes, or fewer at the end of the stream."""
        received = bytearray()
        while len(received) < size:
            try:
                chunk = self._socket.recv(min(size - len(received), 1 << 20))
            except OSError:
                break
            if not chunk:
                break
            received += chunk
        return bytes(received)
