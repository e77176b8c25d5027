"""What a declaration leads one to expect of every pair of its releases, whether it was measured or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchskew.model.cells import Cell, Plan
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.survey import Place, Sighting, SurveyedScenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The predictions of one runtime. pythons: of each release, "" where the declaration doesn't say."""

    runtime: str
    releases: tuple[str, ...]
    scenarios: tuple[SurveyedScenario, ...]
    sightings: Mapping[Place, Sighting]
    pythons: Mapping[str, str]


def expected_of(plan: Plan, pythons: Mapping[str, str], surfaces: Mapping[str, str]) -> Expected:
    """The predictions of a plan's cells of one or two ranks, without the guard."""
    verdicts = {cell.id: _verdict(cell.predicted) for cell in plan.cells}
    scenarios: dict[str, SurveyedScenario] = {}
    sightings: dict[Place, Sighting] = {}
    for cell in plan.cells:
        place = Place.of(cell)
        if place is not None:
            scenarios.setdefault(place.scenario, SurveyedScenario.of(cell, surfaces))
            sightings[place] = _foreseen(cell, verdicts)
    return Expected(
        runtime=plan.runtime,
        releases=tuple(dict.fromkeys(name for cell in plan.cells for name in cell.skew)),
        scenarios=tuple(scenarios.values()),
        sightings=sightings,
        pythons=pythons,
    )


def _foreseen(cell: Cell, verdicts: Mapping[CellId, Verdict]) -> Sighting:
    verdict = verdicts[cell.id]
    blockers = [need for need in cell.needs if verdicts.get(need) is Verdict.FAIL]
    if blockers and verdict is not Verdict.UNSUPPORTED:
        return Sighting(verdict=Verdict.BLOCKED, blocked_by=blockers[0].name)
    return Sighting(verdict=verdict, outcomes=cell.predicted)


def _verdict(outcomes: tuple[Outcome, ...]) -> Verdict:
    """What a cell with these outcomes would be; UNKNOWN where nothing is predicted."""
    if Outcome.UNSUPPORTED in outcomes:
        return Verdict.UNSUPPORTED
    if not outcomes:
        return Verdict.UNKNOWN
    return Verdict.PASS if set(outcomes) in ({Outcome.OK}, {Outcome.CLEAR}) else Verdict.FAIL
