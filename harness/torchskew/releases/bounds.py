"""Bounds over releases, written as in ">=2.0,<2.13"."""

from __future__ import annotations

from functools import cache

from torchskew.guard.table import parse


@cache
def within(release: str, bounds: str) -> bool:
    """Whether a release keeps to every bound; "" has none. ValueError where a bound is misspelt."""
    number = parse(release) or ()
    return all(_keeps(number, bound) for bound in bounds.split(",") if bound)


def _keeps(number: tuple[int, ...], bound: str) -> bool:
    limit = parse(bound.lstrip("<>=")) or ()
    if not limit or not bound.startswith((">=", "<")) or bound.startswith("<="):
        raise ValueError(f"a bound is >=RELEASE or <RELEASE, got {bound!r}")
    return number >= limit if bound.startswith(">=") else number < limit


def words(bounds: str) -> str:
    """Bounds for a reader: "2.2 to before 2.5", "before 2.2", "2.5 and later", "any release"."""
    low = next((bound[2:] for bound in bounds.split(",") if bound.startswith(">=")), "")
    high = next((bound[1:] for bound in bounds.split(",") if bound.startswith("<")), "")
    if low and high:
        return f"{low} to before {high}"
    if low:
        return f"{low} and later"
    return f"before {high}" if high else "any release"
