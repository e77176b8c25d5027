"""The refusal: the roster and the objections as one error that a person can act on."""

from __future__ import annotations

from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.roster import Group, Roster
from torchskew.guard.table import parse
from torchskew.guard.verdict import Objection, name_ranks

HEADS = {
    "version": "Incompatible PyTorch releases in one process group",
    "settings": "Different settings in one process group",
    "group": "These ranks do not form one process group",
    "one-sided": "Some ranks run without the guard",
    "missing": "Some ranks never arrived",
}


def refusal(roster: Roster, objections: list[Objection], rank: int) -> ProtocolVersionError:
    """The error for one rank, out of the roster that all ranks have."""
    groups = roster["groups"]
    versions = ", ".join(dict.fromkeys(group["torch"] for group in groups[:16]))
    head = HEADS[objections[0].kind]
    lines = ["%s: torch %s (detected on rank %d, before it contacted the store)" % (head, versions, rank)]
    for group in groups[:16]:
        hosts = list(group["hosts"])[:3]
        more = " and more" if len(group["hosts"]) > 3 else ""
        lines.append("  %s: torch %s on %s%s" % (name_ranks(group["ranks"]), group["torch"], ", ".join(hosts), more))
    lines += ["  " + objection.text for objection in objections]
    remedy = _remedy(objections, groups)
    lines.append("Remedy: " + remedy)
    eras = [{"kind": each.era, "since": each.since, "text": each.text} for each in objections if each.era]
    return ProtocolVersionError("\n".join(lines), kind=objections[0].kind, rank=rank, groups=groups, eras=eras,
                                remedy=remedy, missing=roster["missing"], knocks=roster["knocks"])  # fmt: skip


def _remedy(objections: list[Objection], groups: list[Group]) -> str:
    """What to do about the gravest objection."""
    kind = objections[0].kind
    if kind == "version" and {each.era for each in objections if each.kind == "version"} == {"store"}:
        best = [group for group in groups if all(other["store"] in group["serves"].split() for other in groups)]
        if best:
            newest = max(best, key=lambda group: parse(group["torch"]) or (0, 0, 0))["torch"]
            return "run rank 0 on the newest release (%s), or install the same release on every rank." % newest
    return {
        "version": "install the same PyTorch release on every rank.",
        "settings": "set these variables on every rank or on none.",
        "group": "start every rank exactly once, with the same world size, backend, init method and job.",
        "one-sided": "install the guard on every rank, or set TORCHSKEW_GUARD=off on this one.",
        "missing": "find out why they did not start or where they wait, or give init_process_group a longer timeout.",
    }[kind]
