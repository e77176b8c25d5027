"""Bisection: which pairs of releases to run next, and which results follow from those that ran; pure.

Releases stand in order, 0 the oldest. Neighbours that act alike are an era: the pairs of the first, the middle and the
last of them came to the same. A pair of two eras, or within one, is inferred from the corners: the pairs of the first
and last releases of both. It is inferred only where every pair that ran between those eras agrees; where one does not,
the eras are halved and the halves looked at by themselves, down to single releases, which are run. Every release runs
with itself, so what it can't do alone is seen and never inferred.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

Pair = tuple[int, int]
Era = tuple[int, int]  # the first and the last of its releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next: run these pairs, or, when there are none, take what was inferred.

    inferred: pair -> the pairs that ran from which it follows, all of which came to the same. eras: as found so far.
    """

    run: frozenset[Pair] = frozenset()
    inferred: Mapping[Pair, tuple[Pair, ...]] = field(default_factory=dict)
    eras: tuple[Era, ...] = ()


def decide(count: int, seen: Mapping[Pair, str]) -> Step:
    """The next step for a table of `count` releases. seen: what each pair that ran came to, in a word."""
    table = _Table(seen)
    table.ask((release, release) for release in range(count))
    eras: list[Era] = [(0, count - 1)]
    for work in (_cut, _joined, _agreeing):
        if not table.missing:
            eras = work(eras, table)
    if table.missing:
        return Step(run=frozenset(table.missing), eras=tuple(eras))
    return Step(inferred={pair: why for pair, why in _inferences(eras) if pair not in seen}, eras=tuple(eras))


class _Table:
    """What is seen so far; remembers which pairs were asked for and are not there."""

    def __init__(self, seen: Mapping[Pair, str]) -> None:
        self.seen = seen
        self.missing: set[Pair] = set()

    def ask(self, pairs: Iterable[Pair]) -> bool:
        """Whether all of these ran."""
        lacking = {pair for pair in pairs if pair not in self.seen}
        self.missing |= lacking
        return not lacking

    def words(self, one: Era, other: Era) -> set[str]:
        """Everything seen between two eras."""
        return {self.seen[pair] for pair in product(_all(one), _all(other)) if pair in self.seen}

    def agrees(self, one: Era, other: Era) -> bool | None:
        """Whether all corners, and whatever else ran between two eras, came to the same; None: not known yet."""
        if len(self.words(one, other)) > 1:
            return False
        return True if self.ask(_corners(one, other)) else None

    def is_era(self, era: Era) -> bool | None:
        """Whether these releases act alike, by their ends and, where there are more, the one in the middle."""
        ends = self.agrees(era, era)
        middle = sum(era) // 2
        if ends is not True or middle in era:
            return ends
        return True if self.ask([(era[0], middle), (middle, era[0])]) else None


def _cut(eras: list[Era], table: _Table) -> list[Era]:
    """Halve until the ends of each part act alike; a part of which too little is known stays whole."""
    found: list[Era] = []
    for era in eras:
        found += _cut(_halves(era), table) if table.is_era(era) is False else [era]
    return found


def _joined(eras: list[Era], table: _Table) -> list[Era]:
    """Halving also cuts where nothing changes: parts that are one era together are put together again.

    Never across a release that is like its neighbours on both sides while they are not like each other.
    """
    found = eras[:1]
    for era in eras[1:]:
        whole = (found[-1][0], era[1])
        if table.is_era((found[-1][1], era[0])) and table.is_era(whole):
            found[-1] = whole
        else:
            found.append(era)
    return found


def _agreeing(eras: list[Era], table: _Table) -> list[Era]:
    """Halve eras until whatever ran between every two of them, in both orders, agrees."""
    while True:
        odd: set[Era] = set()
        for one, other in product(eras, repeat=2):
            if table.agrees(one, other) is False:
                odd |= _changing(one, other, table)
        if table.missing or not odd:
            return eras
        eras = [part for era in eras for part in (_halves(era) if era in odd else [era])]


def _changing(one: Era, other: Era, table: _Table) -> set[Era]:
    """Of two eras that disagree, those within which something changes; both where that does not show."""
    rows = any(len(table.words(one, (column, column))) > 1 for column in _all(other))
    columns = any(len(table.words((row, row), other)) > 1 for row in _all(one))
    odd = {era for era, changes in ((one, rows), (other, columns)) if changes and era[0] < era[1]}
    return odd or {era for era in (one, other) if era[0] < era[1]}


def _inferences(eras: list[Era]) -> Iterator[tuple[Pair, tuple[Pair, ...]]]:
    for one, other in product(eras, repeat=2):
        for pair in product(_all(one), _all(other)):
            yield pair, tuple(_corners(one, other))


def _all(era: Era) -> range:
    return range(era[0], era[1] + 1)


def _corners(one: Era, other: Era) -> list[Pair]:
    return list(dict.fromkeys(product(one, other)))


def _halves(era: Era) -> list[Era]:
    middle = sum(era) // 2
    return [(era[0], middle), (middle + 1, era[1])]
