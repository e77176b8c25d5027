"""What a measurement says about releases: their order, their eras, and which of them act alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from torchskew.guard.table import parse
from torchskew.model.runs import Run
from torchskew.model.versions import span
from torchskew.releases import eras


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """Neighbouring releases with one store, one wire and one chain of keys. versions: declared names, oldest first."""

    versions: tuple[str, ...]
    speaks: str

    @property
    def name(self) -> str:
        """`2.2.2-2.4.1`, or the one release."""
        return span(self.versions)


def releases(run: Run) -> Mapping[str, str]:
    """Declared name -> the release that its ranks reported, oldest first; those that are no release come last."""
    reported = {facts.declared: facts.torch for result in run.results for facts in result.ranks if facts.torch}
    names = dict.fromkeys(name for cell in run.plan.cells for name in cell.skew)
    texts = {name: reported.get(name, name) for name in names}
    numbers = {name: named.number if (named := eras.release(text)) else (9999,) for name, text in texts.items()}
    return dict(sorted(texts.items(), key=lambda each: numbers[each[0]]))


def age(name: str, torch: str = "") -> tuple[tuple[int, ...], str]:
    """What sorts declared names oldest first, those that are no release last. torch: what its ranks reported."""
    return parse(torch or name) or (9999,), name


def eras_among(named: Mapping[str, str]) -> tuple[Era, ...]:
    """Releases in eras. named: declared name -> release, oldest first."""
    known = []
    for speaks, group in groupby(named.items(), key=lambda each: _speaks(each[1])):
        known.append(Era(versions=tuple(name for name, _ in group), speaks=speaks))
    return tuple(known)


def _speaks(text: str) -> str:
    named = eras.release(text)
    return f"store {named.store.era}, gloo {named.gloo}, keys {named.keys}" if named else "unknown"


def alike(names: Sequence[str], word: Callable[[str, str], str]) -> tuple[tuple[str, ...], ...]:
    """Neighbours whose rows and columns say the same, so that a table needs one line for them."""
    groups: list[list[str]] = []
    for name in names:
        if groups and _same(groups[-1][-1], name, names, word):
            groups[-1].append(name)
        else:
            groups.append([name])
    return tuple(map(tuple, groups))


def _same(left: str, right: str, names: Sequence[str], word: Callable[[str, str], str]) -> bool:
    among = {word(first, second) for first in (left, right) for second in (left, right)}
    rest = [name for name in names if name not in (left, right)]
    return len(among) == 1 and all(word(left, x) == word(right, x) and word(x, left) == word(x, right) for x in rest)
