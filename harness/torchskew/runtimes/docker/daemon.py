"""What provisioning asks of a container engine, as a protocol; `ImageApi` and `ContainerApi` are the real one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torchskew.errors import MachineError

# Bytes done of total (0: unknown), and what is going on.
Report = Callable[[str, int, int], None]

# What a daemon or a registry says when trying again can help.
_TRANSIENT = re.compile(
    r"timeout|timed out|connection reset|connection refused|unexpected EOF|\bEOF\b|toomanyrequests|too many requests"
    r"|\b50[0234]\b|Bad Gateway|Service Unavailable|Internal Server Error|temporarily|TLS handshake"
    r"|server misbehaving|temporary failure",
    re.IGNORECASE,
)
# These never pass by themselves, whatever else the text says.
_PERMANENT = re.compile(
    r"no such host|not found|unknown|unauthorized|denied|forbidden|authentication|invalid|x509|certificate"
    r"|no basic auth|proxyconnect|no space left",
    re.IGNORECASE,
)


class DaemonError(MachineError):
    """The engine refused or did not answer. transient: the same call may succeed a moment later.

    reason: its own words, without what we asked.
    """

    def __init__(self, text: str, *, reason: str = "", transient: bool = False) -> None:
        super().__init__(text)
        self.reason = (reason or text).rstrip(".")
        self.transient = transient


class DaemonGoneError(DaemonError):
    """The engine no longer answers at all, so every further call fails the same way."""


def is_transient(text: str) -> bool:
    """Whether the cause can pass by itself; wrong names, rights and certificates never do."""
    return bool(_TRANSIENT.search(text)) and not _PERMANENT.search(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one container may use. memory, share, scratch: bytes; pids: processes and threads."""

    memory: int = 4 << 30
    pids: int = 4096
    share: int = 1 << 30
    scratch: int = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A container to create: everything that differs between containers; `ContainerApi` adds the rest.

    folders: of this machine, which it sees under the same path and can't write to. user: `uid:gid` of its processes,
    empty for a user who owns nothing.
    """

    image: str
    name: str
    hostname: str
    command: Sequence[str]
    network: str
    volume: str
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    folders: Sequence[str] = ()
    user: str = ""


class ImageDaemon(Protocol):
    """The part of an engine that provisioning needs. Every method may raise DaemonError."""

    def find(self, label: str) -> str | None:
        """Id of the newest image that carries `name=value`, or None."""

    def local(self, reference: str) -> str | None:
        """Id of an image that the engine has already, or None."""

    def pull(self, reference: str, report: Report) -> str:
        """Id of an image fetched from its registry."""

    def load_root(self, tar: Iterable[bytes], tag: str, labels: Mapping[str, str]) -> str:
        """Id of an image made from the tar of a root file system."""

    def build(self, context: Iterable[bytes], tag: str, labels: Mapping[str, str], args: Mapping[str, str]) -> str:
        """Id of an image built from a tar with a Dockerfile in it; the host's network is the build's."""

    def remove_image(self, image: str) -> None:
        """Remove an image that no container uses."""

    def ask(self, image: str, command: Sequence[str]) -> str:
        """Standard output of one command in a container without network; at most 120 s."""

    def machine(self) -> str:
        """The engine's architecture, as `x86_64`."""

    def folder(self) -> Path | None:
        """Where the engine keeps images, None where that is not a folder of this machine."""
