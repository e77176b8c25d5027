"""Turns recorded surveys into the facts that are committed, and merges new ones into those that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torchskew.errors import DamagedRecordError, RecordError
from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.model.runs import Run
from torchskew.model.survey import (
    NONE,
    VERSION,
    Place,
    Sighting,
    Survey,
    SurveyedRelease,
    SurveyedRun,
    SurveyedScenario,
    SurveyPart,
)
from torchskew.record.codec import decode, encode
from torchskew.report.pairs import age

LENGTH = 280  # characters of an error that are kept
_TAKEN_OUT = (
    (re.compile(r"\x1b\[[\d;]*m"), ""),
    (re.compile(r"(?<![\w.:/])/(?:[^/\s'\"<>|:]+/)+"), "…/"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "0x…"),
    (re.compile(r"\b(?!127\.)\d{1,3}(?:\.\d{1,3}){3}\b"), "…"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,64}\b"), "…"),
    (re.compile(r"\d{4,}"), "…"),
)


def survey_of(runs: Iterable[Run], surfaces: Mapping[str, str], hosts: Sequence[str] = ()) -> Survey:
    """The facts of recorded surveys, one part for each run. surfaces: the folder of each scenario's file.

    hosts: names of this machine, which errors may hold.
    """
    return Survey(parts=tuple(_part(run, surfaces, hosts) for run in runs))


def _part(run: Run, surfaces: Mapping[str, str], hosts: Sequence[str]) -> SurveyPart:
    places: dict[Place, Sighting] = {}
    scenarios: dict[str, SurveyedScenario] = {}
    wide = 0
    for result in run.results:
        place = Place.of(result.cell)
        if place is None:
            wide += 1
            continue
        scenarios.setdefault(place.scenario, SurveyedScenario.of(result.cell, surfaces))
        places[place] = _sighting(result, hosts)
    ran = SurveyedRun(run_id=run.info.run_id, day=str(run.info.day), torchskew=run.info.torchskew)
    whole = SurveyPart(
        runtime=run.plan.runtime, runs=(ran,), releases=_releases(run), scenarios=tuple(scenarios.values()),
        sightings=(), cells={}, wide=wide,
    )  # fmt: skip
    return laid_out(whole, places)


def _releases(run: Run) -> tuple[SurveyedRelease, ...]:
    """What each declared name was, in the words of its own ranks."""
    names = dict.fromkeys(name for cell in run.plan.cells for name in cell.skew)
    known = {name: SurveyedRelease(name=name) for name in names}
    for result in run.results:
        for facts in result.ranks:
            if facts.torch and facts.declared in known:
                known[facts.declared] = SurveyedRelease(
                    name=facts.declared, torch=facts.torch, python=facts.python or "", numpy=facts.numpy or ""
                )
    return tuple(known.values())


def _sighting(result: CellResult, hosts: Sequence[str]) -> Sighting:
    errors = tuple(_error(facts, outcome, hosts) for facts, outcome in _by_rank(result))
    tells = result.verdict in (Verdict.FAIL, Verdict.UNSUPPORTED, Verdict.UNKNOWN) and not any(errors)
    return Sighting(
        verdict=result.verdict,
        outcomes=result.outcomes,
        predicted=result.cell.predicted,
        errors=errors if any(errors) else (),
        reason=without_machine(result.reason if tells else result.note, hosts),
        blocked_by=result.blocked_by.name if result.blocked_by else "",
        inferred=bool(result.inferred_from),
    )


def _by_rank(result: CellResult) -> Iterator[tuple[RankFacts, Outcome]]:
    return zip(result.ranks, result.outcomes, strict=False)


def _error(facts: RankFacts, outcome: Outcome, hosts: Sequence[str]) -> str:
    if facts.error is None or outcome is Outcome.OK:
        return f"ended by {facts.signal}" if facts.signal and not facts.killed else ""
    return without_machine(f"{facts.error.type.rpartition('.')[2]}: {facts.error.headline}", hosts).rstrip(": ")


def without_machine(text: str, hosts: Sequence[str] = ()) -> str:
    """One line without what differs from run to run and machine to machine: paths, addresses, ports, long numbers."""
    line = (text.strip().splitlines() or [""])[0].encode("utf-8", "replace").decode()
    for host in hosts:
        line = re.sub(rf"\b{re.escape(host)}\b", "…", line)
    for pattern, instead in _TAKEN_OUT:
        line = pattern.sub(instead, line)
    return line if len(line) <= LENGTH else line[: LENGTH - 1] + "…"


def laid_out(whole: SurveyPart, places: Mapping[Place, Sighting]) -> SurveyPart:
    """A part with these cells instead of its own: places become rows of numbers, oldest release first."""
    ordered = tuple(sorted(whole.releases, key=lambda each: age(each.name, each.torch)))
    numbers: dict[Sighting, int] = {}
    cells = {}
    for scenario in whole.scenarios:
        rows = []
        for first in ordered:
            seen = (places.get(Place(scenario.name, first.name, second.name)) for second in ordered)
            rows.append(tuple(NONE if each is None else numbers.setdefault(each, len(numbers)) for each in seen))
        cells[scenario.name] = tuple(rows)
    return replace(whole, releases=ordered, sightings=tuple(numbers), cells=cells)


def merged(before: Survey, after: Survey) -> Survey:
    """Both. A cell of `after` replaces the one of `before`, unless the machine kept it from running; the rest stays."""
    parts = {part.runtime: part for part in before.parts}
    for part in after.parts:
        parts[part.runtime] = _both(parts[part.runtime], part) if part.runtime in parts else part
    return Survey(parts=tuple(parts.values()))


def _both(before: SurveyPart, after: SurveyPart) -> SurveyPart:
    places = before.by_place
    for place, sighting in after.by_place.items():
        if sighting.verdict is not Verdict.UNKNOWN or place not in places:
            places[place] = sighting
    releases = {release.name: release for release in before.releases}
    releases.update(
        {release.name: release for release in after.releases if release.torch or release.name not in releases}
    )
    scenarios = {each.name: each for each in (*before.scenarios, *after.scenarios)}
    runs = {run.run_id: run for run in (*before.runs, *after.runs)}
    whole = replace(
        after, releases=tuple(releases.values()), scenarios=tuple(scenarios.values()), runs=tuple(runs.values()),
        wide=after.wide or before.wide,
    )  # fmt: skip
    return laid_out(whole, places)


def dumps(survey: Survey) -> str:
    """The facts as JSON, one scenario on a line, so that a change of one scenario is a change of one line."""
    data: Any = encode(survey)
    parts = ",\n".join(_part_text(part) for part in data.get("parts", []))
    return f'{{"$schema":"survey.schema.json","version":{json.dumps(survey.version)},"parts":[\n{parts}\n]}}\n'


def _part_text(part: dict[str, Any]) -> str:
    fields = []
    for name, value in part.items():
        if isinstance(value, list):
            text = "[\n" + ",\n".join(map(_compact, value)) + "\n]"
        elif isinstance(value, dict):
            text = "{\n" + ",\n".join(f"{_compact(key)}:{_compact(row)}" for key, row in value.items()) + "\n}"
        else:
            text = _compact(value)
        fields.append(f"{_compact(name)}:{text}")
    return "{" + ",\n".join(fields) + "}"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def loads(text: str, where: str) -> Survey:
    """The facts out of JSON; RecordError: damaged, or of another major version."""
    try:
        data = json.loads(text)
        theirs = str(data.pop("version"))
        data.pop("$schema", None)
    except (ValueError, AttributeError, KeyError) as error:
        raise DamagedRecordError(f"{where} holds no facts of a survey ({error}). Write it again with --save.") from None
    if theirs.partition(".")[0] != VERSION.partition(".")[0]:
        raise RecordError(f"{where} has version {theirs}; this torchskew reads {VERSION}. Write it again with --save.")
    return decode(Survey, {"version": theirs, **data}, where, newer=True)
