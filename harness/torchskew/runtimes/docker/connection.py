"""The connection to a Docker daemon; its refusals and silences become errors of ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torchskew.runtimes.docker.daemon import DaemonError, DaemonGoneError, is_transient

UNPRIVILEGED = "65534:65534"
# What every container of ours gets: a home that can be written, a name for users whom its system does not know
# (torch asks for it), and text that is UTF-8.
ENVIRON = {"HOME": "/tmp", "USER": "torchskew", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}  # noqa: S108 - inside the container
_FIXES = {
    "address pool": " Remove unused networks (`docker network prune`), or give the daemon more addresses.",
    "no space left": " Free space where the daemon keeps its data (`docker system df`).",
    "executable file not found": " Name an image with python3 on its PATH.",
    "No such image": " It was removed after it was built: start again.",
}
_FIX = "Start the daemon, give this user access to its socket, or use `--runtime venv`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection: docker-py's low-level client, the error of a refusal, the errors of a silence."""

    api: Any
    refusal: type[Exception]
    silences: tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The engine that answers. machine: its architecture, as `x86_64`; system: what its containers run."""

    version: str
    machine: str
    system: str


class DockerConnection:
    """One Docker daemon; connects at the first call. connect: makes a Connection, or raises why not."""

    def __init__(self, connect: Callable[[], Connection], url: str) -> None:
        self._connect = connect
        self.url = url
        self._connection: Connection | None = None
        self._guard = threading.Lock()

    def engine(self) -> Engine:
        """What answers."""
        with self.asked("report its version") as api:
            answer = api.version()
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(answer["Arch"], answer["Arch"])
        return Engine(version=answer["Version"], machine=machine, system=answer["Os"])

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._guard:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.api.close()

    def connected(self) -> Connection:
        """The connection, opened by the first call."""
        with self._guard:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection

    @contextmanager
    def asked(self, what: str, missing: Sequence[int] = ()) -> Iterator[Any]:
        """The client; its errors become ours, but for status codes in `missing`."""
        try:
            connection = self.connected()
        except Exception as error:
            raise DaemonGoneError(f"no Docker daemon answers at {self.url}: {_root(error)}. {_FIX}") from error
        try:
            yield connection.api
        except connection.refusal as error:
            if getattr(error, "status_code", None) not in missing:
                text = str(getattr(error, "explanation", None) or error)
                why = f"docker can't {what}: {text.rstrip('.')}.{_fix(text)}"
                raise DaemonError(why, reason=text, transient=is_transient(text)) from error
        except connection.silences as error:
            why = f"the Docker daemon at {self.url} stopped answering ({what}): {_root(error)}"
            raise DaemonGoneError(f"{why}. {_FIX}") from error


def _root(error: BaseException) -> str:
    """The innermost reason, in its own words."""
    while True:
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _fix(text: str) -> str:
    return next((fix for needle, fix in _FIXES.items() if needle in text), "")
