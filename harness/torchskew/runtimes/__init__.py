"""How the version of each rank is provided and started."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from torchskew.model.runtimes import RUNTIMES

if TYPE_CHECKING:
    from torchskew.runtimes.base import Runtime


def runtime(name: str) -> Runtime:
    """A runtime by its name; cheap, because a runtime contacts nothing before a method is called."""
    module, _, attribute = RUNTIMES[name].implementation.partition(":")
    instance: Runtime = getattr(import_module(module), attribute)()
    return instance
