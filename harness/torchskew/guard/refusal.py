"""The refusal: the roster and the objections as one error that a person can act on."""

from __future__ import annotations

from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.roster import Group, Roster
from torchskew.guard.table import parse
from torchskew.guard.verdict import Objection, name_ranks, no_bridge, noun_of

HEADS = {
    "version": "Incompatible PyTorch releases in one process group",
    "settings": "Different settings in one process group",
    "group": "These ranks do not form one process group",
    "one-sided": "Some ranks run without the guard",
    "missing": "Some ranks never arrived",
}
AGENTS_HEADS = {
    "version": "Incompatible PyTorch releases among the agents of one job",
    "group": "These agents do not form one job",
    "one-sided": "Some agents run without the guard",
    "missing": "Some agents never arrived",
}


def refusal(roster: Roster, objections: list[Objection], rank: int) -> ProtocolVersionError:
    """The error for one rank, out of the roster that all ranks have."""
    groups = roster["groups"]
    versions = ", ".join(dict.fromkeys(group["torch"] for group in groups[:16]))
    noun = noun_of(groups)
    head = (AGENTS_HEADS if noun == "agent" else HEADS)[objections[0].kind]
    # An agent under c10d that has not heard from agent 0 has no number.
    where = "on %s %d" % (noun, rank) if rank >= 0 else "by an agent"
    lines = ["%s: torch %s (detected %s, before it contacted the store)" % (head, versions, where)]
    lines += ["  " + _line_of(group, noun) for group in groups[:16]]
    lines += ["  " + objection.text for objection in objections]
    if any(group["bridge"] for group in groups) and objections[0].kind == "version":
        lines.append("  no bridge: " + no_bridge(roster, objections))
    remedy = _agents_remedy(objections[0].kind) if noun == "agent" else _remedy(objections, groups)
    lines.append("Remedy: " + remedy)
    eras = [{"kind": each.era, "since": each.since, "text": each.text} for each in objections if each.era]
    return ProtocolVersionError("\n".join(lines), kind=objections[0].kind, rank=rank, groups=groups, eras=eras,
                                remedy=remedy, missing=roster["missing"], knocks=roster["knocks"])  # fmt: skip


def _line_of(group: Group, noun: str) -> str:
    """The ranks of one build, with what they run, where, and what started them where that is another release."""
    hosts = list(group["hosts"])[:3]
    more = " and more" if len(group["hosts"]) > 3 else ""
    text = "%s: torch %s on %s%s" % (name_ranks(group["ranks"], noun), group["torch"], ", ".join(hosts), more)
    foreign = group["launcher"] not in ("", group["torch"])
    return text + (", started by an agent of torch %s" % group["launcher"] if foreign else "")


def _agents_remedy(kind: str) -> str:
    """What to do where torchrun's agents don't form one job."""
    return {
        "version": "install the same PyTorch release on every node.",
        "group": "start every agent exactly once, with the same number of nodes, rendezvous and job id.",
        "one-sided": "install the guard on every node, or set TORCHSKEW_GUARD=off on this one.",
        "missing": "find out why they did not start or where they wait, or give the rendezvous a longer timeout.",
    }[kind]


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
