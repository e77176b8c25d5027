"""Which break of the catalogue a measured cell shows, and how much of a survey each break costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torchskew.model.outcomes import Verdict
from torchskew.model.survey import Place, Sighting, SurveyPart
from torchskew.releases.breaks import Break, BreakFinder, Catalogue, Side


def shown_break(place: Place, find: BreakFinder, sides: Mapping[str, Side]) -> Break | None:
    """The one break that a failing cell shows. sides: what each declared release reported."""
    return find.only(place.scenario, [sides.get(name, Side(name)) for name in (place.first, place.second)])


def sides_of(part: SurveyPart) -> dict[str, Side]:
    """What the ranks of each declared release reported."""
    return {each.name: Side(each.torch or each.name, each.python, each.numpy) for each in part.releases}


def fails_alone(place: Place, seen: Mapping[Place, Sighting]) -> bool:
    """Whether the scenario fails with the same release on every rank too, so that it is no matter of two releases."""
    same = (seen.get(Place(place.scenario, name, name)) for name in (place.first, place.second))
    return any(each is not None and each.verdict is Verdict.FAIL for each in same)


def costs(part: SurveyPart, catalogue: Catalogue) -> Counter[str]:
    """Cells of two releases that each break fails or blocks, by its id; "" for failures that no entry explains."""
    seen, find, sides = part.by_place, BreakFinder(catalogue), sides_of(part)
    counts: Counter[str] = Counter()
    for place, sighting in seen.items():
        if sighting.verdict not in (Verdict.FAIL, Verdict.BLOCKED) or place.first == place.second:
            continue
        blocked = sighting.verdict is Verdict.BLOCKED
        cause = Place(sighting.blocked_by, place.first, place.second) if blocked else place
        if not fails_alone(cause, seen):
            entry = shown_break(cause, find, sides)
            counts[entry.id if entry else ""] += 1
    return counts
