"""How long tests wait for what must come. Only what never comes gets there: no test may need a fast machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# Seconds. A machine that is busy with other work is tens of times slower than one at rest.
PATIENCE = float(os.environ.get("TORCHSKEW_TEST_PATIENCE", "300"))


def happens(seen: Callable[[], object]) -> bool:
    """Whether something comes to be true, however slow the machine is."""
    until = time.monotonic() + PATIENCE
    while not (done := seen()) and time.monotonic() < until:
        time.sleep(0.01)
    return bool(done)
