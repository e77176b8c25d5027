"""Removes what killed runs of this machine left behind, and what provisioning made where that is asked for."""

from __future__ import annotations

import sys

from torchskew.model.runtimes import RUNTIMES
from torchskew.runtimes import runtime


def clean(*, store: bool) -> int:
    """`torchskew clean`: sweep every runtime that answers. store: also remove every environment and image."""
    usable = [each for each in map(runtime, RUNTIMES) if each.answers() is None]
    lines = [line for each in usable for line in (*each.sweep(), *(each.clear() if store else ()))]
    sys.stdout.write("".join(f"removed {line}\n" for line in lines) or "nothing of ours was left behind\n")
    return 0
