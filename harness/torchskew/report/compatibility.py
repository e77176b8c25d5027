"""Writes docs/compatibility.md out of measured facts: the picture, the eras, the breaks that cost most; short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torchskew.model.outcomes import Verdict
from torchskew.model.survey import Place, Sighting, Survey, SurveyPart
from torchskew.model.versions import span
from torchskew.releases.breaks import Catalogue
from torchskew.report import in_turn, pairs, view
from torchskew.report.site.shown_breaks import costs, fails_alone

_HEAD = """\
# What works between which releases

Measured: every scenario of [scenarios.md](scenarios.md) between every two releases, in both orders, with stock PyTorch
on CPUs and without the guard ([guard.md](guard.md) shows the difference). This page is the short form. **The site has
all of it**, and shows what each rank saw:

    make site          # builds site/index.html from docs/survey.json; nothing is run, no server is needed

`make survey` measures what [compatibility.toml](compatibility.toml) declares and writes [survey.json](survey.json)
([schema](survey.schema.json)) and this page. `torchskew advise --from A --to B` says what an upgrade meets."""
_WORDS = """\
**works**: every scenario that both releases have. **3 break**: a group forms, and so many scenarios fail that work with
one release on every rank. **no group**: the rendezvous itself fails."""
_MEETING = "rendezvous_tcp"
_MOST = 10  # breaks that are listed
_SURPRISES = 10  # lines


def page(survey: Survey, catalogue: Catalogue) -> str:
    """The whole page as markdown."""
    parts = [_HEAD]
    for part in survey.parts:
        parts.append(f"## {part.runtime}\n\n{_account(part)}")
        if any(each.name == _MEETING for each in part.scenarios):  # without it nothing is known of groups
            parts += [_picture(part), _eras(part)]
        parts += [in_turn.section(part, catalogue)]
    parts += [_most(survey, catalogue), _surprises(survey), _REST]
    return "\n\n".join(part for part in parts if part) + "\n"


_REST = """\
## The rest

Each cell, what every rank saw, and the command that runs it again: `make site`. Every known break with its cause and
remedy: [breaks.md](breaks.md). What each scenario promises: [scenarios.md](scenarios.md). What may be in a checkpoint:
[saved-state.md](saved-state.md). An error text: `torchskew explain 'TEXT'`."""


def _account(part: SurveyPart) -> str:
    """How much this is, and which runs its cells came from."""
    sightings = part.by_place.values()
    verdicts = Counter(sighting.verdict for sighting in sightings)
    came = ", ".join(f"{verdicts[verdict]} {verdict.lower()}" for verdict in Verdict if verdicts[verdict])
    inferred = sum(sighting.inferred for sighting in sightings)
    runs = ", ".join(f"`{run.run_id}` ({run.day})" for run in part.runs)
    beside = f" {inferred} of them are inferred from others." if inferred else ""
    return f"{len(part.releases)} releases, {sum(verdicts.values())} cells: {came}.{beside} From {runs}."


def _picture(part: SurveyPart) -> str:
    """Release by release, those that act alike on one line."""
    seen = part.by_place
    words = _words(part, seen)
    names = [release.name for release in part.releases]
    groups = pairs.alike(names, lambda first, second: words[first, second])
    lines = [
        "| hosts or writes \\ joins or reads | " + " | ".join(map(span, groups)) + " |",
        "|---" * (len(groups) + 1) + "|",
    ]
    for row in groups:
        cells = (words[row[0], column[-1] if row == column else column[0]] for column in groups)
        lines.append(f"| **{span(row)}** | " + " | ".join(cells) + " |")
    return "\n".join([_WORDS, "", *lines])


def _words(part: SurveyPart, seen: Mapping[Place, Sighting]) -> dict[tuple[str, str], str]:
    """What happens between two releases, by their names."""
    fails: Counter[tuple[str, str]] = Counter()
    passes: Counter[tuple[str, str]] = Counter()
    blocked: Counter[tuple[str, str]] = Counter()
    for place, sighting in seen.items():
        pair = (place.first, place.second)
        fails[pair] += sighting.verdict is Verdict.FAIL and not fails_alone(place, seen)
        passes[pair] += sighting.verdict is Verdict.PASS
        blocked[pair] += sighting.verdict is Verdict.BLOCKED
    names = [release.name for release in part.releases]
    return {
        (first, second): _word(fails[first, second], passes[first, second], blocked[first, second])
        for first in names
        for second in names
    }


def _word(fails: int, passes: int, blocked: int) -> str:
    if blocked:
        return "no group"
    if fails:
        return f"{fails} break" if passes else "nothing works"
    return "works" if passes else ""


def _eras(part: SurveyPart) -> str:
    lines = ["| era | what its releases speak, by the first release that spoke it |", "|---|---|"]
    named = {release.name: release.torch or release.name for release in part.releases}
    return "\n".join([*lines, *(f"| {era.name} | {era.speaks} |" for era in pairs.eras_among(named))])


def _most(survey: Survey, catalogue: Catalogue) -> str:
    """The breaks that fail or block most cells of two releases."""
    counts: Counter[str] = sum((costs(part, catalogue) for part in survey.parts), Counter())
    unexplained = counts.pop("", 0)
    if not counts:
        return ""
    lines = ["| break | what | cells | do now |", "|---|---|---|---|"]
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    for identity, count in ranked[:_MOST]:
        if entry := catalogue.named(identity):
            link = f"[{identity}](breaks.md#{identity.lower()})"
            lines.append(f"| {link} | {entry.title} | {count} | {entry.remedy.now} |")
    rest = sum(count for _, count in ranked[_MOST:])
    after = f"Other breaks: {len(ranked) - _MOST}, {rest} cells." if len(ranked) > _MOST else "No other break was met."
    after += f" Cells that fail in ways that no entry explains: {unexplained}." if unexplained else ""
    title = f"The {_count(min(_MOST, len(ranked)))} that cost most" if len(ranked) > 1 else "The break"
    about = "Cells between two releases that a break fails, or blocks because no group forms."
    return "\n".join([f"## {title}", "", about, "", *lines, "", after])


def _count(number: int) -> str:
    return "ten breaks" if number == _MOST else f"{number} breaks"


def _surprises(survey: Survey) -> str:
    """Where a measured cell ended otherwise than predicted, alike ones together."""
    groups: Counter[tuple[str, str, str]] = Counter()
    ran = 0
    for place, sighting in _seen(survey):
        ran += sighting.comparable
        if sighting.surprising:
            words = (view.outcome_words(sighting.predicted), view.outcome_words(sighting.outcomes))
            groups[place.scenario, *words] += 1
    if not ran:
        return ""
    right = 1 - sum(groups.values()) / ran
    text = f"Each cell was predicted before it ran: {right:.2%} of {ran} came out as predicted."
    return "\n".join(["## Otherwise than predicted", "", text, *_surprise_lines(groups.most_common(_SURPRISES))])


def _surprise_lines(groups: Sequence[tuple[tuple[str, str, str], int]]) -> Iterator[str]:
    if groups:
        yield from ("", "| scenario | predicted | observed | cells |", "|---|---|---|---|")
        for (name, predicted, seen), count in groups:
            yield f"| {name} | {predicted} | {seen} | {count} |"


def _seen(survey: Survey) -> Iterator[tuple[Place, Sighting]]:
    for part in survey.parts:
        yield from part.by_place.items()
