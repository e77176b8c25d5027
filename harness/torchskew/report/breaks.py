"""The catalogue of breaks for readers: one entry as text, a diagnosis as text or JSON, the whole as docs/breaks.md."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from torchskew.releases.breaks import MEANS, Break, Catalogue, GuardSays
from torchskew.releases.diagnosis import Diagnosis, Fault, Line, Material, next_steps
from torchskew.report.columns import labelled

WIDTH = 100
SHOWN = 3  # lines of a log that are quoted for one entry
LISTED = 8  # texts of an entry that the page lists
GUARD = {
    GuardSays.REFUSES: "with the guard on every rank the group is refused, and every version is named",
    GuardSays.NOTES: "the guard notes it and lets the job go on",
    GuardSays.SILENT: "the guard does not see it",
    GuardSays.NO_GROUP: "there is no group, so the guard has no part in it",
}


def entry_as_text(entry: Break) -> str:
    """One entry for a terminal."""
    lines = [f"{entry.id}  {entry.title}", ""]
    lines += [_field("releases", "; ".join(dict.fromkeys(map(str, entry.affects))) or "see the cause")]
    lines += [_field("cause", entry.cause), _field("now", entry.remedy.now), _field("for good", entry.remedy.lasting)]
    lines += [_field("upgrade", MEANS[entry.rolling]), _field("guard", GUARD[entry.guard])]
    if entry.fixed_in:
        lines.append(_field("fixed", f"in {entry.fixed_in}"))
    if entry.cells:
        lines.append(_field("shown by", ", ".join(entry.cells)))
    lines.append(_field("sources", ", ".join(entry.sources)))
    return "\n".join(lines)


def _field(name: str, text: str) -> str:
    return labelled(name, text, indent=2, gutter=10)


def diagnosis_as_text(diagnosis: Diagnosis, material: Material) -> str:
    """The answer of `torchskew explain` for a terminal."""
    parts = [textwrap.fill(diagnosis.sentence, WIDTH)]
    if material.named:
        places = (f"{each.release} ({each.where})" if each.where else each.release for each in material.named)
        parts.append(_field("named", "torch " + ", ".join(places)))
    for number, match in enumerate(diagnosis.matches):
        head = f"{match.fit}: {match.why}"
        body = entry_as_text(match.entry) if number == 0 and diagnosis.fault is Fault.RELEASES else _short(match.entry)
        parts.append("\n".join([body, _field("fits", head), *_quotes(match.lines)]))
    if diagnosis.others:
        lines = ["What else it could be:" if diagnosis.fault is not Fault.OTHER else "What speaks for it:"]
        for other in diagnosis.others:
            lines += [_field("-", other.cause.title), *_quotes(other.lines)]
        parts.append("\n".join(lines))
    if steps := next_steps(diagnosis, material):
        parts.append("\n".join(["Check next:", *(f"  {step}" for step in steps)]))
    return "\n\n".join(parts) + "\n"


def _short(entry: Break) -> str:
    return "\n".join([f"{entry.id}  {entry.title}", _field("now", entry.remedy.now)])


def _quotes(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines[:SHOWN]:
        place = f"{line.where}: " if line.where else ""
        yield f"            > {place}{textwrap.shorten(line.text, 200)}"
    if len(lines) > SHOWN:
        yield f"            > and {len(lines) - SHOWN} more lines"


def diagnosis_as_json(diagnosis: Diagnosis, material: Material) -> str:
    """The same for a program: one JSON object."""
    return json.dumps({
        "schema": "1.1",
        "fault": diagnosis.fault,
        "sentence": diagnosis.sentence,
        "releases": [{"release": each.release, "where": each.where} for each in material.named],
        "breaks": [
            {
                "id": each.entry.id, "title": each.entry.title, "fit": each.fit, "why": each.why,
                "lines": [{"text": line.text, "where": line.where} for line in each.lines[:SHOWN]],
                "now": each.entry.remedy.now, "lasting": each.entry.remedy.lasting,
            }
            for each in diagnosis.matches
        ],
        "others": [
            {
                "id": each.cause.id, "title": each.cause.title, "sure": each.sure,
                "lines": [{"text": line.text, "where": line.where} for line in each.lines[:SHOWN]],
                "check": each.cause.check,
            }
            for each in diagnosis.others
        ],
        "next": list(next_steps(diagnosis, material)),
    }, indent=2)  # fmt: skip


def page(catalogue: Catalogue) -> str:
    """docs/breaks.md."""
    return (
        "\n\n".join(
            [_HEAD.format(version=catalogue.version), _index(catalogue.breaks), *map(_section, catalogue.breaks)]
        )
        + "\n"
    )


_HEAD = """\
# What breaks between PyTorch releases

Every known break, generated from the catalogue by `torchskew explain --write docs/breaks.md`. The data is one file,
`harness/torchskew/releases/breaks.json` (version {version}), with a JSON schema beside it; it needs no code to use, and
is in the wheel as well: `importlib.resources.files("torchskew.releases") / "breaks.json"`. In JSON, `first` bounds the
release of rank 0, which hosts the store or writes the file, and `second` that of another rank, which joins or reads.

`torchskew explain TEXT` finds the entry that an error text fits, `torchskew explain SKEW-002` shows one, and
`torchskew advise --from A --to B` lists those between two releases."""


def _index(breaks: Iterable[Break]) -> str:
    lines = ["| | what | releases | upgrade |", "|---|---|---|---|"]
    for entry in breaks:
        sides = "; ".join(dict.fromkeys(map(str, entry.affects))) or "see the entry"
        lines.append(f"| [{entry.id}](#{entry.id.lower()}) | {entry.title} | {sides} | {MEANS[entry.rolling]} |")
    return "\n".join(lines)


def _texts(entry: Break) -> Iterator[str]:
    yield from (f"- `{symptom.text}`" for symptom in entry.symptoms[:LISTED])
    if len(entry.symptoms) > LISTED:
        yield f"- and {len(entry.symptoms) - LISTED} more, in breaks.json"


def _section(entry: Break) -> str:
    parts = [f"## {entry.id}", f"**{entry.title}**", entry.cause]
    if entry.symptoms:
        parts.append("Ranks show:\n\n" + "\n".join(_texts(entry)))
    facts = [f"- **now**: {entry.remedy.now}", f"- **for good**: {entry.remedy.lasting}"]
    facts += [f"- **upgrade**: {MEANS[entry.rolling]}", f"- **guard**: {GUARD[entry.guard]}"]
    facts += [f"- **fixed in**: {entry.fixed_in}"] if entry.fixed_in else []
    facts += [f"- **surfaces**: {', '.join(entry.surfaces)}"]
    facts += ["- **shown by**: " + ", ".join(f"`{cell}`" for cell in entry.cells)] if entry.cells else []
    facts += ["- **sources**: " + ", ".join(entry.sources)]
    return "\n\n".join([*parts, "\n".join(facts)])
