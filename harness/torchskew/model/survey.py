"""What surveys have measured, as data: every release by every release by every scenario, without logs.

It is committed as docs/survey.json, so that page and site are made on a clone that has run nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchskew.model.cells import Cell
from torchskew.model.ids import USUAL
from torchskew.model.outcomes import Kind, Outcome, Verdict

VERSION = "1.1.0"  # of the data; a new major where a field changes its meaning
NONE = -1  # in `cells`: nothing was planned there


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedRelease:
    """A release as a survey ran it. name: declared; torch, python, numpy: as its ranks reported them."""

    name: str
    torch: str = ""
    python: str = ""
    numpy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedScenario:
    """A scenario with its variant. surface: the folder of its file."""

    name: str
    kind: Kind
    surface: str

    @classmethod
    def of(cls, cell: Cell, surfaces: Mapping[str, str]) -> SurveyedScenario:
        """That of a cell. surfaces: the folder of each scenario's file."""
        return cls(name=cell.name, kind=cell.kind, surface=surfaces.get(cell.scenario, ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """How a cell ended. Cells that ended alike share one.

    errors: of each rank, "" where it had none; numbers of four digits and more, addresses and paths are taken out.
    reason: the judge's, where no rank raised an error; of a cell that passes, what it notes besides.
    blocked_by: the scenario that failed for the same releases. inferred: not run; it follows from cells of the same
    eras. run: where the cell was judged.
    """

    verdict: Verdict
    outcomes: tuple[Outcome, ...] = ()
    predicted: tuple[Outcome, ...] = ()
    errors: tuple[str, ...] = ()
    reason: str = ""
    blocked_by: str = ""
    inferred: bool = False

    @property
    def comparable(self) -> bool:
        """It really ran, and could have been as predicted or not."""
        return self.verdict in (Verdict.PASS, Verdict.FAIL) and not self.inferred and bool(self.predicted)

    @property
    def surprising(self) -> bool:
        """It really ran, and ended otherwise than predicted."""
        return self.comparable and self.predicted != self.outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedRun:
    """A run that cells come from. day: on which it began."""

    run_id: str
    day: str
    torchskew: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell is: a scenario, the release of rank 0 (host, writer) and that of the other rank (joiner, reader)."""

    scenario: str
    first: str
    second: str

    @classmethod
    def of(cls, cell: Cell) -> Place | None:
        """The place of a cell; None for one of more than two ranks, with the guard, a bridge, a fault or a network."""
        if cell.world_size > len("ab") or cell.fault or cell.conditions != USUAL:
            return None
        return cls(cell.name, cell.skew[0], cell.skew[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyPart:
    """All cells of one runtime, without the guard. wide: cells of other numbers of ranks, which are not here.

    cells: by scenario, then by the first release, then by the second: the number of a sighting, or -1.
    """

    runtime: str
    runs: tuple[SurveyedRun, ...]
    releases: tuple[SurveyedRelease, ...]
    scenarios: tuple[SurveyedScenario, ...]
    sightings: tuple[Sighting, ...]
    cells: Mapping[str, tuple[tuple[int, ...], ...]]
    wide: int = 0

    @property
    def by_place(self) -> dict[Place, Sighting]:
        """Every cell that is known, by its place."""
        names = [release.name for release in self.releases]
        return {
            Place(scenario, first, second): self.sightings[number]
            for scenario, rows in self.cells.items()
            for first, row in zip(names, rows, strict=True)
            for second, number in zip(names, row, strict=True)
            if number != NONE
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Everything measured. version: of the data, VERSION when it was written."""

    version: str = VERSION
    parts: tuple[SurveyPart, ...] = field(default_factory=tuple)
