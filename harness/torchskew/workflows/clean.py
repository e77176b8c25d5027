"""Removes what killed runs of this machine left behind, and, on request, everything that was provisioned."""

from __future__ import annotations

import sys

from torchskew.model.runtimes import RUNTIMES
from torchskew.runtimes import runtime


def clean(*, store: bool) -> int:
    """`torchskew clean`: sweep every runtime that answers. store: also remove every environment and image."""
    usable = [each for each in map(runtime, RUNTIMES) if each.answers() is None]
    lines = [line for each in usable for line in (*each.sweep(), *(each.clear() if store else ()))]
    sys.stdout.write(
        "".join(f"removed {line}\n" for line in lines) or "nothing to remove: no killed run left anything\n"
    )
    return 0
