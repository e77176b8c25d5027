"""What the site's page carries: cells as numbers of states, each state with its outcomes, texts and break."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchskew.model.outcomes import Json, Outcome, Verdict
from torchskew.model.survey import NONE, Place, Sighting, Survey, SurveyPart
from torchskew.releases import eras
from torchskew.releases.advice import Advice
from torchskew.releases.breaks import MEANS, Break, BreakFinder, Catalogue, Side, Symptom
from torchskew.report.advice import advice_lines, command
from torchskew.report.breaks import GUARD
from torchskew.report.embedded import Numbered, Texts, outcome_legend
from torchskew.report.pairs import age
from torchskew.report.site.expected import Expected
from torchskew.report.site.shown_breaks import shown_break, sides_of

OUTCOMES = tuple(Outcome)
VERDICTS = tuple(Verdict)
NODES = 4  # of the job that the page advises
PREDICTED, INFERRED, MEASURED = "predicted", "inferred", "measured"
SURFACES = {
    "rendezvous": "rendezvous and store",
    "groups": "process groups",
    "collectives": "collectives",
    "training": "training",
    "files": "files and checkpoints",
    "extensions": "compiled extensions",
    "cost": "speed and memory",
    "alone": "one release alone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything that the site shows. promises: of scenarios, without variants."""

    survey: Survey
    expected: tuple[Expected, ...]
    catalogue: Catalogue
    promises: Mapping[str, str]
    advice: tuple[Advice, ...] = ()


def releases_of(survey: Survey, expected: Iterable[Expected]) -> tuple[str, ...]:
    """Every release that is measured or declared, oldest first."""
    names = [release.name for part in survey.parts for release in part.releases]
    names += [name for each in expected for name in each.releases]
    return tuple(sorted(dict.fromkeys(names), key=age))


def page_data(contents: Contents) -> dict[str, Json]:
    """The page's data as one JSON object."""
    names, texts = releases_of(contents.survey, contents.expected), Texts()
    states: Numbered[_State] = Numbered()
    entries = {entry.id: number for number, entry in enumerate(contents.catalogue.breaks)}
    expected = {each.runtime: each for each in contents.expected}
    parts: list[Json] = [
        _part(part, expected.get(part.runtime), names, contents.catalogue, states) for part in _every_part(contents)
    ]
    others: list[Json] = [
        {"id": each.id, "title": each.title, "check": each.check, "symptoms": _symptoms(each.symptoms)}
        for each in contents.catalogue.others
    ]
    return {
        "releases": list(names),
        "surfaces": dict(SURFACES),
        "outcomes": outcome_legend(),
        "verdicts": list(VERDICTS),
        "parts": parts,
        "states": [_state(key, texts, entries) for key in states.known],
        "promises": dict(contents.promises),
        "breaks": [_entry(entry) for entry in contents.catalogue.breaks],
        "others": others,
        "advice": {f"{each.question.old} {each.question.new}": _advice(each, texts) for each in contents.advice},
        "eras": _eras(names),
        "texts": [*texts.known],
    }


def _every_part(contents: Contents) -> Iterator[SurveyPart]:
    """The measured parts, and an empty one for a runtime that is only declared."""
    measured = {part.runtime for part in contents.survey.parts}
    yield from contents.survey.parts
    for each in contents.expected:
        if each.runtime not in measured and each.runtime == "venv":
            yield SurveyPart(runtime=each.runtime, runs=(), releases=(), scenarios=(), sightings=(), cells={})


@dataclass(frozen=True, slots=True)
class _State:
    """What cells of one look share. entry: the id of the break that they show, "" where none or several fit."""

    sighting: Sighting
    source: str
    entry: str


def _part(
    part: SurveyPart, expected: Expected | None, names: Sequence[str], catalogue: Catalogue, states: Numbered[_State]
) -> dict[str, Json]:
    seen = part.by_place
    declared = expected.pythons if expected else {}
    find = BreakFinder(catalogue)
    sides = {**{name: Side(name, python) for name, python in declared.items()}, **sides_of(part)}
    scenarios = {each.name: each for each in (*part.scenarios, *(expected.scenarios if expected else ()))}

    foreseen = expected.sightings if expected else {}

    def number(place: Place) -> int:
        sighting = seen.get(place) or foreseen.get(place)
        if sighting is None:
            return NONE
        source = PREDICTED if place not in seen else INFERRED if sighting.inferred else MEASURED
        entry = shown_break(place, find, sides) if sighting.verdict is Verdict.FAIL else None
        return states(_State(sighting, source, entry.id if entry else ""))

    known = {release.name: release for release in part.releases}
    return {
        "runtime": part.runtime,
        "runs": [{"id": run.run_id, "day": run.day} for run in part.runs],
        "measured": [name in known for name in names],
        "declared": [name in known or bool(expected and name in expected.releases) for name in names],
        "torch": [known[name].torch if name in known else "" for name in names],
        "python": [known[name].python if name in known else "" for name in names],
        "numpy": [known[name].numpy if name in known else "" for name in names],
        "wide": part.wide,
        "scenarios": [{"name": each.name, "kind": each.kind, "surface": each.surface} for each in scenarios.values()],
        "cells": [
            [[number(Place(each.name, first, second)) for second in names] for first in names]
            for each in scenarios.values()
        ],
    }


def _state(state: _State, texts: Texts, entries: Mapping[str, int]) -> dict[str, Json]:
    """What is empty is left out."""
    seen = state.sighting
    fields: dict[str, Json] = {
        "v": VERDICTS.index(seen.verdict),
        "o": [OUTCOMES.index(each) for each in seen.outcomes],
        "p": [OUTCOMES.index(each) for each in seen.predicted] if state.source == MEASURED and seen.surprising else [],
        "e": [texts(error) for error in seen.errors],
        "r": texts(seen.reason),
        "k": seen.blocked_by,
        "s": "" if state.source == MEASURED else state.source,
        "b": entries[state.entry] + 1 if state.entry else 0,
    }
    return {name: value for name, value in fields.items() if value or name == "v"}


def _entry(entry: Break) -> dict[str, Json]:
    return {
        "id": entry.id,
        "title": entry.title,
        "surfaces": list(entry.surfaces),
        "sides": list(dict.fromkeys(map(str, entry.affects))),
        "affects": [
            {
                "first": each.first,
                "second": each.second,
                "either": each.either,
                "python": list(each.python),
                "numpy": list(each.numpy),
            }
            for each in entry.affects
        ],
        "symptoms": _symptoms(entry.symptoms),
        "cause": entry.cause,
        "sources": list(entry.sources),
        "now": entry.remedy.now,
        "lasting": entry.remedy.lasting,
        "guard": GUARD[entry.guard],
        "rolling": MEANS[entry.rolling],
        "silent": entry.silent,
        "alone": entry.of_one_release,
        "fixed": entry.fixed_in,
    }


def _symptoms(symptoms: Iterable[Symptom]) -> list[Json]:
    return [{"text": each.text, "rank": each.rank, "specific": each.specific} for each in symptoms]


def _advice(advice: Advice, texts: Texts) -> dict[str, Json]:
    """The same parts as `torchskew advise` prints, each with its entries."""
    lines: list[Json] = [
        [line.name, texts(line.text), [entry.id for entry in dict.fromkeys(line.breaks)]]
        for line in advice_lines(advice, NODES)
    ]
    return {"lines": lines, "proof": texts(command(advice))}


def _eras(names: Sequence[str]) -> list[Json]:
    """For each thing that releases speak: which dialect each of them speaks, named by the first that did."""
    known = {name: eras.release(name) for name in names}

    def row(title: str, explains: str, of: Mapping[str, str]) -> Json:
        return {"title": title, "explains": explains, "of": [of.get(name, "") for name in names]}

    found = {name: each for name, each in known.items() if each is not None}
    return [
        row("TCPStore", "how ranks find each other", {name: each.store.era for name, each in found.items()}),
        row("gloo", "bytes of collectives on CPUs", {name: each.gloo for name, each in found.items()}),
        row("keys", "names that groups use in the store", {name: each.keys for name, each in found.items()}),
        row("checkpoint", "metadata of distributed checkpoints",
            {name: each.files.checkpoint for name, each in found.items()}),
        row("torchrun state", "what agents of torchrun agree on",
            {name: each.files.rendezvous_state for name, each in found.items()}),
    ]  # fmt: skip
