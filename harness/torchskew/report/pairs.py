"""What a measurement says about pairs of releases: their eras, the cells between two eras, releases that act alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product

from torchskew.model.outcomes import Guard, Verdict
from torchskew.model.results import Checked
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """The stock cells of two ranks whose first is of one era and whose second is of another, or of the same."""

    first: Era
    second: Era
    items: tuple[Checked, ...]

    @property
    def pairs(self) -> int:
        """Ordered pairs of releases that were measured."""
        return len({item.result.cell.skew for item in self.items})

    def named(self, *verdicts: Verdict) -> Mapping[str, tuple[Checked, ...]]:
        """The cells with these verdicts, by scenario, in the plan's order."""
        by_scenario: dict[str, tuple[Checked, ...]] = {}
        for item in self.items:
            if item.result.verdict in verdicts:
                name = item.result.cell.name
                by_scenario[name] = (*by_scenario.get(name, ()), item)
        return by_scenario


def releases(run: Run) -> Mapping[str, str]:
    """Declared name -> the release that its ranks reported, oldest first; those that are no release come last."""
    reported = {facts.declared: facts.torch for result in run.results for facts in result.ranks if facts.torch}
    names = dict.fromkeys(name for cell in run.plan.cells for name in cell.skew)
    texts = {name: reported.get(name, name) for name in names}
    numbers = {name: named.number if (named := eras.release(text)) else (9999,) for name, text in texts.items()}
    return dict(sorted(texts.items(), key=lambda each: numbers[each[0]]))


def eras_of(run: Run) -> tuple[Era, ...]:
    """The releases of a run in eras, oldest first."""
    known = []
    for speaks, group in groupby(releases(run).items(), key=lambda each: _speaks(each[1])):
        known.append(Era(versions=tuple(name for name, _ in group), speaks=speaks))
    return tuple(known)


def _speaks(text: str) -> str:
    named = eras.release(text)
    return f"store {named.store.era}, gloo {named.gloo}, keys {named.keys}" if named else "unknown"


def between(run: Run, checked: Sequence[Checked]) -> Iterator[Between]:
    """Every ordered pair of eras with a cell between them."""
    known = eras_of(run)
    at = {name: index for index, era in enumerate(known) for name in era.versions}
    by_pair: dict[tuple[int, int], list[Checked]] = {}
    for item in checked:
        cell = item.result.cell
        if cell.world_size == len("ab") and cell.guard is Guard.OFF:
            by_pair.setdefault((at[cell.skew[0]], at[cell.skew[1]]), []).append(item)
    for row, column in product(range(len(known)), repeat=2):
        if items := by_pair.get((row, column)):
            yield Between(first=known[row], second=known[column], items=tuple(items))


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
