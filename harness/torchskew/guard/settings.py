"""The guard's own settings, read from the environment; a misspelt one is an error, never a default."""

from __future__ import annotations

import os

MODES = ("enforce", "warn", "off")
POLICIES = ("era", "minor", "exact", "allow:")


def chosen(name: str, choices: tuple[str, ...]) -> str:
    """A setting's value; the first choice where it isn't set."""
    value = os.environ.get(name, "").strip().lower() or choices[0]
    if value not in choices and not (value.startswith("allow:") and "allow:" in choices):
        raise ValueError("%s must be one of %s, got %r." % (name, ", ".join(choices), value))
    return value


def second_port(first: int) -> int:
    """The port where rank 0 listens when something else has the first."""
    value = os.environ.get("TORCHSKEW_GUARD_PORT", "").strip()
    if value and not (value.isdigit() and 0 < int(value) < 65536):
        raise ValueError("TORCHSKEW_GUARD_PORT must be a port, got %r." % value)
    return int(value or (first + 1 if first < 65535 else 65534))


def shared_secret() -> bytes:
    """What all ranks of this job share and strangers don't know; b"" where none is set."""
    return os.environ.get("TORCHSKEW_GUARD_SECRET", "").encode()
