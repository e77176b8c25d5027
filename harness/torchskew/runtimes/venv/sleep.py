"""Whether a Python can sleep in an environment that shifts its clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

# Seconds that a Python gets to sleep for a hundredth of one.
PATIENCE = 20.0


def broken_sleep(settings: Mapping[str, str]) -> str | None:
    """Why a Python can't sleep with these variables; None where it can. libfaketime 0.9.10 breaks that of 3.11."""
    command = [sys.executable, "-c", "import time; time.sleep(0.01)"]
    try:
        run = subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if run.returncode == 0 else ["no error", *run.stderr.strip().splitlines()][-1]
