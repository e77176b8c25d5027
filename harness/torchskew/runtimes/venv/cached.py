"""Links what uv's cache holds, before uv asks an index for it.

A lock names each wheel by its hash, so a copy in the cache is the wheel, however old it is. uv itself asks the index
again where the answer named no time for which it is good, as many mirrors and proxies answer, and would download
gigabytes anew and keep both copies.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from torchskew.runtimes.venv.resolve import Lock
from torchskew.runtimes.venv.uv import Uv, UvError


def link_cached(uv: Uv, lock: Lock, place: Path) -> None:
    """Install into the environment at place each wheel of the lock that the cache has; nothing is asked of an index.

    What it has not, and projects, which are built anew each time, are left to whoever syncs the whole lock.
    """
    install = ("pip", "install", "--python", str(place / "bin" / "python"), "--offline", "--no-deps", "--quiet")
    part = place / "pylock.part.toml"
    for text in lock.parts():
        part.write_text(text)
        with contextlib.suppress(UvError):
            uv.call(*install, "-r", str(part), limit=300.0)
    part.unlink(missing_ok=True)
