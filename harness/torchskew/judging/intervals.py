"""How much larger one release's measurements are than another's, with an interval, in words and as an opinion; pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from torchskew.planning.scenario import Opinion

CONFIDENCE = 0.95  # of the interval, which has to be above the bound as a whole: without a change it never is
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How much larger the second release's values are: 0.12 is 12 %. low, high: the interval around the middle."""

    middle: float
    low: float
    high: float


def quads(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """The change of each quad of turns A B B A, in which a drift of the machine cancels out.

    first, second: the values of each release's turns in order; two of each make a quad.
    """
    pairs = zip(_sums(first), _sums(second), strict=True)
    return [second_sum / first_sum - 1.0 for first_sum, second_sum in pairs]


def _sums(values: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(values[::2], values[1::2], strict=True)]


def change_of_pairs(changes: Sequence[float], seed: int) -> Change:
    """The median of changes that were measured pair by pair, with a bootstrap interval."""
    resampled = _medians(changes, random.Random(seed))
    return _change(median(changes), resampled)


def change_of_medians(first: Sequence[float], second: Sequence[float], seed: int) -> Change:
    """How much larger the second median is, where the values were measured one release after another."""
    chance = random.Random(seed)
    firsts, seconds = _medians(first, chance), _medians(second, chance)
    resampled = [larger / smaller - 1.0 for smaller, larger in zip(firsts, seconds, strict=True)]
    return _change(median(second) / median(first) - 1.0, resampled)


def _medians(values: Sequence[float], chance: random.Random) -> list[float]:
    return [median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES)]


def _change(middle: float, resampled: list[float]) -> Change:
    resampled.sort()
    left_out = int(len(resampled) * (1.0 - CONFIDENCE) / 2)
    return Change(middle=middle, low=resampled[left_out], high=resampled[-1 - left_out])


def opinion(change: Change, bound: float, words: tuple[str, str]) -> Opinion:
    """WRONG on rank 1 where the whole interval is above the bound; undecided where the bound is inside it.

    words: for more and for less, such as "slower" and "faster". Less is never wrong.
    """
    said = in_words(change, words)
    if change.low > bound:
        return Opinion(wrong={1: f"{said}; {percent(bound)} % is allowed"})
    if change.high > bound:
        return Opinion(undecided=f"too noisy to say: {said}; {percent(bound)} % is allowed")
    return Opinion(note=said)


def in_words(change: Change, words: tuple[str, str]) -> str:
    """`slower by 12 % (9 to 15)`, or the largest difference that the interval leaves possible."""
    more, less = words
    if change.low > 0:
        return f"{more} by {percent(change.middle)} % ({percent(change.low)} to {percent(change.high)})"
    if change.high < 0:
        return f"{less} by {percent(-change.middle)} % ({percent(-change.high)} to {percent(-change.low)})"
    return f"no difference above {percent(max(-change.low, change.high))} %"


def percent(share: float) -> str:
    """A share in percent, with two digits below ten."""
    text = f"{100 * share:.1f}" if abs(share) < 0.0995 else f"{100 * share:.0f}"
    return text.removesuffix(".0").removeprefix("-" if not float(text) else "")
