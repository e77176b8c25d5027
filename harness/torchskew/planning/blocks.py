"""Blocks: versions that fit on the disk together, so that every two of them meet in one block; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torchskew.errors import ConfigError
from torchskew.model.sizes import readable


def blocks(sizes: Mapping[str, int], bound: int) -> tuple[tuple[str, ...], ...]:
    """Sets of versions, each within `bound` bytes, that hold every pair; consecutive ones share half of theirs.

    sizes: bytes of each version's environment, in the order of the declaration.

    Raises:
        ConfigError: two of them don't fit together.
    """
    if sum(sizes.values()) <= bound:
        return (tuple(sizes),)
    large = sorted(sizes, key=lambda name: -sizes[name])[:2]
    need = sum(sizes[name] for name in large)
    if need > bound:
        raise ConfigError(
            f"{' and '.join(large)} need {readable(need)} together, {readable(bound)} are allowed. "
            "Free some disk, raise --disk, or leave one out with --versions."
        )
    groups = _groups(sizes, min(bound // 2, bound - sizes[large[0]]))
    return tuple(tuple(name for name in sizes if name in (*groups[a], *groups[b])) for a, b in _turns(len(groups)))


def _groups(sizes: Mapping[str, int], most: int) -> Sequence[Sequence[str]]:
    """Neighbours together up to `most` bytes; what is larger stands alone."""
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
    """Every two of `count` groups, such that one of them stays from turn to turn."""
    for first in range(count - 1):
        seconds = range(first + 1, count)
        yield from ((first, second) for second in (seconds if first % 2 == 0 else reversed(seconds)))
