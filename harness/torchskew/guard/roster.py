"""The roster: every rank's hello in one small object, the same on every rank, from which each of them decides."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, Iterable, Mapping, TypedDict, cast

from torchskew.guard.hello import FIELDS, LATER, PERSONAL, Build, Hello, valid
from torchskew.guard.settings import POLICIES
from torchskew.guard.table import SEEN

READY = "ready"  # what a rank says that can meet the others at a bridge
# How a group meets whose store may be a bridge -> the eras that may differ there: each rank is its client.
BRIDGED_BY = {
    "tcp": ("store", "gloo", "keys"),
    "agent": ("store", "gloo", "agent"),
    "static": ("store",),
    "c10d": ("store",),
}
MOST_GROUPS, MOST_HOSTS, MOST_ROSTER, MOST_TEXT = 256, 8, 1 << 20, 8192


class Group(Build):
    """Ranks of one build: their numbers as spans() shows them, and some hosts with their ranks."""

    ranks: str
    hosts: dict[str, str]


class Roster(TypedDict):
    """Who is in the group. groups[0] contains rank 0; more: builds left out; knocks: stock clients by era.

    aside: rank 0 lets the stock init go on where this roster leaves something open. bridge: the port of the bridge at
    which these ranks meet, or why rank 0 has none; "" where none was needed.
    """

    world: int
    policy: str
    groups: list[Group]
    more: int
    missing: str
    twice: str
    outside: str
    knocks: dict[str, int]
    where: str
    aside: int
    bridge: str


def spans(numbers: Iterable[int]) -> str:
    """[0, 5, 6, 7] as "0, 5-7"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else "%d-%d" % (first, last) for first, last in runs)


def within(number: int, text: str) -> bool:
    """Whether spans() showed this number."""
    parts = (part.partition("-") for part in text.split(", ") if part)
    return any(int(first) <= number <= int(last or first) for first, _, last in parts)


def roster_of(hellos: list[Hello], policy: str, knocks: dict[str, int] | None = None) -> Roster:
    """Every rank's hello in one roster; builds that report the same share a group. hellos[0] is rank 0's."""
    rows: dict[str, dict[str, Any]] = {}
    counts: dict[int, int] = {}
    for hello in hellos:
        counts[hello["rank"]] = counts.get(hello["rank"], 0) + 1
        facts = {name: value for name, value in hello.items() if name not in PERSONAL}
        row = rows.setdefault(json.dumps(facts, sort_keys=True), {"facts": facts, "ranks": [], "hosts": {}})
        row["ranks"].append(hello["rank"])
        if len(row["hosts"]) < MOST_HOSTS or hello["host"] in row["hosts"]:
            row["hosts"].setdefault(hello["host"], []).append(hello["rank"])
    world = hellos[0]["world"] if hellos else 0
    return {
        "world": world, "policy": policy, "groups": [_group(row) for row in list(rows.values())[:MOST_GROUPS]],
        "more": max(0, len(rows) - MOST_GROUPS),
        "missing": spans(rank for rank in range(world) if rank not in counts),
        "twice": spans(rank for rank, count in counts.items() if count > 1),
        "outside": spans(rank for rank in counts if rank >= world), "knocks": knocks or {}, "where": "",
        "aside": 0, "bridge": "",
    }  # fmt: skip


def _group(row: dict[str, Any]) -> Group:
    hosts = {host: spans(ranks) for host, ranks in row["hosts"].items()}
    return cast("Group", dict(row["facts"], ranks=spans(row["ranks"]), hosts=hosts))


def pack_roster(roster: Mapping[str, Any]) -> bytes:
    """The roster as it travels."""
    return zlib.compress(json.dumps(roster).encode())


def unpack_roster(body: bytes) -> Roster:
    """The roster out of bytes that anyone may have sent; ValueError for everything that isn't exactly one.

    One without groups is what a guard with a secret shows to a stranger.
    """
    return roster_from(_unpacked(body))


def _unpacked(body: bytes) -> Any:
    """The value in a compressed JSON text; ValueError where there is none, or it is too large."""
    try:
        return json.loads(zlib.decompressobj().decompress(body, 8 * MOST_ROSTER).decode("utf-8"))
    except (zlib.error, RecursionError) as problem:
        raise ValueError(str(problem)) from problem


def unpack_heard(body: bytes) -> tuple[Roster, list[str]]:
    """A roster as it is left in a folder, and the names of the hellos that it answers; ValueError where it is none."""
    value = _unpacked(body)
    heard = value.pop("heard", None) if isinstance(value, dict) else None
    if not isinstance(heard, list) or not all(isinstance(name, str) for name in heard):
        raise ValueError("no roster")
    return roster_from(value), heard


def roster_from(value: Any) -> Roster:
    """A stranger's value as a roster; ValueError where any field of it is not one."""
    if not isinstance(value, dict) or not set(_CHECKS) - set(_SINCE_0_1) <= set(value):
        raise ValueError("no roster")
    value = {name: value.get(name, _SINCE_0_1.get(name)) for name in _CHECKS}  # a later guard may have more
    wrong = [name for name, right in _CHECKS.items() if not right(value[name])]
    if wrong:
        raise ValueError("no roster: " + ", ".join(wrong))
    value["groups"] = [_whole(group) for group in value["groups"]]
    return cast("Roster", value)


def _whole(group: Mapping[str, Any]) -> Group:
    """A build with exactly the fields that this guard knows."""
    return cast("Group", {name: group.get(name, "") for name in (*FIELDS, "ranks", "hosts") if name not in PERSONAL})


def names(roster: Roster, rank: int) -> bool:
    """Whether a roster lists rank 0's build first, and this rank: any other is not for this rank."""
    groups = roster["groups"]
    listed = roster["more"] > 0 or any(within(rank, group["ranks"]) for group in groups)
    return bool(groups) and within(0, groups[0]["ranks"]) and listed


def number_in(roster: Roster, hello: Hello) -> int:
    """The number that a roster has for this hello's host; -1 where that host has several."""
    ranks = [group["hosts"][hello["host"]] for group in roster["groups"] if hello["host"] in group["hosts"]]
    return int(ranks[0]) if len(ranks) == 1 and ranks[0].isdigit() else -1


_SPANS = re.compile(r"(\d{1,7}(-\d{1,7})?(, \d{1,7}(-\d{1,7})?)*)?", re.ASCII)
_GROUP_FIELDS = (set(FIELDS) - set(PERSONAL)) | {"ranks", "hosts"}


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 1 << 31


def _line(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_TEXT and value.isprintable()


def _spans(value: Any) -> bool:
    """Whether this is a text as spans() writes it."""
    return isinstance(value, str) and _SPANS.fullmatch(value) is not None


def _groups(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_GROUPS and all(map(_is_group, value))


def _is_group(value: Any) -> bool:
    if not isinstance(value, dict) or not _GROUP_FIELDS - set(LATER) <= set(value):
        return False
    facts = all(valid(name, field) for name, field in value.items() if name in FIELDS and name not in PERSONAL)
    hosts = value["hosts"]
    if not facts or not isinstance(hosts, dict) or not 0 < len(hosts) <= MOST_HOSTS:
        return False
    named = all(valid("host", host) and _spans(ranks) and ranks for host, ranks in hosts.items())
    return named and _spans(value["ranks"]) and value["ranks"] != ""


def _flag(value: Any) -> bool:
    return type(value) is int and value in (0, 1)


def _bridge(value: Any) -> bool:
    """Whether this is a port, or a line that is none."""
    return _line(value) and (not value.isdigit() or (value.isascii() and len(value) < 6 and 0 < int(value) < 65536))


def _knocks(value: Any) -> bool:
    return isinstance(value, dict) and all(name in SEEN and _number(count) for name, count in value.items())


def _policy(value: Any) -> bool:
    return _line(value) and (value in POLICIES or value.startswith("allow:"))


_CHECKS = {"world": _number, "policy": _policy, "groups": _groups, "more": _number, "missing": _spans, "twice": _spans,
           "outside": _spans, "knocks": _knocks, "where": _line, "aside": _flag, "bridge": _bridge}  # fmt: skip
_SINCE_0_1 = {"aside": 0, "bridge": ""}  # what earlier guards leave out
