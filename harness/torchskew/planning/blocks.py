"""Divides versions into blocks that fit on the disk, so that every two versions share a block. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torchskew.errors import ConfigError
from torchskew.model.sizes import readable


def blocks(sizes: Mapping[str, int], bound: int) -> tuple[tuple[str, ...], ...]:
    """Sets of versions, each within `bound` bytes, that cover every pair; consecutive sets share about half.

    sizes: bytes of each version's environment, in the order of the declaration.

    Raises:
        ConfigError: two versions do not fit together.
    """
    if sum(sizes.values()) <= bound:
        return (tuple(sizes),)
    large = sorted(sizes, key=lambda name: -sizes[name])[:2]
    need = sum(sizes[name] for name in large)
    if need > bound:
        raise ConfigError(
            f"{' and '.join(large)} need {readable(need)} together, but only {readable(bound)} are allowed. "
            "Free disk space, raise --disk, or leave one out with --versions."
        )
    groups = _groups(sizes, min(bound // 2, bound - sizes[large[0]]))
    return tuple(tuple(name for name in sizes if name in (*groups[a], *groups[b])) for a, b in _turns(len(groups)))


def _groups(sizes: Mapping[str, int], most: int) -> Sequence[Sequence[str]]:
    """Neighbours grouped up to `most` bytes; a larger version is a group by itself."""
    groups: list[list[str]] = []
    full = 0
    for name, size in sizes.items():
        if not groups or full + size > most:
            groups.append([])
            full = 0
        groups[-1].append(name)
        full += size
    return groups


def _turns(count: int) -> Iterator[tuple[int, int]]:
    """Every two of `count` groups, ordered so that consecutive turns share a group."""
    for first in range(count - 1):
        seconds = range(first + 1, count)
        yield from ((first, second) for second in (seconds if first % 2 == 0 else reversed(seconds)))
