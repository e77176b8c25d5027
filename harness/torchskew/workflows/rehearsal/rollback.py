"""Rollback: after which replacements a plan goes back, from an operator's words; pure."""

from __future__ import annotations

from collections.abc import Sequence

EVERY, LAST = "all", "last"
GRAMMAR = 'true, "all", "last", a number of replacements, or several like "1,3"'


def wished(value: object, count: int) -> tuple[bool, tuple[int, ...]]:
    """Whether to go back, and after which of `count` replacements; none named: the seed decides one, and the last.

    Raises:
        ValueError: with what it must be instead.
    """
    if isinstance(value, bool) or value in ("true", "false"):
        return value in (True, "true"), ()
    words = {EVERY: tuple(range(1, count + 1)), LAST: (count,)}
    if isinstance(value, str) and value in words:
        return True, words[value]
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    numbers = tuple(sorted({_number(part, value) for part in parts}))
    check(numbers, count)
    return bool(numbers), numbers


def check(numbers: Sequence[int], count: int) -> None:
    """ValueError for a replacement that a plan of `count` does not have."""
    if beyond := [number for number in numbers if not 1 <= number <= count]:
        raise ValueError(f"must name replacements from 1 to {count}, got {', '.join(map(str, beyond))}.")


def _number(part: object, whole: object) -> int:
    if isinstance(part, int) and not isinstance(part, bool):
        return part
    if isinstance(part, str) and part.strip().isdecimal():
        return int(part)
    raise ValueError(f"must be {GRAMMAR}, got {whole!r}.")
