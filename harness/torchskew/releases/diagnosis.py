"""Which break of the catalogue a text fits, how well and why, and what else it could be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import pairwise, permutations

from torchskew.guard.table import parse
from torchskew.releases.breaks import Break, Catalogue, OtherCause, Side, Symptom

EVERY_GROUP = ("store", "process_group")  # surfaces that no job can leave out
REACH = 160  # characters that a `*` of a symptom may stand for
FOLLOWED = 20_000  # lines of a log up to which each is compared together with the next as well
_WORD = re.compile(r"\w+", re.ASCII)
_ENDS = re.compile(r"^\w+|\w+$", re.ASCII)
_RANK = re.compile(r"^(?:\[(?:rank|default)?\d+\](?:<stderr>|<stdout>)?:|\(\w+ pid=\d+\)|\d+:)\s+")
_RAISED = re.compile(r"\b[A-Z]\w*(?:Error|Exception)\b", re.ASCII)
_LESS_EXACT = "the text belongs to it, and another cause shows more of the same line"
_ONLY_A_MESSAGE = "the text belongs to it, but no exception shows it, and another cause ended the job"


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
    """Another cause that fits. sure: a line says so that occurs with nothing else. length: as in Match, of those."""

    cause: OtherCause
    lines: tuple[Line, ...]
    sure: bool
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The answer. matches: best first. sentence: the conclusion in one sentence."""

    fault: Fault
    sentence: str
    matches: tuple[Match, ...]
    others: tuple[Lookalike, ...]


@dataclass(frozen=True, slots=True)
class _Evidence:
    """The lines of a log; broken: each together with the next, because a message may be broken in two.

    words: all words of it, each once, as a set and as one text. Most symptoms have a word that a log lacks.
    """

    lines: tuple[Line, ...]
    broken: tuple[tuple[Line, str], ...]
    words: frozenset[str]
    vocabulary: str

    def shows(self, symptoms: Sequence[Symptom]) -> list[tuple[Symptom, Line]]:
        """Which symptoms a log shows, and where."""
        found = []
        for symptom in symptoms:
            whole_words, part = _clues(symptom.text)
            if whole_words <= self.words and part in self.vocabulary:
                whole = [(symptom, line) for line in self.lines if shows(symptom, line.text)]
                found += whole or [(symptom, line) for line, text in self.broken if shows(symptom, text)]
        return found


def _evidence(lines: tuple[Line, ...]) -> _Evidence:
    words = frozenset(word for line in lines for word in _WORD.findall(line.text))
    follows = pairwise(lines) if len(lines) <= FOLLOWED else ()
    broken = tuple((line, f"{line.text} {_RANK.sub('', after.text)}") for line, after in follows)
    return _Evidence(lines, broken, words, "\n".join(words))


@cache
def _clues(symptom: str) -> tuple[frozenset[str], str]:
    """What the words of a log must have for it to show a symptom: whole words of it, and a part of one."""
    ends = (end for part in symptom.split("*") for end in _ENDS.findall(part))
    inner = frozenset(word for part in symptom.split("*") for word in _WORD.findall(_ENDS.sub(" ", part)))
    return inner, max(ends, key=len, default="")


def diagnose(material: Material, catalogue: Catalogue) -> Diagnosis:
    """Compare a failure with every entry of the catalogue. A release that isn't named is never guessed."""
    evidence = _evidence(material.lines)
    matches, others = _weighed([*_matches(material, evidence, catalogue)], [*_others(evidence, catalogue)])
    matches.sort(key=lambda each: _rank(each, material))
    others.sort(key=lambda each: (not each.sure, -each.length))
    fault = _fault(material, matches, others)
    if fault is Fault.OTHER:
        matches = [each for each in matches if each.fit is not Fit.POSSIBLE or each.entry.of_one_release]
    sentence = _sentence(material, fault, matches, others)
    return Diagnosis(fault=fault, sentence=sentence, matches=tuple(matches), others=tuple(others))


def _rank(match: Match, material: Material) -> tuple[int, bool, int]:
    """Best first. Where no releases are known, what needs no second release precedes what needs certain ones."""
    return list(Fit).index(match.fit), not material.pairs and not match.entry.of_one_release, -match.length


def _matches(material: Material, evidence: _Evidence, catalogue: Catalogue) -> Iterator[Match]:
    for entry in catalogue.breaks:
        seen = evidence.shows(entry.symptoms)
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


def _others(evidence: _Evidence, catalogue: Catalogue) -> Iterator[Lookalike]:
    for cause in catalogue.others:
        seen = evidence.shows(cause.symptoms)
        if seen:
            lines = tuple(dict.fromkeys(line for _, line in seen))
            sure = any(symptom.specific for symptom, _ in seen)
            length = max(len(symptom.text) for symptom, _ in seen if symptom.specific or not sure)
            yield Lookalike(cause=cause, lines=lines, sure=sure, length=length)


def _weighed(matches: list[Match], others: list[Lookalike]) -> tuple[list[Match], list[Lookalike]]:
    """Both, without what says less: of two texts of one line the longer decides, and an exception over a message."""
    certain, sure = _decisive(matches, others)
    left = [_doubted(each, _LESS_EXACT) if each in certain and _beaten(each, sure) else each for each in matches]
    kept = [each for each in others if not (each.sure and _beaten(each, matches))]
    certain, sure = _decisive(left, kept)
    if certain and sure and not _raised(certain) and _raised(sure):
        # Libraries that were built for another torch or NumPy say so in a warning, and the job goes on.
        left = [_doubted(each, _ONLY_A_MESSAGE) for each in left]
    return left, kept


def _decisive(matches: Sequence[Match], others: Sequence[Lookalike]) -> tuple[list[Match], list[Lookalike]]:
    return [each for each in matches if each.fit is Fit.CERTAIN], [each for each in others if each.sure]


def _beaten(each: Match | Lookalike, by: Sequence[Match | Lookalike]) -> bool:
    return any(each.length < best.length and set(each.lines) <= set(best.lines) for best in by)


def _raised(found: Sequence[Match | Lookalike]) -> bool:
    return any(_RAISED.search(line.text) for each in found for line in each.lines)


def _doubted(match: Match, why: str) -> Match:
    return replace(match, fit=Fit.POSSIBLE, why=why)


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
    if others:
        return (
            f"Unknown: no break{known} shows this text, and several other causes do, such as: {others[0].cause.title}."
        )
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
