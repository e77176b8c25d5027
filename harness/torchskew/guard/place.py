"""Where a group meets, read from the arguments and the environment exactly as torch reads them."""

from __future__ import annotations

import os
import re
from typing import Mapping, NamedTuple
from urllib.parse import ParseResult, parse_qs, urlparse

from torchskew.guard.settings import spare_ports

# How torchrun's agents meet; and all methods where number 0 makes a store on the first port right after the exchange.
AGENTS = ("static", "c10d")
DIRECT = ("tcp", *AGENTS)
_PORT = re.compile(r"\d{1,4}$|[1-5]\d{4}$")


class Place(NamedTuple):
    """Where a group meets, seen from one rank: method is "tcp", "agent", "file", "store" or one of AGENTS.

    Only "file" has a path; "store", one that the init is given, has neither host nor port. Under "c10d" an agent gets
    its number from number 0 when it arrives.
    """

    method: str
    host: str
    port: int
    path: str
    rank: int
    world: int

    @property
    def spares(self) -> tuple[int, ...]:
        """Where rank 0 listens, in this order, when something else has the first port.

        Under c10d that is the store of agents that met before.
        """
        return () if self.method == "c10d" else spare_ports(self.port)

    def __str__(self) -> str:
        """The address or path as people write it."""
        if self.method == "store":
            return "the given store"
        return self.path if self.method == "file" else "%s:%d" % (self.host, self.port)


def locate(init_method: str | None = None, world_size: int = -1, rank: int = -1) -> Place | None:
    """Where this rank's group meets; None where torch itself will complain, or where the guard can't know."""
    parts = urlparse(init_method or "env://")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    env = os.environ if parts.scheme == "env" else {}
    try:
        rank = int(query.get("rank", rank if rank >= 0 else env.get("RANK", -1)))
        world = int(query.get("world_size", world_size if world_size >= 0 else env.get("WORLD_SIZE", -1)))
        host, port = _address(parts, env)
    except ValueError:
        return None
    if rank < 0 or world < 1:
        return None
    if parts.scheme == "file" and parts.path:
        return Place("file", *_address_beside_a_file(), parts.path, rank, world)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Place("agent" if agent else "tcp", host, port, "", rank, world) if host and 0 < port < 65536 else None


def _address(parts: ParseResult, env: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of tcp:// or env://, "" and 0 where they are missing; ValueError where the port is no number."""
    if parts.scheme == "tcp":
        return parts.hostname or "", int(parts.port or 0)
    return env.get("MASTER_ADDR") or "", int(env.get("MASTER_PORT") or 0)


def _address_beside_a_file() -> tuple[str, int]:
    """The address in the environment of a rank that meets by file, where ranks that meet by address would be."""
    port = _PORT.match(os.environ.get("MASTER_PORT", ""))
    host = os.environ.get("MASTER_ADDR", "") if port else ""
    return host, int(port.group()) if port and host else 0
