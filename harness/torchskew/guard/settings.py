"""The guard's own settings, read from the environment; a misspelt one is an error, never a default."""

from __future__ import annotations

import hashlib
import os

MODES = ("enforce", "warn", "off", "strict", "bridge")
POLICIES = ("era", "minor", "exact", "allow:")
# Below the ports that kernels give to outgoing connections, and below those that torchskew leases for its cells.
SPARE_PORTS, LOWEST_SPARE, HIGHEST_SPARE = 6, 13000, 19999


class SettingError(ValueError):
    """A setting of the guard that nobody can follow."""


def chosen(name: str, choices: tuple[str, ...]) -> str:
    """A setting's value; the first choice where it isn't set."""
    value = os.environ.get(name, "").strip().lower() or choices[0]
    if value not in choices and not (value.startswith("allow:") and "allow:" in choices):
        raise SettingError("%s must be one of %s, got %r." % (name, ", ".join(choices), value))
    return value


def spare_ports(first: int) -> tuple[int, ...]:
    """Where rank 0 listens when something else has the first port, in this order: the same list on every rank.

    The list follows from the first port and the job, so two jobs on one host rarely share a port. The neighbours of
    the first port are not in it: they are the first ports of other jobs.
    """
    value = os.environ.get("TORCHSKEW_GUARD_PORT", "").strip()
    if value and not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
        raise SettingError("TORCHSKEW_GUARD_PORT must be a port, got %r." % value)
    seed = "%d %s" % (first, os.environ.get("TORCHELASTIC_RUN_ID", ""))
    digest = hashlib.sha256(seed.encode("utf-8", "surrogateescape")).digest()
    numbers = [int.from_bytes(digest[2 * place : 2 * place + 2], "big") for place in range(SPARE_PORTS)]
    ports = [int(value)] if value else []
    ports += [LOWEST_SPARE + number % (HIGHEST_SPARE - LOWEST_SPARE + 1) for number in numbers]
    return tuple(port for port in dict.fromkeys(ports) if port != first)


def launcher() -> str:
    """The release of the agent that started this worker, "" where that agent is not guarded."""
    release, _, job = os.environ.get("TORCHSKEW_GUARD_AGENT", "").partition(" ")
    return release if job == os.environ.get("TORCHELASTIC_RUN_ID", "") else ""


def announce(release: str, job: str) -> None:
    """Tell the workers that this process, an agent, is about to start, what it runs."""
    os.environ["TORCHSKEW_GUARD_AGENT"] = "%s %s" % (release, job)


def shared_secret() -> bytes:
    """What all ranks of this job share and strangers don't know; b"" where none is set."""
    return os.environ.get("TORCHSKEW_GUARD_SECRET", "").encode()
