"""The fake runtime as the workers of a Ray cluster make it: its ranks know on which node they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchskew.runtimes.fake import HANG, FakeRuntime, ended, right
from torchskew.runtimes.ownership import dead_folders, remove

STRUCK = "struck"


class Swept(FakeRuntime):
    """Removes what dead owners left, as every real runtime does."""

    def sweep(self) -> tuple[str, ...]:
        dead = dead_folders()
        for folder in dead:
            remove(folder)
        return tuple(map(str, dead))


def make(name: str) -> FakeRuntime:
    """What a worker takes for every runtime."""
    del name
    return Swept(rank)


def rank(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Right, or as its cell's parameters say.

    fails: an error. victim: on the node with this id it hangs until somebody has struck there, and says which process
    to strike in `folder`.
    """
    import ray

    params = job["params"]
    if params.get("fails"):
        return ended(version, exit_code=1, error={"type": "RuntimeError", "text": "reset"}, error_after=0.01)
    here = ray.get_runtime_context().get_node_id()
    if params.get("victim") == here and not Path(params["folder"], STRUCK).exists():
        Path(params["folder"], f"pid-{os.getpid()}-{job['variant']}").touch()
        return {HANG: True}
    return right(version, job)
