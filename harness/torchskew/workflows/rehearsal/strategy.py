"""Strategy: which nodes are replaced together, and in which order; pure."""

from __future__ import annotations

import random

from torchskew.workflows.rehearsal.model import Spec

STRATEGIES = ("rolling", "stop-the-world", "host-first", "host-last", "group:N")


def known(strategy: str) -> bool:
    """Whether there is such a strategy."""
    return strategy in STRATEGIES[:-1] or group_size(strategy) is not None


def group_size(strategy: str) -> int | None:
    """N of `group:N`, None where it is no such strategy."""
    kind, _, size = strategy.partition(":")
    return int(size) if kind == "group" and size.isdecimal() and int(size) > 0 else None


def _size(spec: Spec) -> int:
    return max(1, spec.nodes) if spec.strategy == "stop-the-world" else group_size(spec.strategy) or 1


def replacements(spec: Spec) -> int:
    """In how many parts the nodes are replaced."""
    return -(-spec.nodes // _size(spec))


def order(spec: Spec, rng: random.Random) -> tuple[tuple[int, ...], ...]:
    """The nodes in groups that are replaced together, in order; rank 0 of the job runs on node 0."""
    nodes, size = list(range(spec.nodes)), _size(spec)
    if spec.strategy == "stop-the-world":
        return (tuple(nodes),)
    rng.shuffle(nodes)
    if spec.strategy in ("host-first", "host-last"):
        nodes.remove(0)
        nodes.insert(0 if spec.strategy == "host-first" else len(nodes), 0)
    return tuple(tuple(nodes[start : start + size]) for start in range(0, len(nodes), size))
