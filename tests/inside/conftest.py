"""An agent for a test, gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inside.driver import Driver


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Driver]:
    """A ready agent over a torch of a few lines."""
    made = Driver(tmp_path)
    try:
        made.until("ready")
        yield made
    finally:
        made.close()
