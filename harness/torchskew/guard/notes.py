"""Notes on a group that may form: what the guard can't know of it, and what is beyond the wire. Never a refusal."""

from __future__ import annotations

from typing import Callable, Iterator, List, Optional

from torchskew.guard.roster import Group, Roster
from torchskew.guard.table import ABOVE, LAST_KNOWN, parse
from torchskew.guard.verdict import name_ranks, noun_of

_PICKLED = "object collectives and checkpoints of one may fail to load on the other"


def notes(roster: Roster) -> Iterator[str]:
    """One line for each, the same on every rank."""
    groups = roster["groups"]
    yield from _releases(groups)
    if roster["bridge"].isdigit():
        yield bridge_note(roster)
    # Only 3.13 writes that name; 3.14 reads it.
    pythons = _split(groups, "python", lambda parts: None if parts >= [3, 14] else parts == [3, 13])
    if pythons:
        yield "%s: pickles of 3.13 name pathlib._local, so %s" % (pythons, _PICKLED)
    numpys = _split(groups, "numpy", lambda parts: parts >= [2])
    if numpys:
        yield "%s: pickles name numpy._core since 2.0, so %s" % (numpys, _PICKLED)


def _releases(groups: list[Group]) -> Iterator[str]:
    """Releases in a mix that the table doesn't know, and labels that don't say what a build speaks."""
    if len({group["torch"].split("+")[0] for group in groups}) < 2 and len({group["git"] for group in groups}) < 2:
        return
    newer = sorted({group["torch"] for group in groups if not group["known"]})
    if newer:
        text = "torch %s is newer than %d.%d, the last release this guard knows: it may be incompatible with the others"
        yield text % (", ".join(newer), *LAST_KNOWN)
    for torch, kinds in sorted({(group["torch"], group["guess"]) for group in groups if group["guess"]}):
        text = (
            "torch %s is a build between releases: its label is only a guess at its %s era, which its code doesn't show"
        )
        yield text % (torch, kinds.replace(" ", " and "))


def bridge_note(roster: Roster) -> str:
    """Who meets at this group's bridge, and what it does not change between their releases."""
    groups, port = roster["groups"], roster["bridge"]
    noun = noun_of(groups)
    who = "; ".join("%s torch %s" % (name_ranks(group["ranks"], noun), group["torch"]) for group in groups[:8])
    text = "releases whose stores can't mix meet at a bridge, port %s on the host of %s 0: %s" % (port, noun, who)
    minors = sorted((parse(group["torch"]) or (0, 0, 0))[:2] for group in groups)
    broken = [
        "%s (changed in %d.%d)" % (what, *since) for since, what in ABOVE.items() if minors[0] < since <= minors[-1]
    ]
    if noun == "agent" or not broken:
        return text
    return "%s. These still fail between them: %s" % (text, "; ".join(broken))


def _split(groups: list[Group], name: str, new: Callable[[List[int]], Optional[bool]]) -> str:
    """Which ranks are on which side of a border; "" where all are on one side. new: None where it is no matter."""
    sides: dict[bool, list[Group]] = {}
    for group in groups:
        value = str(dict(group)[name])
        parts = [int(part) for part in value.split(".")[:2] if part.isdigit()]
        side = new(parts) if parts else None
        if side is not None:
            sides.setdefault(side, []).append(group)
    if len(sides) < 2:
        return ""
    shown = ("%s %s %s" % (name_ranks(", ".join(group["ranks"] for group in side)), _TITLES[name],
                           ", ".join(sorted({str(dict(group)[name]) for group in side})))
             for side in sides.values())  # fmt: skip
    return "; ".join(shown)


_TITLES = {"python": "Python", "numpy": "NumPy"}
