"""What each release does by itself and what the next one makes of it: a section of docs/compatibility.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torchskew.model.outcomes import Kind, Verdict
from torchskew.model.survey import Place, Sighting, SurveyPart
from torchskew.releases.breaks import BreakFinder, Catalogue
from torchskew.report.site.shown_breaks import shown_break, sides_of

# What is checked, and the scenarios that check it.
CHECKS: Mapping[str, tuple[str, ...]] = {
    "C++ ABI": ("abi_symbols", "abi_extension", "abi_stable"),
    "Speed": ("speed",),
    "Memory": ("memory",),
    "Examples in the documentation": ("doctests",),
    "torch.utils.cpp_extension": ("extension_builds", "extension_upgrade"),
    "torch.cuda.memory without a GPU": ("cuda_memory",),
    "torch.ao.quantization": ("quantization", "quantization_calls", "quantized_models"),
    "Python files without a build": ("imports_unbuilt", "compiles"),
    "Determinism": ("determinism", "determinism_documented"),
    "State-dict keys": ("state_dict_keys", "key_names"),
}
_ABOUT = """\
What each release does by itself, and what the next one makes of it: `2.1.2 → 2.2.2` is an upgrade from one measured
release to the next. Releases and upgrades that ended alike share a line. This runs a line again:

    torchskew survey --measure --runtime {runtime} --versions OLD NEW --scenarios CHECK --out again"""
_HEADER = "| check | cells | releases | found |\n|---|---|---|---|"
_LENGTH = 200  # characters of one finding
_MOST = 3  # variants that a line names
_WORDS = {
    Verdict.PASS: "right",
    Verdict.FAIL: "wrong",
    Verdict.UNKNOWN: "undecided",
    Verdict.UNSUPPORTED: "lacking",
    Verdict.BLOCKED: "blocked",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """How one variant of a scenario ended for two releases. name: "" where there is only one. entry: of its break."""

    name: str
    sighting: Sighting
    entry: str


def section(part: SurveyPart, catalogue: Catalogue) -> str:
    """The section about one runtime, under a heading; empty where none of these scenarios ran."""
    lines = list(_lines(part, catalogue))
    if not lines:
        return ""
    return "\n".join(["### Alone and in turn", "", _ABOUT.format(runtime=part.runtime), "", _HEADER, *lines])


def _lines(part: SurveyPart, catalogue: Catalogue) -> Iterator[str]:
    seen = part.by_place
    found = _Found(part, seen, BreakFinder(catalogue))
    for title, scenarios in CHECKS.items():
        rows = [row for name in scenarios for row in found.rows(name)]
        if rows:
            yield f"| **{title}** | | | |"
            yield from rows


class _Found:
    """The findings of one part."""

    def __init__(self, part: SurveyPart, seen: Mapping[Place, Sighting], find: BreakFinder) -> None:
        self._part, self._seen, self._find = part, seen, find
        self._sides = sides_of(part)

    def rows(self, scenario: str) -> Iterator[str]:
        """A line for each different finding of a scenario; its cells are counted in the first."""
        kinds = {each.name: each.kind for each in self._part.scenarios if each.name.partition(".")[0] == scenario}
        verdicts = [each.verdict for place, each in self._seen.items() if place.scenario in kinds]
        count = f"{len(verdicts)}: {_counted(verdicts)}"
        found: dict[str, list[tuple[str, str]]] = {}
        steps = self._steps(kinds)
        for step in steps:
            found.setdefault(self._finding(kinds, *step), []).append(step)
        for number, (text, alike) in enumerate(found.items()):
            name, cells = ("", "") if number else (f"`{scenario}`", count)
            yield f"| {name} | {cells} | {_chains(alike)} | {text} |"

    def _steps(self, kinds: Mapping[str, Kind]) -> list[tuple[str, str]]:
        """Each release where the scenario has one rank, else each upgrade to the next release that was measured."""
        seen = {name for place in self._seen if place.scenario in kinds for name in (place.first, place.second)}
        names = [each.name for each in self._part.releases if each.name in seen]
        alone = set(kinds.values()) == {Kind.SOLO}
        steps = [(name, name) for name in names] if alone else list(pairwise(names))
        return [step for step in steps if any(Place(name, *step) in self._seen for name in kinds)]

    def _finding(self, kinds: Mapping[str, Kind], first: str, second: str) -> str:
        variants = []
        for name in kinds:
            place = Place(name, first, second)
            if sighting := self._seen.get(place):
                entry = shown_break(place, self._find, self._sides) if sighting.verdict is Verdict.FAIL else None
                variants.append(
                    _Variant(name=name.partition(".")[2], sighting=sighting, entry=entry.id if entry else "")
                )
        return _text(variants)


def _chains(steps: Sequence[tuple[str, str]]) -> str:
    """`2.1.2 → 2.2.2 → 2.3.1, 2.13.0 → 2.14.1`; of releases alone, their names."""
    chains: list[list[str]] = []
    for first, second in steps:
        if chains and first != second and chains[-1][-1] == first:
            chains[-1].append(second)
        else:
            chains.append([first] if first == second else [first, second])
    return ", ".join(" → ".join(chain) for chain in chains)


def _text(variants: Sequence[_Variant]) -> str:
    """One variant in its judge's words; of several, how many ended how, and what those say that are not right."""
    if len(variants) == 1:
        return _said(variants[0])
    odd = [each for each in variants if each.sighting.verdict in (Verdict.FAIL, Verdict.UNKNOWN)]
    odd.sort(key=lambda each: each.sighting.verdict is Verdict.UNKNOWN)
    named = [f"`{each.name}` {_said(each)}" for each in odd[:_MOST]]
    more = [f"and {len(odd) - _MOST} more"] if len(odd) > _MOST else []
    return "; ".join([_counted(each.sighting.verdict for each in variants), *named, *more])


def _counted(verdicts: Iterable[Verdict]) -> str:
    counts = Counter(verdicts)
    return ", ".join(f"{counts[each]} {_WORDS[each]}" for each in Verdict if counts[each])


def _said(variant: _Variant) -> str:
    sighting = variant.sighting
    errors = (f"rank {rank} {error}" for rank, error in enumerate(sighting.errors) if error)
    text = (next(errors, "") or sighting.reason).replace("|", "\\|")
    if len(text) > _LENGTH:
        text = text[: _LENGTH - 1] + "…"
    link = f" ([{variant.entry}](breaks.md#{variant.entry.lower()}))" if variant.entry else ""
    if text and sighting.verdict in (Verdict.FAIL, Verdict.UNKNOWN):
        return text + link
    return ": ".join(filter(None, [_WORDS[sighting.verdict], text]))
