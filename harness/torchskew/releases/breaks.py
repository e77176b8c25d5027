"""The catalogue of breaks as records: which releases do not work together, what ranks then see, why, and what to do.

The data is breaks.json beside this module, with breaks.schema.json; docs/breaks.md is generated from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from torchskew.releases.bounds import within, words


class GuardSays(StrEnum):
    """What the guard does about a break."""

    REFUSES = "refuses"
    NOTES = "notes"
    SILENT = "silent"
    NO_GROUP = "no group"


class Rolling(StrEnum):
    """What a rolling upgrade across a break has to do."""

    STOPS = "stops"
    ORDER = "order"
    MEETS = "meets"
    ROLLBACK = "rollback"
    NO = "no"


MEANS = {
    Rolling.STOPS: "a rolling upgrade has to stop here",
    Rolling.ORDER: "a rolling upgrade works when rank 0 is upgraded first",
    Rolling.MEETS: "a rolling upgrade meets it where the job uses this",
    Rolling.ROLLBACK: "the way up works; the way back does not",
    Rolling.NO: "an upgrade does not cause it",
}


@dataclass(frozen=True, slots=True)
class Side:
    """What one rank runs: its torch release, its Python and its NumPy ("" where not known), or bounds for them."""

    torch: str
    python: str = ""
    numpy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """Which cells show a break. first, second: bounds for rank 0 (host, writer) and another rank (joiner, reader).

    scenarios: patterns over names with variants. either: the other order shows it as well. python, numpy:
    bounds for the Python and the NumPy of the same two ranks; ("", "") where they don't matter.
    """

    scenarios: tuple[str, ...]
    first: str
    second: str
    either: bool
    python: tuple[str, str] = ("", "")
    numpy: tuple[str, str] = ("", "")

    def covers(self, scenario: str, first: Side, second: Side) -> bool:
        """Whether two ranks in this scenario are meant."""
        return _matches(scenario, self.scenarios) and self.between(first, second)

    def between(self, first: Side, second: Side) -> bool:
        """Whether two ranks, in this order, are on the two sides."""
        orders = [(first, second), (second, first)] if self.either else [(first, second)]
        bounds = tuple(map(Side, (self.first, self.second), self.python, self.numpy))
        return any(all(map(_keeps, order, bounds)) for order in orders)

    @property
    def of_one_kind(self) -> bool:
        """Both sides may run the same torch, Python and NumPy."""
        return self.first == self.second and self.python[0] == self.python[1] and self.numpy[0] == self.numpy[1]

    def __str__(self) -> str:
        """The two sides for a reader."""
        arrow = "with" if self.either else "then"
        return f" {arrow} ".join(map(_side, (self.first, self.second), self.python, self.numpy))


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """A text that ranks show; `*` stands for anything within a line. specific: it occurs with nothing else."""

    text: str
    rank: str
    specific: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to do now, and what to do for good."""

    now: str
    lasting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One entry of the catalogue. cells: ids of cells that show it. fixed_in: the first release without it.

    silent: ranks end without an error, and with other values.
    """

    id: str
    title: str
    surfaces: tuple[str, ...]
    affects: tuple[Affected, ...]
    symptoms: tuple[Symptom, ...]
    cause: str
    sources: tuple[str, ...]
    remedy: Remedy
    guard: GuardSays
    rolling: Rolling
    silent: bool
    fixed_in: str | None
    cells: tuple[str, ...]

    def covers(self, scenario: str, ranks: Sequence[Side]) -> bool:
        """Whether a cell of this scenario over these ranks, rank 0 first, shows this break."""
        pairs = [(ranks[0], other) for other in ranks[1:]] or [(ranks[0], ranks[0])]
        return any(each.covers(scenario, *pair) for each in self.affects for pair in pairs)

    def between(self, first: Side, second: Side) -> bool:
        """Whether two ranks, in this order, are on the two sides of it in any scenario."""
        return any(each.between(first, second) for each in self.affects)

    @property
    def of_one_release(self) -> bool:
        """It needs no second release: the same release on every rank shows it."""
        return any(each.of_one_kind for each in self.affects)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherCause:
    """A failure that is no release's fault and looks like one. check: how to show it."""

    id: str
    title: str
    symptoms: tuple[Symptom, ...]
    check: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All known breaks, and the other causes that look like them."""

    version: str
    breaks: tuple[Break, ...]
    others: tuple[OtherCause, ...]

    def of_cell(self, scenario: str, ranks: Sequence[Side]) -> tuple[Break, ...]:
        """The breaks that a failing cell shows; the catalogue's test holds that a measured one shows exactly one."""
        return tuple(each for each in self.about(scenario) if each.covers(scenario, ranks))

    def about(self, scenario: str) -> tuple[Break, ...]:
        """The entries that speak of a scenario, whatever the releases."""
        return tuple(
            each for each in self.breaks if any(_matches(scenario, affected.scenarios) for affected in each.affects)
        )

    def named(self, identity: str) -> Break | None:
        """The entry with this id, such as SKEW-014, in any case."""
        return next((each for each in self.breaks if each.id == identity.upper()), None)


@dataclass(frozen=True, slots=True)
class BreakFinder:
    """Finds the one break that a failing cell shows; it is asked of each cell, and of few scenarios."""

    catalogue: Catalogue
    _about: dict[str, tuple[Break, ...]] = field(default_factory=dict)

    def only(self, scenario: str, ranks: Sequence[Side]) -> Break | None:
        """The entry that covers a cell of these ranks; None where none does, or several do."""
        if scenario not in self._about:
            self._about[scenario] = self.catalogue.about(scenario)
        found = [entry for entry in self._about[scenario] if entry.covers(scenario, ranks)]
        return found[0] if len(found) == 1 else None


def catalogue_from(data: Mapping[str, Any]) -> Catalogue:
    """The catalogue out of its JSON. KeyError, TypeError, ValueError: it breaks its schema."""
    return Catalogue(
        version=data["version"],
        breaks=tuple(map(_break, data["breaks"])),
        others=tuple(
            OtherCause(id=each["id"], title=each["title"], symptoms=tuple(_symptoms(each)), check=each["check"])
            for each in data["others"]
        ),
    )


def _break(entry: Mapping[str, Any]) -> Break:
    return Break(
        id=entry["id"],
        title=entry["title"],
        surfaces=tuple(entry["surfaces"]),
        affects=tuple(_affected(each) for each in entry["affects"]),
        symptoms=tuple(_symptoms(entry)),
        cause=entry["cause"],
        sources=tuple(entry["sources"]),
        remedy=Remedy(**entry["remedy"]),
        guard=GuardSays(entry["guard"]),
        rolling=Rolling(entry["rolling"]),
        silent=entry["silent"],
        fixed_in=entry["fixed_in"],
        cells=tuple(entry["cells"]),
    )


def _affected(entry: Mapping[str, Any]) -> Affected:
    return Affected(
        scenarios=tuple(entry["scenarios"]),
        first=entry["first"],
        second=entry["second"],
        either=entry["either"],
        python=(entry["python"][0], entry["python"][1]),
        numpy=tuple(entry.get("numpy", ("", ""))),
    )


def _side(torch: str, python: str, numpy: str) -> str:
    """Bounds of one side for a reader."""
    besides = f" on Python {words(python)}" if python else ""
    return words(torch) + besides + (f" with NumPy {words(numpy)}" if numpy else "")


@cache
def _matches(scenario: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(scenario, pattern) for pattern in patterns)


def _keeps(rank: Side, bounds: Side) -> bool:
    """Whether a rank is within bounds; one whose Python or NumPy is not known keeps to no bound over it."""
    pairs = ((rank.torch, bounds.torch), (rank.python, bounds.python), (rank.numpy, bounds.numpy))
    return all(not bound or (bool(known) and within(known, bound)) for known, bound in pairs)


def _symptoms(entry: Mapping[str, Any]) -> Iterator[Symptom]:
    return (Symptom(**each) for each in entry["symptoms"])


def surfaces(breaks: Iterable[Break]) -> tuple[str, ...]:
    """Every surface that some entry names, in the order of the catalogue."""
    return tuple(dict.fromkeys(surface for each in breaks for surface in each.surfaces))
