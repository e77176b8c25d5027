"""Which break of the catalogue a text fits, how well and why, and what else it could be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import permutations

from torchskew.guard.table import parse
from torchskew.releases.breaks import Break, Catalogue, OtherCause, Side, Symptom

EVERY_GROUP = ("store", "process_group")  # surfaces that no job can leave out
REACH = 160  # characters that a `*` of a symptom may stand for


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a log. where: file and number, as in "rank1.log:120"; "" where it has none."""

    text: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRelease:
    """A torch release that a log names, and where."""

    release: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is known of a failure. first, second: releases that the user gave, "" where none.

    named: releases that the text itself names. Nothing is concluded from a single one: other ranks may run another.
    """

    lines: tuple[Line, ...]
    named: tuple[NamedRelease, ...] = ()
    first: str = ""
    second: str = ""

    @property
    def given(self) -> bool:
        """Whether the user said which releases ran."""
        return bool(self.first and self.second)

    @property
    def pairs(self) -> tuple[tuple[Side, Side], ...]:
        """The pairs of releases that may have met; () where fewer than two are known."""
        if self.given:
            return tuple(dict.fromkeys([
                (Side(self.first), Side(self.second)), (Side(self.second), Side(self.first)),
            ]))  # fmt: skip
        names = dict.fromkeys(".".join(map(str, parse(each.release) or ())) for each in self.named)
        return tuple(permutations(map(Side, names), 2))


class Fit(StrEnum):
    """How well an entry fits."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


class Fault(StrEnum):
    """Whose fault it is, by what the catalogue knows."""

    RELEASES = "releases"
    OTHER = "other"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A break that fits. why: what speaks for it, in one sentence. length: characters of the longest text it shows."""

    entry: Break
    fit: Fit
    lines: tuple[Line, ...]
    why: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookalike:
    """Another cause that fits. sure: a line says so that occurs with nothing else."""

    cause: OtherCause
    lines: tuple[Line, ...]
    sure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The answer. matches: best first. sentence: the conclusion in one sentence."""

    fault: Fault
    sentence: str
    matches: tuple[Match, ...]
    others: tuple[Lookalike, ...]


def diagnose(material: Material, catalogue: Catalogue) -> Diagnosis:
    """Compare a failure with every entry of the catalogue. A release that isn't named is never guessed."""
    matches = sorted(_matches(material, catalogue), key=lambda each: _rank(each, material))
    others = sorted(_others(material, catalogue), key=lambda each: not each.sure)
    fault = _fault(material, matches, others)
    if fault is Fault.OTHER:
        matches = [each for each in matches if each.fit is not Fit.POSSIBLE or each.entry.of_one_release]
    sentence = _sentence(material, fault, matches, others)
    return Diagnosis(fault=fault, sentence=sentence, matches=tuple(matches), others=tuple(others))


def _rank(match: Match, material: Material) -> tuple[int, bool, int]:
    """Best first. Where no releases are known, what needs no second release precedes what needs certain ones."""
    return list(Fit).index(match.fit), not material.pairs and not match.entry.of_one_release, -match.length


def _matches(material: Material, catalogue: Catalogue) -> Iterator[Match]:
    for entry in catalogue.breaks:
        seen = [(symptom, line) for symptom in entry.symptoms for line in material.lines if shows(symptom, line.text)]
        if not seen:
            continue
        specific = any(symptom.specific for symptom, _ in seen)
        fit, why = _fit(entry, material, specific=specific)
        if fit is not None:
            lines = tuple(dict.fromkeys(line for _, line in seen))
            yield Match(entry=entry, fit=fit, lines=lines, why=why, length=max(len(each.text) for each, _ in seen))


def _fit(entry: Break, material: Material, *, specific: bool) -> tuple[Fit | None, str]:
    """How well an entry fits whose text was seen; None where the releases rule it out."""
    sides = "; ".join(dict.fromkeys(str(each) for each in entry.affects))
    by_release = any(each.first or each.second for each in entry.affects)
    if not material.pairs or not by_release:
        possible = f"this text occurs there, among others; it needs {sides or 'two versions'}"
        return (Fit.CERTAIN, "nothing else produces this text") if specific else (Fit.POSSIBLE, possible)
    if not any(entry.between(*pair) for pair in material.pairs):
        wrong = f"the text belongs to it, but the releases do not: it needs {sides}"
        return (Fit.POSSIBLE, wrong) if specific else (None, "")
    names = " and ".join(dict.fromkeys(side.torch for side in material.pairs[0]))
    if specific:
        return Fit.CERTAIN, f"nothing else produces this text, and {names} are on its two sides"
    if entry.of_one_release:
        return Fit.POSSIBLE, "this text occurs there, among others; it needs no second release"
    if not set(entry.surfaces) & set(EVERY_GROUP):
        what = " or ".join(surface.replace("_", " ") for surface in entry.surfaces)
        return Fit.POSSIBLE, f"{names} are on its two sides, and this text occurs there where a job uses {what}"
    return Fit.LIKELY, f"this text occurs there, and {names} are on its two sides ({sides})"


def _others(material: Material, catalogue: Catalogue) -> Iterator[Lookalike]:
    for cause in catalogue.others:
        seen = [(symptom, line) for symptom in cause.symptoms for line in material.lines if shows(symptom, line.text)]
        if seen:
            lines = tuple(dict.fromkeys(line for _, line in seen))
            yield Lookalike(cause=cause, lines=lines, sure=any(symptom.specific for symptom, _ in seen))


def _fault(material: Material, matches: Sequence[Match], others: Sequence[Lookalike]) -> Fault:
    fits = {each.fit for each in matches}
    sure = any(each.sure for each in others)
    if matches and matches[0].fit is Fit.CERTAIN and matches[0].entry.of_one_release:
        return Fault.OTHER
    if Fit.CERTAIN in fits and sure:
        return Fault.OPEN  # two causes show in one log, and a text doesn't say which of them ended the job
    if Fit.CERTAIN in fits or (Fit.LIKELY in fits and not sure):
        return Fault.RELEASES
    between_releases = any(not each.entry.of_one_release for each in matches)
    if sure or (material.given and not between_releases and (others or matches)):
        return Fault.OTHER
    return Fault.OPEN if fits else Fault.UNKNOWN


def _sentence(material: Material, fault: Fault, matches: Sequence[Match], others: Sequence[Lookalike]) -> str:
    names = " and ".join(dict.fromkeys(side.torch for pair in material.pairs for side in pair))
    if fault is Fault.RELEASES:
        best = matches[0]
        certain = "This is" if best.fit is Fit.CERTAIN else "This is most likely"
        return f"{certain} {best.entry.id}: {best.entry.title}."
    if fault is Fault.OTHER:
        if matches and matches[0].fit is Fit.CERTAIN:
            return f"Not a version's fault: this is {matches[0].entry.id}: {matches[0].entry.title}."
        known = f" No break between {names} shows this text." if material.given else ""
        title = others[0].cause.title if others else matches[0].entry.title
        return f"Not a version's fault, by what is known here: {title}.{known}"
    if fault is Fault.OPEN:
        return _open(names, matches, others)
    known = f" between {names}" if material.given else ""
    return f"Unknown: no entry of the catalogue{known} shows this text."


def _open(names: str, matches: Sequence[Match], others: Sequence[Lookalike]) -> str:
    """Why nothing is concluded. names: the releases that are known, "" where none."""
    best = matches[0]
    if best.fit is Fit.CERTAIN:
        return (
            f"Two causes show here: {best.entry.id} ({best.entry.title}), and another that is no version's fault "
            f"({others[0].cause.title}). The first line of the rank that failed first decides."
        )
    if names:
        return f"Versions could be the cause: between {names} this text occurs where the job uses what follows."
    rest = [each.entry for each in matches if not each.entry.of_one_release]
    if best.entry.of_one_release and rest:
        sides = "; ".join(dict.fromkeys(str(each) for entry in rest for each in entry.affects))
        return (
            f"No version's fault, unless these met: {sides}. The usual cause is {best.entry.id} "
            f"({best.entry.title}). Compare torch.__version__ of every rank, then ask again with --from and --to."
        )
    return (
        "Versions could be the cause, and this text alone doesn't show it: "
        "compare torch.__version__ of every rank, then ask again with --from and --to."
    )


def shows(symptom: Symptom, text: str) -> bool:
    """Whether a line shows a symptom's text."""
    anchor, pattern = _compiled(symptom.text)
    return anchor in text and pattern.search(text) is not None


@cache
def _compiled(text: str) -> tuple[str, re.Pattern[str]]:
    """The longest fixed part of a symptom, which is cheap to look for, and the whole as a pattern."""
    parts = text.split("*")
    return max(parts, key=len), re.compile(f".{{0,{REACH}}}?".join(map(re.escape, parts)))


def next_steps(diagnosis: Diagnosis, material: Material) -> tuple[str, ...]:
    """Commands and checks that show more, best first."""
    steps = []
    releases = tuple(dict.fromkeys(side.torch for pair in material.pairs for side in pair))
    for match in diagnosis.matches[:1]:
        scenario = next((each.scenarios[0] for each in match.entry.affects), "")
        if scenario and len(releases) == 2:
            steps.append(f"torchskew init {' '.join(releases)} && torchskew matrix --scenarios '{scenario}'")
    if diagnosis.fault in (Fault.OPEN, Fault.UNKNOWN):
        steps.append("on every rank: python -c 'import torch, sys; print(torch.__version__, sys.version)'")
    steps += [each.cause.check for each in diagnosis.others[:3]]
    return tuple(steps)
