"""Agents of a real release for the scenarios' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from torchskew.model.versions import Environment

from tests.inside.driver import Driver


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, torch_environment: Environment) -> Iterator[Driver]:
    """One agent for all tests of a file: that is what it is for."""
    made = Driver(tmp_path_factory.mktemp("agent"), torch_environment.handle)
    try:
        made.until("ready")
        yield made
    finally:
        made.close()


@pytest.fixture
def doctored(tmp_path: Path, torch_environment: Environment, request: pytest.FixtureRequest) -> Iterator[Driver]:
    """An agent whose source, with the guard in it, is changed as the test's parameter says."""
    made = Driver(tmp_path, torch_environment.handle, request.param)
    try:
        made.until("ready")
        yield made
    finally:
        made.close()
