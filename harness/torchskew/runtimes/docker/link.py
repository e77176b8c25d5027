"""The connection to a Docker daemon, with its refusals and silences told as errors of ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torchskew.runtimes.docker.daemon import DaemonError, DaemonGoneError, is_transient

UNPRIVILEGED = "65534:65534"
# What every container of ours gets: a home that can be written, and text that is UTF-8.
ENVIRON = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}  # noqa: S108 - inside the container
_MENDS = {
    "address pool": " Remove networks that nobody uses (`docker network prune`), or give the daemon more addresses.",
    "no space left": " Free space where the daemon keeps its data (`docker system df`).",
    "executable file not found": " Name an image with python3 on its PATH.",
    "No such image": " Somebody removed it since it was made: start again.",
}
_MEND = "Start the daemon, see that this user may use its socket, or take `--runtime venv`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A connection: docker-py's low-level client, the error of a refusal, the errors of a silence."""

    api: Any
    refusal: type[Exception]
    silences: tuple[type[Exception], ...]


class DockerLink:
    """One Docker daemon; connects at the first call. connect: makes a Link, or raises why not."""

    def __init__(self, connect: Callable[[], Link], url: str) -> None:
        self._connect = connect
        self.url = url
        self._link: Link | None = None
        self._guard = threading.Lock()

    def version(self) -> Mapping[str, str]:
        """What answers: `version`, `machine`, `system`."""
        with self.asked("tell its version") as api:
            told = api.version()
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(told["Arch"], told["Arch"])
        return {"version": told["Version"], "machine": machine, "system": told["Os"]}

    def close(self) -> None:
        """Give the connections back."""
        with self._guard:
            link, self._link = self._link, None
        if link is not None:
            link.api.close()

    def linked(self) -> Link:
        """The connection, made now when it is the first call."""
        with self._guard:
            if self._link is None:
                self._link = self._connect()
            return self._link

    @contextmanager
    def asked(self, what: str, missing: Sequence[int] = ()) -> Iterator[Any]:
        """The client, with its errors told as ours; an answer in `missing` is fine."""
        try:
            link = self.linked()
        except Exception as error:
            raise DaemonGoneError(f"no Docker daemon answers at {self.url}: {_root(error)}. {_MEND}") from error
        try:
            yield link.api
        except link.refusal as error:
            if getattr(error, "status_code", None) not in missing:
                text = str(getattr(error, "explanation", None) or error)
                why = f"docker can't {what}: {text.rstrip('.')}.{_mend(text)}"
                raise DaemonError(why, reason=text, transient=is_transient(text)) from error
        except link.silences as error:
            why = f"the Docker daemon at {self.url} stopped answering ({what}): {_root(error)}"
            raise DaemonGoneError(f"{why}. {_MEND}") from error


def _root(error: BaseException) -> str:
    """The innermost reason, as a person would say it."""
    while True:
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _mend(text: str) -> str:
    return next((mend for needle, mend in _MENDS.items() if needle in text), "")
