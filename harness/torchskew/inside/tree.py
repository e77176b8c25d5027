"""A tree of Python files without a build: how an agent and its ranks know that a version is one, and its files."""

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


def folder() -> str:
    """The folder that holds the tree's packages."""
    return os.environ[TREE]


def python_files(folder: str) -> list[str]:
    """Every Python file below a folder, in order; what links lead to as well, each folder once."""
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders[:] = []
            continue
        seen.add(real)
        found += [os.path.join(place, name) for name in names if name.endswith(".py")]
    return sorted(found)
