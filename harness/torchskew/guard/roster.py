"""The roster: every rank's hello in one small object, the same on every rank, from which each of them decides."""

from __future__ import annotations

import json
import zlib
from typing import Any, Iterable, Mapping, TypedDict, cast

from torchskew.guard.hello import FIELDS, PERSONAL, Build, Hello

MOST_GROUPS, MOST_HOSTS, MOST_ROSTER = 256, 8, 1 << 20


class Group(Build):
    """Ranks of one build: their numbers as spans() shows them, and some hosts with their ranks."""

    ranks: str
    hosts: dict[str, str]


class Roster(TypedDict):
    """Who is in the group. groups[0] contains rank 0; more: builds left out; knocks: stock clients by era."""

    world: int
    policy: str
    groups: list[Group]
    more: int
    missing: str
    twice: str
    outside: str
    knocks: dict[str, int]
    where: str


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
    }  # fmt: skip


def _group(row: dict[str, Any]) -> Group:
    hosts = {host: spans(ranks) for host, ranks in row["hosts"].items()}
    return cast("Group", dict(row["facts"], ranks=spans(row["ranks"]), hosts=hosts))


def pack_roster(roster: Mapping[str, Any]) -> bytes:
    """The roster as it travels."""
    return zlib.compress(json.dumps(roster).encode())


ROSTER_FIELDS = {"world": int, "policy": str, "groups": list, "more": int, "missing": str, "twice": str, "outside": str,
                 "knocks": dict, "where": str}  # fmt: skip
GROUP_FIELDS = {name: kind for name, (kind, _) in FIELDS.items() if name not in PERSONAL}
GROUP_FIELDS.update({"ranks": str, "hosts": dict})


def unpack_roster(body: bytes) -> Roster:
    """The roster out of a frame; ValueError when it is none."""
    try:
        roster = json.loads(zlib.decompressobj().decompress(body, 8 * MOST_ROSTER))
    except (zlib.error, RecursionError) as problem:
        raise ValueError(str(problem)) from problem
    if not _has(roster, ROSTER_FIELDS) or not all(_has(group, GROUP_FIELDS) for group in roster["groups"]):
        raise ValueError("no roster")
    return cast("Roster", dict(roster))


def _has(value: Any, fields: Mapping[str, type]) -> bool:
    """Whether this is an object with at least these fields, each of its type."""
    return isinstance(value, dict) and all(type(value.get(name)) is kind for name, kind in fields.items())
