"""How long tests wait for what must come. Only what never comes gets there: no test may need a fast machine."""

from __future__ import annotations

import os

# Seconds. A machine that is busy with other work is tens of times slower than one at rest.
PATIENCE = float(os.environ.get("TORCHSKEW_TEST_PATIENCE", "300"))
