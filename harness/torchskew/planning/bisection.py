"""Bisection over pairs of releases: which pairs to run next, and which results follow from those that ran. Pure.

Releases are numbered by age, 0 is the oldest. Neighbouring releases that behave alike form an era: the pairs of the
first, the middle and the last of them gave the same result. A pair of two eras, or within one, is inferred from the
corners: the pairs of the first and last releases of both. It is inferred only where every pair that ran between those
eras agrees. Where one disagrees, the eras are halved and each half is examined by itself, down to single releases,
which are run. Every release runs with itself, so what it can't do alone is observed and never inferred.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

Pair = tuple[int, int]
Era = tuple[int, int]  # the first and the last of its releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next: run these pairs or, when there are none, take the inferred results.

    inferred: pair -> the pairs it follows from, which all ran and gave the same result. eras: as known so far.
    """

    run: frozenset[Pair] = frozenset()
    inferred: Mapping[Pair, tuple[Pair, ...]] = field(default_factory=dict)
    eras: tuple[Era, ...] = ()


def next_step(count: int, seen: Mapping[Pair, str]) -> Step:
    """The next step for `count` releases. seen: the result of each pair that ran, in a word."""
    observed = _Observations(seen)
    observed.ask((release, release) for release in range(count))
    eras: list[Era] = [(0, count - 1)]
    for refine in (_cut, _joined, _agreeing):
        if not observed.missing:
            eras = refine(eras, observed)
    if observed.missing:
        return Step(run=frozenset(observed.missing), eras=tuple(eras))
    return Step(inferred={pair: why for pair, why in _inferences(eras) if pair not in seen}, eras=tuple(eras))


class _Observations:
    """The results so far; remembers which pairs were asked for and have not run."""

    def __init__(self, seen: Mapping[Pair, str]) -> None:
        self.seen = seen
        self.missing: set[Pair] = set()

    def ask(self, pairs: Iterable[Pair]) -> bool:
        """Whether all of these ran."""
        lacking = {pair for pair in pairs if pair not in self.seen}
        self.missing |= lacking
        return not lacking

    def words(self, first: Era, second: Era) -> set[str]:
        """Every result between two eras."""
        return {self.seen[pair] for pair in product(_all(first), _all(second)) if pair in self.seen}

    def agrees(self, first: Era, second: Era) -> bool | None:
        """Whether all corners, and every other pair that ran between two eras, agree; None: not known yet."""
        if len(self.words(first, second)) > 1:
            return False
        return True if self.ask(_corners(first, second)) else None

    def is_era(self, era: Era) -> bool | None:
        """Whether these releases behave alike, judged by both ends and, in longer eras, the middle."""
        ends = self.agrees(era, era)
        middle = sum(era) // 2
        if ends is not True or middle in era:
            return ends
        return True if self.ask([(era[0], middle), (middle, era[0])]) else None


def _cut(eras: list[Era], observed: _Observations) -> list[Era]:
    """Halve until the ends of each part behave alike; a part about which too little is known stays whole."""
    parts: list[Era] = []
    for era in eras:
        parts += _cut(_halves(era), observed) if observed.is_era(era) is False else [era]
    return parts


def _joined(eras: list[Era], observed: _Observations) -> list[Era]:
    """Halving also cuts where nothing changes: parts that form one era together are joined again.

    They are never joined across a release that agrees with both neighbours while those disagree with each other.
    """
    joined = eras[:1]
    for era in eras[1:]:
        whole = (joined[-1][0], era[1])
        if observed.is_era((joined[-1][1], era[0])) and observed.is_era(whole):
            joined[-1] = whole
        else:
            joined.append(era)
    return joined


def _agreeing(eras: list[Era], observed: _Observations) -> list[Era]:
    """Halve eras until all results between every two of them agree, in both orders."""
    while True:
        odd: set[Era] = set()
        for first, second in product(eras, repeat=2):
            if observed.agrees(first, second) is False:
                odd |= _changing(first, second, observed)
        if observed.missing or not odd:
            return eras
        eras = [part for era in eras for part in (_halves(era) if era in odd else [era])]


def _changing(first: Era, second: Era, observed: _Observations) -> set[Era]:
    """Of two eras that disagree, those within which a result changes; both where that is not visible."""
    rows = any(len(observed.words(first, (column, column))) > 1 for column in _all(second))
    columns = any(len(observed.words((row, row), second)) > 1 for row in _all(first))
    odd = {era for era, changes in ((first, rows), (second, columns)) if changes and era[0] < era[1]}
    return odd or {era for era in (first, second) if era[0] < era[1]}


def _inferences(eras: list[Era]) -> Iterator[tuple[Pair, tuple[Pair, ...]]]:
    for first, second in product(eras, repeat=2):
        for pair in product(_all(first), _all(second)):
            yield pair, tuple(_corners(first, second))


def _all(era: Era) -> range:
    return range(era[0], era[1] + 1)


def _corners(first: Era, second: Era) -> list[Pair]:
    return list(dict.fromkeys(product(first, second)))


def _halves(era: Era) -> list[Era]:
    middle = sum(era) // 2
    return [(era[0], middle), (middle + 1, era[1])]
