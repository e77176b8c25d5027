"""The verdict: what speaks against a group, decided from the roster alone, so that every rank decides the same."""

from __future__ import annotations

from typing import Any, Iterator, NamedTuple

from torchskew.guard.place import AGENTS, DIRECT
from torchskew.guard.roster import BRIDGED_BY, READY, Group, Roster
from torchskew.guard.table import SEEN, TABLE, before, era, parse

BRIDGED_SINCE = (1, 13)  # the first release whose groups a bridge was seen to carry


class Objection(NamedTuple):
    """One reason against the group: its kind, one line of text, and for an era its name and its first release.

    proof: the group is known not to work. Otherwise it could not be verified.
    """

    kind: str
    text: str
    era: str = ""
    since: str = ""
    proof: bool = True


def decide(roster: Roster) -> list[Objection]:
    """What speaks against this group, the gravest first; [] admits it."""
    objections = [Objection("group", text) for text in _wrong_group(roster)]
    objections += _by_policy(roster["groups"], roster["policy"])
    settings = _differences(roster["groups"], "settings")
    if settings:
        objections.append(Objection("settings", "settings that change the wire format differ: " + settings))
    if roster["more"]:
        text = "%d more builds in this group are not listed" % roster["more"]
        objections.append(Objection("group", text, proof=False))
    if roster["missing"]:
        objections.append(_absent_objection(roster))
    bridged = roster["bridge"].isdigit() and not _not_ready(roster["groups"])
    return [each for each in objections if not (bridged and _bridgeable(each, roster["groups"][0]["method"]))]


def refuses(objections: list[Objection], mode: str, aside: bool) -> bool:
    """Whether these objections end the init, rather than only what the guard can say about it.

    aside: the stock init goes on with what could not be verified. It does not where the init's own timeout is over:
    the stock init would end at this moment too.
    """
    if mode == "strict" or any(each.proof for each in objections):
        return bool(objections)
    return bool(objections) and not aside


def no_bridge(roster: Roster, objections: list[Objection]) -> str:
    """Why a bridge does not help against these objections, in one line; "" where it does."""
    groups, noun = roster["groups"], noun_of(roster["groups"])
    old = ", ".join(group["ranks"] for group in groups if _older(group["torch"]))
    if old:
        return "%s: torch 1.12 and older don't use one" % name_ranks(old, noun)
    others = [each.text for each in objections if not _bridgeable(each, groups[0]["method"])]
    why = _not_ready(groups) or ("it does not help against this: " + others[0].partition(":")[0] if others else "")
    guesses = ", ".join(group["ranks"] for group in groups if group["guess"] and _older(before(group["torch"])))
    if guesses and not why:
        why = "%s: a build between releases may be too old for one" % name_ranks(guesses, noun)
    return why or roster["bridge"]


def _older(version: str) -> bool:
    """Whether no bridge was seen to carry this release."""
    release = parse(version)
    return release is None or release[:2] < BRIDGED_SINCE


def _not_ready(groups: list[Group]) -> str:
    """Which ranks can't meet at a bridge, and why; "" where all can."""
    for group in groups:
        if group["bridge"] != READY:
            why = group["bridge"] or "TORCHSKEW_GUARD is not bridge there"
            return "%s: %s" % (name_ranks(group["ranks"], noun_of(groups)), why)
    return ""


def _bridgeable(objection: Objection, method: str) -> bool:
    """Whether this is about what a bridge translates: eras, where the group meets this way."""
    return objection.kind == "version" and objection.era in BRIDGED_BY.get(method, ())


def _absent_objection(roster: Roster) -> Objection:
    """Ranks that never said hello: proof only where stock clients came instead that this store can't serve."""
    if not roster["knocks"]:
        return Objection("missing", _absent(roster), proof=False)
    serves = roster["groups"][0]["serves"].split()
    foreign = bool(serves) and any(name not in (*serves, "file") for name in roster["knocks"])
    return Objection("one-sided", _absent(roster), proof=foreign)


def _wrong_group(roster: Roster) -> Iterator[str]:
    """Two ranks with one number, ranks outside the world, and what must be the same on every rank but isn't."""
    noun = noun_of(roster["groups"])
    if roster["twice"]:
        yield "more than one process says it is %s" % name_ranks(roster["twice"], noun)
    if roster["outside"]:
        yield "%s of a world of %d" % (name_ranks(roster["outside"], noun), roster["world"])
    for name, title in (("world", "world sizes"), ("backend", "backends"), ("method", "init methods"),
                        ("job", "jobs"), ("order", "byte orders"), ("nccl", "NCCL versions")):  # fmt: skip
        differences = _differences([group for group in roster["groups"] if _field(group, name) != ""], name)
        if differences:
            yield "different %s: %s" % (title, differences)


def _field(group: Group, name: str) -> Any:
    """A field by a name that is only known at run time."""
    return dict(group)[name]


def _differences(groups: list[Group], name: str) -> str:
    """Which ranks have which value of a field; "" where all have the same."""
    values: dict[Any, list[str]] = {}
    for group in groups:
        values.setdefault(_field(group, name), []).append(group["ranks"])
    if len(values) < 2:
        return ""
    noun = noun_of(groups)
    return "; ".join("%s %s" % (name_ranks(", ".join(ranks), noun), value or "none") for value, ranks in values.items())


def noun_of(groups: list[Group]) -> str:
    """What the members of this group are."""
    return "agent" if groups and groups[0]["method"] in AGENTS else "rank"


def name_ranks(text: str, noun: str = "rank") -> str:
    """Spans as `rank 0` or `ranks 1, 5-9`, a long list shortened."""
    parts = text.split(", ")
    shown = ", ".join(parts[:6]) + (" and %d more" % (len(parts) - 6) if len(parts) > 6 else "")
    return noun + (" " if text.isdigit() else "s ") + shown


def _absent(roster: Roster) -> str:
    """Who never came, and which stock clients came instead."""
    who = name_ranks(roster["missing"], noun_of(roster["groups"])) + " never said hello"
    who += " at %s" % roster["where"] if roster["where"] else ""
    if not roster["knocks"]:
        return who
    came = ", ".join("%d %s" % (count, SEEN.get(name, name)) for name, count in roster["knocks"].items())
    return "%s, but stock PyTorch without the guard came instead: %s" % (who, came)


def _by_policy(groups: list[Group], policy: str) -> list[Objection]:
    """Objections to the mix of releases, under rank 0's policy."""
    releases = {group["torch"].split("+")[0] for group in groups}
    if policy.startswith("allow:"):
        sets = [{name.strip() for name in listed.split(",")} for listed in policy[6:].split(";")]
        admitted = len(releases) == 1 or any(releases <= listed for listed in sets)
        return [] if admitted else [Objection("version", "no entry of the allow-list contains all of these releases")]
    objections = _by_era(groups)
    minors = {(parse(name) or (0, 0, 0))[:2] for name in releases}
    builds = {group["git"] for group in groups if group["git"] not in ("", "Unknown")}
    if policy == "minor" and len(minors) > 1:
        objections.append(Objection("version", "rank 0's policy (minor) requires the same minor release on every rank"))
    if policy == "exact" and (len(releases) > 1 or len(builds) > 1):
        objections.append(Objection("version", "rank 0's policy (exact) requires the same build on every rank"))
    return objections


def _by_era(groups: list[Group]) -> list[Objection]:
    """What the table of eras knows to be incompatible; groups[0] contains rank 0, which hosts the store."""
    host, objections = groups[0], _by_agents_store(groups)
    gloo, agents = any("gloo" in group["backend"] or not group["backend"] for group in groups), host["method"] in AGENTS
    checked = {"store": host["method"] in DIRECT, "gloo": gloo and not agents, "keys": not agents,
               **{method: host["method"] == method for method in ("agent", *AGENTS)}}  # fmt: skip
    for kind, applies in checked.items():
        odd = [group for group in groups if _field(group, kind) != _field(host, kind)]
        if kind == "store":
            odd = [group for group in odd if group["store"] not in host["serves"].split()]
        if applies and odd:
            objections.append(_era_objection(kind, [host, *odd]))
    return objections


def _by_agents_store(groups: list[Group]) -> list[Objection]:
    """Under torchrun the agent that started rank 0 has the store; it may be of another release than the ranks."""
    host = groups[0]
    odd = [group for group in groups if group["store"] not in host["serves"].split()]
    if host["method"] != "agent" or not host["launcher"] or not odd:
        return []
    store_era = era("store", host["launcher"]) or ""
    since = max([store_era, *(group["store"] for group in odd)], key=lambda name: parse(name) or (0, 0, 0))
    who = "; ".join("%s torch %s" % (name_ranks(group["ranks"]), group["torch"]) for group in odd)
    text = "the store is that of rank 0's agent, torch %s, which differs since %s from what these ranks speak: %s"
    return [Objection("version", text % (host["launcher"], since, who), "store", since)]


def _era_objection(kind: str, groups: list[Group]) -> Objection:
    """One line: which era differs, since which release, which ranks speak what."""
    speakers: dict[str, list[str]] = {}
    for group in groups:
        speakers.setdefault(_field(group, kind), []).append(group["ranks"])
    meaning = {"%d.%d" % since: what for since, what in TABLE[kind]}
    since, noun = max(speakers, key=lambda name: parse(name) or (0, 0, 0)), noun_of(groups)
    who = "; ".join("%s %s (%s)" % (name_ranks(", ".join(ranks), noun), name or "unknown",
                                    meaning.get(name, "not in the table"))
                    for name, ranks in speakers.items())  # fmt: skip
    title = "rendezvous" if kind in AGENTS else kind
    labels = sorted({group["torch"] for group in groups if kind in group["guess"].split()})
    text = "%s era differs since %s: %s" % (title, since, who)
    if labels:
        text += "; a guess by the label of torch %s, a build between releases" % ", ".join(labels)
    host, *odd = (kind in group["guess"].split() for group in groups)
    return Objection("version", text, kind, since, proof=not host and not all(odd))
