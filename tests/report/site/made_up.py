"""A survey of any size, made up but alike every time, for tests and the benchmark of the site."""

from __future__ import annotations

from torchskew.guard.table import parse
from torchskew.model.outcomes import Kind, Outcome, Verdict
from torchskew.model.survey import Place, Sighting, Survey, SurveyedRelease, SurveyedRun, SurveyedScenario, SurveyPart
from torchskew.report.catalogue import catalogue
from torchskew.report.site.expected import Expected
from torchskew.report.site.facts import laid_out
from torchskew.report.site.page_data import Contents

OK, OPAQUE, TIMEOUT, WRONG = Outcome.OK, Outcome.OPAQUE, Outcome.TIMEOUT, Outcome.WRONG
NAMES = (
    "1.13.0", "1.13.1", "2.0.0", "2.0.1", "2.1.0", "2.1.1", "2.1.2", "2.2.0", "2.2.1", "2.2.2", "2.3.0", "2.3.1",
    "2.4.0", "2.4.1", "2.5.0", "2.5.1", "2.6.0", "2.7.0", "2.7.1", "2.8.0", "2.9.0", "2.9.1", "2.10.0", "2.11.0",
    "2.12.0", "2.12.1", "2.12.2", "2.13.0", "2.14.0", "2.14.1", "2.15.0",
)  # fmt: skip
FOUR = ("2.1.2", "2.2.2", "2.6.0", "2.13.0")
MEETS = Sighting(
    verdict=Verdict.FAIL,
    outcomes=(TIMEOUT, OPAQUE),
    predicted=(TIMEOUT, OPAQUE),
    errors=("DistStoreError: Timed out after 6 seconds waiting for clients. 1/2 clients joined.",
            "DistNetworkError: Connection reset by peer"),
)  # fmt: skip
RIGHT = Sighting(verdict=Verdict.PASS, outcomes=(OK, OK), predicted=(OK, OK))
BLOCKED = Sighting(verdict=Verdict.BLOCKED, blocked_by="rendezvous_tcp")
DRAWS = Sighting(verdict=Verdict.FAIL, outcomes=(OK, WRONG), predicted=(OK, OK), reason="bernoulli differs")


def scenarios(count: int) -> tuple[SurveyedScenario, ...]:
    """The rendezvous, a handover, and groups."""
    known = [
        SurveyedScenario(name="rendezvous_tcp", kind=Kind.GROUP, surface="rendezvous"),
        SurveyedScenario(name="rng_state", kind=Kind.HANDOVER, surface="files"),
    ]
    groups = (SurveyedScenario(name=f"group.v{n}", kind=Kind.GROUP, surface="collectives") for n in range(count - 2))
    return (*known, *groups)


def sighting(place: Place, names: tuple[str, ...]) -> Sighting:
    """Releases around 2.2 do not meet; random draws change in 2.13; a group breaks here and there."""
    first, second = names.index(place.first), names.index(place.second)
    apart = len({(parse(name) or ()) < (2, 2) for name in (place.first, place.second)}) > 1
    if place.scenario == "rng_state":
        return DRAWS if place.first != place.second and "2.13.0" in (place.first, place.second) else RIGHT
    if apart:
        return MEETS if place.scenario == "rendezvous_tcp" else BLOCKED
    odd = place.scenario.endswith("7") and (first + second) % 5 == 1
    return Sighting(verdict=Verdict.FAIL, outcomes=(TIMEOUT, TIMEOUT), reason=f"odd {first % 3}") if odd else RIGHT


def part(names: tuple[str, ...] = FOUR, count: int = 6) -> SurveyPart:
    """One runtime's cells: every release by every release by so many scenarios."""
    known = scenarios(count)
    places = (Place(each.name, first, second) for each in known for first in names for second in names)
    empty = SurveyPart(
        runtime="venv",
        runs=(SurveyedRun(run_id="20261121-160550-a9bd37", day="2026-11-21", torchskew="0.2.0"),),
        releases=tuple(SurveyedRelease(name=name, torch=f"{name}+cpu", python="3.11.7") for name in names),
        scenarios=known, sightings=(), cells={},
    )  # fmt: skip
    return laid_out(empty, {place: sighting(place, names) for place in places})


def contents(names: tuple[str, ...] = FOUR, count: int = 6, declared: tuple[str, ...] = ("2.15.0",)) -> Contents:
    """What a site shows: the survey, and predictions for releases that are only declared."""
    known, every = scenarios(count), (*names, *(name for name in declared if name not in names))
    places = (Place(each.name, first, second) for each in known for first in every for second in every)
    foreseen = Sighting(verdict=Verdict.PASS, outcomes=(OK, OK))
    expected = Expected(
        runtime="venv", releases=every, scenarios=known, sightings=dict.fromkeys(places, foreseen), pythons={}
    )
    survey = Survey(parts=(part(names, count),))
    promises = {"rendezvous_tcp": "Ranks meet.", "group": "A group works."}
    return Contents(survey=survey, expected=(expected,), catalogue=catalogue(), promises=promises)
