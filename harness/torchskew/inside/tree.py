"""A version that is a tree of Python files without a build: how an agent and its ranks know that."""

from __future__ import annotations

import os

# The folder with the tree, and the release that it says it is.
TREE, RELEASE = "TORCHSKEW_TREE", "TORCHSKEW_TREE_RELEASE"


def is_unbuilt() -> bool:
    """Whether there is no torch to import in this version."""
    return TREE in os.environ


def release() -> str:
    """What the tree says it is."""
    return os.environ[RELEASE]
