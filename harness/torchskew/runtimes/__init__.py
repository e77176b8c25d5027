"""The runtimes: one class, one file, one row in RUNTIMES."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchskew.runtimes.base import Runtime

# Imported when asked for: `torchskew --help` needs none of them.
RUNTIMES = {
    "docker": "torchskew.runtimes.docker.runtime:DockerRuntime",
    "venv": "torchskew.runtimes.venv.runtime:VenvRuntime",
}


def runtime(name: str) -> Runtime:
    """A runtime by name; cheap, it contacts nothing yet."""
    module, _, attribute = RUNTIMES[name].partition(":")
    made: Runtime = getattr(import_module(module), attribute)()
    return made
