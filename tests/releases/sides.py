"""What two ranks run that keep to the bounds of an observation."""

from __future__ import annotations

from collections.abc import Sequence

from torchskew.releases.bounds import within
from torchskew.releases.observed import Observation

PYTHONS, NUMPYS = ("3.9", "3.11", "3.13", "3.14"), ("1.19", "1.24", "1.26", "2.4")


def of(observation: Observation) -> list[tuple[str, str, str]]:
    """Torch, Python and NumPy of both ranks of its cell; "" where it doesn't matter."""
    torch = observation.cell.split(",")
    return [
        (release, _within(python, PYTHONS), _within(numpy, NUMPYS))
        for release, python, numpy in zip(torch, observation.python, observation.numpy, strict=True)
    ]


def _within(bounds: str, known: Sequence[str]) -> str:
    return next(each for each in known if within(each, bounds)) if bounds else ""
