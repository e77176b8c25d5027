"""Refuse a mixed process group with one clear error on every rank, before init_process_group can fail.

One file that a training job copies: standard library and torch only, Python 3.8 or later, torch 1.7 to 2.15. Call
install() once, call check() before one init_process_group, or run `python torchskew_guard.py train.py`. Settings:
TORCHSKEW_GUARD (enforce, warn, off), TORCHSKEW_GUARD_POLICY (era, minor, exact, allow:2.6.0,2.13.0),
TORCHSKEW_GUARD_PORT, TORCHSKEW_GUARD_SECRET. docs/guard.md describes them and the wire format.
"""

# Generated from torchskew 0.2.0, do not edit: `make guard-file` writes it from torchskew.guard, a module a part.
from __future__ import annotations

import contextlib
import errno
import functools
import hmac
import inspect
import json
import os
import re
import runpy
import selectors
import socket
import struct
import sys
import threading
import time
import warnings
import zlib
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Optional, Tuple, TypedDict, cast
from urllib.parse import ParseResult, parse_qs, urlparse

# -- table ---------------------------------------------------------------------------------------------------
# What each PyTorch release speaks: the one table of eras, and how to read a release out of a version string.

# kind -> (first release, what changed in it). A release belongs to the last row that is not above it.
# Sources: store opcodes and greetings from the headers and first bytes of released builds 1.7.1 to 2.15.0;
# gloo from its commits 31b1f02 (one listener) and 6d8b511 (one record per rank); keys from
# torch/distributed/distributed_c10d.py of each release; agent from the keys that real clients wrote.
LAST_KNOWN = (2, 15)
TABLE: dict[str, tuple[tuple[tuple[int, int], str], ...]] = {
    "store": (
        ((1, 7), "ADD is opcode 2"),
        ((1, 9), "COMPARE_SET makes ADD opcode 3"),
        ((2, 1), "new opcodes from 7 on"),
        ((2, 2), "a connection opens with VALIDATE"),
        ((2, 5), "a connection opens with VALIDATE and PING"),
    ),
    "gloo": (
        ((1, 7), "one listening socket per pair"),
        ((2, 1), "a connection opens with a sequence number"),
        ((2, 2), "one address record per rank"),
    ),
    "keys": (
        ((1, 7), "keys under the group's name"),
        ((1, 8), "a barrier in the store ends the init"),
        ((1, 10), "keys under default_pg"),
        ((2, 0), "keys under group and device"),
        ((2, 1), "no barrier in the store"),
    ),
    "agent": (
        ((1, 7), "keys under /worker/attempt_N"),
        ((2, 6), "no prefix"),
    ),
}
# Store era of a server -> store eras of the clients it can serve: the only fact with a direction.
SERVES = {
    "1.7": ("1.7",),
    "1.9": ("1.9", "2.1"),
    "2.1": ("1.9", "2.1"),
    "2.2": ("2.2",),
    "2.5": ("2.2", "2.5"),
}
# Store eras whose constructor holds the GIL while it waits, so no thread can report that it listens.
HOLDS_GIL = ("1.7", "1.9")
# What the bytes of a stock client or store reveal about its release: 2.0 and 2.1 look alike.
SEEN = {
    "1.7": "of 1.7 to 1.8",
    "1.9": "of 1.9 to 2.1",
    "2.1": "of 1.9 to 2.1",
    "2.2": "of 2.2 to 2.4",
    "2.5": "of 2.5 or later",
    "file": "on the init file",
}
# Settings that change the bytes on the wire when only some ranks have them -> the first release that reads each.
WIRE_SETTINGS = {
    "TORCH_GLOO_LAZY_INIT": (2, 8),
    "GLOO_ENABLE_RANK_AS_SEQUENCE_NUMBER": (2, 8),
    "TORCH_DISTRIBUTED_DEBUG": (1, 9),
    "TORCH_DIST_INIT_BARRIER": (2, 1),
}
# Debian's pre-release labels -> the release that each was built from.
LABELS = {"1.7.0a0": (1, 7, 1), "1.13.0a0": (1, 13, 1)}


def parse(version: str) -> tuple[int, int, int] | None:
    """The release in a torch version string, such as (2, 6, 0) for "2.6.0+debian"; None where there is none."""
    public = version.split("+", 1)[0].strip()
    if public in LABELS:
        return LABELS[public]
    match = re.match(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", public)
    if not match:
        return None
    return int(match.group(1)), int(match.group(2)), int(match.group(3) or 0)


def era(kind: str, version: str) -> str | None:
    """The era of a kind ("store", "gloo", "keys", "agent") that a release speaks, named by its first release."""
    release = parse(version)
    rows = [since for since, _ in TABLE[kind] if release and since <= release[:2]]
    return f"{rows[-1][0]}.{rows[-1][1]}" if rows else None


def known(version: str) -> bool:
    """Whether the table covers this release; a newer one is assumed to speak as the last known one does."""
    release = parse(version)
    return release is not None and release[:2] <= LAST_KNOWN


def setting(name: str, env: Mapping[str, str]) -> str:
    """A setting's effect on the wire: "" where it is off, however that is spelled."""
    value = env.get(name, "").strip().upper()
    if name == "TORCH_DISTRIBUTED_DEBUG":
        return value if value == "DETAIL" else ""
    return "" if value in ("", "0", "N", "NO", "OFF", "FALSE") else "1"


# -- errors --------------------------------------------------------------------------------------------------
# The one error that the guard raises, with its evidence as data.


class ProtocolVersionError(RuntimeError):
    """The group can't or must not form; the text names every differing rank, the cause and the remedy.

    kind: "version", "settings", "group", "one-sided" or "missing". groups: one dict per build, with torch, host
    names and ranks ("0, 5-9"). eras: dicts with kind, since and who speaks what. remedy: one sentence.
    """

    def __init__(self, text: str, **data: Any) -> None:
        """The data becomes the attributes of the error."""
        super().__init__(text)
        self.kind: str = data.get("kind", "version")
        self.rank: int = data.get("rank", -1)
        self.groups: list[dict[str, Any]] = data.get("groups", [])
        self.eras: list[dict[str, str]] = data.get("eras", [])
        self.remedy: str = data.get("remedy", "")
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep text and data through a queue or a pickle."""
        return revive, (self.args[0], self.data)


def revive(text: str, data: dict[str, Any]) -> ProtocolVersionError:
    """The error out of a pickle."""
    return ProtocolVersionError(text, **data)


# -- settings ------------------------------------------------------------------------------------------------
# The guard's own settings, read from the environment; a misspelt one is an error, never a default.

MODES = ("enforce", "warn", "off")
POLICIES = ("era", "minor", "exact", "allow:")


def chosen(name: str, choices: tuple[str, ...]) -> str:
    """A setting's value; the first choice where it isn't set."""
    value = os.environ.get(name, "").strip().lower() or choices[0]
    if value not in choices and not (value.startswith("allow:") and "allow:" in choices):
        raise ValueError("%s must be one of %s, got %r." % (name, ", ".join(choices), value))
    return value


def second_port(first: int) -> int:
    """The port where rank 0 listens when something else has the first."""
    value = os.environ.get("TORCHSKEW_GUARD_PORT", "").strip()
    if value and not (value.isdigit() and 0 < int(value) < 65536):
        raise ValueError("TORCHSKEW_GUARD_PORT must be a port, got %r." % value)
    return int(value or (first + 1 if first < 65535 else 65534))


def shared_secret() -> bytes:
    """What all ranks of this job share and strangers don't know; b"" where none is set."""
    return os.environ.get("TORCHSKEW_GUARD_SECRET", "").encode()


# -- place ---------------------------------------------------------------------------------------------------
# Where a group meets, read from the arguments and the environment exactly as torch reads them.


class Place(NamedTuple):
    """Where a group meets, seen from one rank: method is "tcp", "agent" or "file", and only "file" has a path."""

    method: str
    host: str
    port: int
    path: str
    rank: int
    world: int

    @property
    def second(self) -> int:
        """The port where rank 0 listens when something else has the first."""
        return second_port(self.port)

    def __str__(self) -> str:
        """The address or path as people write it."""
        return self.path if self.method == "file" else "%s:%d" % (self.host, self.port)


def locate(init_method: str | None = None, world_size: int = -1, rank: int = -1) -> Place | None:
    """Where this rank's group meets; None where torch itself will complain, or where the guard can't know."""
    parts = urlparse(init_method or "env://")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    env = os.environ if parts.scheme == "env" else {}
    try:
        rank = int(query.get("rank", rank if rank >= 0 else env.get("RANK", -1)))
        world = int(query.get("world_size", world_size if world_size >= 0 else env.get("WORLD_SIZE", -1)))
        host, port = _address(parts, env)
    except ValueError:
        return None
    if rank < 0 or world < 1:
        return None
    if parts.scheme == "file" and parts.path:
        return Place("file", *_address_beside_a_file(), parts.path, rank, world)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Place("agent" if agent else "tcp", host, port, "", rank, world) if host and 0 < port < 65536 else None


def _address(parts: ParseResult, env: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of tcp:// or env://, "" and 0 where they are missing; ValueError where the port is no number."""
    if parts.scheme == "tcp":
        return parts.hostname or "", int(parts.port or 0)
    return env.get("MASTER_ADDR") or "", int(env.get("MASTER_PORT") or 0)


def _address_beside_a_file() -> tuple[str, int]:
    """The address in the environment of a rank that meets by file, where ranks that meet by address would be."""
    port = re.match(r"\d{1,4}$|[1-5]\d{4}$", os.environ.get("MASTER_PORT", ""))
    host = os.environ.get("MASTER_ADDR", "") if port else ""
    return host, int(port.group()) if port and host else 0


# -- hello ---------------------------------------------------------------------------------------------------
# A hello: what one rank reports about itself, and how a hello from a stranger is read.

# Each field of a hello, its type and its longest value; anything else is no hello.
FIELDS: dict[str, tuple[type, int]] = {
    "rank": (int, 1 << 20), "world": (int, 1 << 20), "pid": (int, 1 << 31), "port": (int, 65535), "host": (str, 255),
    "torch": (str, 80), "git": (str, 80), "python": (str, 40), "backend": (str, 80), "method": (str, 10),
    "job": (str, 255), "order": (str, 10), "nccl": (str, 40), "store": (str, 8), "gloo": (str, 8), "keys": (str, 8),
    "agent": (str, 8), "serves": (str, 255), "settings": (str, 400), "known": (int, 1), "last": (str, 8),
}  # fmt: skip
# The fields that tell ranks of one build apart.
PERSONAL = ("rank", "host", "pid")
# A rank that connects again is the same, two processes that claim one number are not.
Identity = Tuple[int, str, int]


class Build(TypedDict):
    """What ranks of one build have in common; each value as FIELDS bounds it."""

    world: int
    port: int
    torch: str
    git: str
    python: str
    backend: str
    method: str
    job: str
    order: str
    nccl: str
    store: str
    gloo: str
    keys: str
    agent: str
    serves: str
    settings: str
    known: int
    last: str


class Hello(Build):
    """What one rank reports about itself, as the JSON object that travels."""

    rank: int
    host: str
    pid: int


def own_hello(place: Place, backend: str = "") -> Hello:
    """This process's hello: who it is, what it runs, and what that speaks according to the table."""
    import torch

    version = str(torch.__version__)
    eras = {kind: era(kind, version) or "" for kind in TABLE}
    release = parse(version) or (0, 0, 0)
    wire = {name: setting(name, os.environ) for name, since in WIRE_SETTINGS.items() if since <= release[:2]}
    fields: dict[str, Any] = {
        "rank": place.rank, "world": place.world, "pid": os.getpid(), "port": place.port,
        "host": socket.gethostname(), "torch": version, "git": str(getattr(torch.version, "git_version", "") or ""),
        "python": ".".join(map(str, sys.version_info[:3])), "backend": backend, "method": place.method,
        "job": os.environ.get("TORCHELASTIC_RUN_ID", ""), "order": sys.byteorder, "nccl": _nccl(backend),
        "serves": " ".join(SERVES.get(eras["store"], ())), "known": int(known(version)),
        "settings": " ".join("%s=%s" % pair for pair in sorted(wire.items()) if pair[1]),
        "last": "%d.%d" % LAST_KNOWN,
    }  # fmt: skip
    fields.update(eras)
    cut = {name: value[: FIELDS[name][1]] if isinstance(value, str) else value for name, value in fields.items()}
    return cast("Hello", cut)


def _nccl(backend: str) -> str:
    """NCCL's version where the group uses it: NCCL itself demands equality, but complains late."""
    if "nccl" not in backend:
        return ""
    try:
        import torch.cuda.nccl

        return str(torch.cuda.nccl.version())
    except (ImportError, AttributeError, RuntimeError):
        return ""


def read_hello(body: bytes) -> Hello | None:
    """The hello in bytes that anyone may have sent; None for everything that isn't exactly one."""
    try:
        fields = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or set(fields) != set(FIELDS):
        return None
    for name, (kind, most) in FIELDS.items():
        value = fields[name]
        size = len(value) if isinstance(value, str) else value
        if type(value) is not kind or not 0 <= size <= most:
            return None
    return cast("Hello", fields)


def identity(hello: Hello) -> Identity:
    """Which process a hello is from."""
    return hello["rank"], hello["host"], hello["pid"]


# -- roster --------------------------------------------------------------------------------------------------
# The roster: every rank's hello in one small object, the same on every rank, from which each of them decides.

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


# -- verdict -------------------------------------------------------------------------------------------------
# The verdict: what speaks against a group, decided from the roster alone, so that every rank decides the same.


class Objection(NamedTuple):
    """One reason against the group: its kind, one line of text, and for an era its name and its first release."""

    kind: str
    text: str
    era: str = ""
    since: str = ""


def decide(roster: Roster) -> list[Objection]:
    """What speaks against this group, the gravest first; [] admits it."""
    objections = [Objection("group", text) for text in _wrong_group(roster)]
    objections += _by_policy(roster["groups"], roster["policy"])
    settings = _differences(roster["groups"], "settings")
    if settings:
        objections.append(Objection("settings", "settings that change the wire format differ: " + settings))
    if roster["more"]:
        objections.append(Objection("group", "%d more builds in this group are not listed" % roster["more"]))
    if roster["missing"]:
        objections.append(Objection("one-sided" if roster["knocks"] else "missing", _absent(roster)))
    return objections


def _wrong_group(roster: Roster) -> Iterator[str]:
    """Two ranks with one number, ranks outside the world, and what must be the same on every rank but isn't."""
    if roster["twice"]:
        yield "more than one process says it is %s" % name_ranks(roster["twice"])
    if roster["outside"]:
        yield "%s of a world of %d" % (name_ranks(roster["outside"]), roster["world"])
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
    return "; ".join("%s %s" % (name_ranks(", ".join(ranks)), value or "none") for value, ranks in values.items())


def name_ranks(text: str) -> str:
    """Spans as `rank 0` or `ranks 1, 5-9`, a long list shortened."""
    parts = text.split(", ")
    shown = ", ".join(parts[:6]) + (" and %d more" % (len(parts) - 6) if len(parts) > 6 else "")
    return ("rank " if text.isdigit() else "ranks ") + shown


def _absent(roster: Roster) -> str:
    """Who never came, and which stock clients came instead."""
    who = name_ranks(roster["missing"]) + " never said hello" + (" at %s" % roster["where"] if roster["where"] else "")
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
    host, objections = groups[0], []
    gloo = any("gloo" in group["backend"] or not group["backend"] for group in groups)
    checked = {"store": host["method"] == "tcp", "gloo": gloo, "keys": True, "agent": host["method"] == "agent"}
    for kind, applies in checked.items():
        odd = [group for group in groups if _field(group, kind) != _field(host, kind)]
        if kind == "store":
            odd = [group for group in odd if group["store"] not in host["serves"].split()]
        if applies and odd:
            objections.append(_era_objection(kind, [host, *odd]))
    return objections


def _era_objection(kind: str, groups: list[Group]) -> Objection:
    """One line: which era differs, since which release, which ranks speak what."""
    speakers: dict[str, list[str]] = {}
    for group in groups:
        speakers.setdefault(_field(group, kind), []).append(group["ranks"])
    meaning = {"%d.%d" % since: what for since, what in TABLE[kind]}
    since = max(speakers, key=lambda name: parse(name) or (0, 0, 0))
    who = "; ".join("%s %s (%s)" % (name_ranks(", ".join(ranks)), name or "unknown",
                                    meaning.get(name, "not in the table"))
                    for name, ranks in speakers.items())  # fmt: skip
    return Objection("version", "%s era differs since %s: %s" % (kind, since, who), kind, since)


# -- refusal -------------------------------------------------------------------------------------------------
# The refusal: the roster and the objections as one error that a person can act on.

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


# -- wire ----------------------------------------------------------------------------------------------------
# The wire: the bytes that open a connection between guards, and the frames that follow.

# 0xff is an opcode of no TCPStore: an old server closes, a newer one ignores it, none is left waiting for more.
HELLO, PEEK, GREETING = b"\xfftorchskew-hello/1\n", b"\xfftorchskew-peek/1\n\n", b"torchskew-guard/1\n"
NONCE, MAC, MOST_HELLO, GO = 16, 32, 4096, b"G"
OPENING = len(HELLO) + NONCE


def _mac(secret: bytes, nonces: bytes, body: bytes) -> bytes:
    """Binds a message to this connection's two nonces; without a secret it only detects damage."""
    return hmac.new(secret or b"torchskew", nonces + body, "sha256").digest()


def frame(secret: bytes, nonces: bytes, body: bytes) -> bytes:
    """A body as it travels: its length, its code, itself."""
    return struct.pack("!I", len(body)) + _mac(secret, nonces, body) + body


def unframe(secret: bytes, nonces: bytes, data: bytes, most: int) -> bytes | None:
    """The body of a whole frame, None while it is incomplete; ValueError when it can't become one."""
    if len(data) < 4:
        return None
    (size,) = struct.unpack("!I", data[:4])
    if size > most:
        raise ValueError("too long")
    if len(data) < 4 + MAC + size:
        return None
    body = data[4 + MAC : 4 + MAC + size]
    if not hmac.compare_digest(data[4 : 4 + MAC], _mac(secret, nonces, body)):
        raise ValueError("wrong secret")
    return body


# -- pace ----------------------------------------------------------------------------------------------------
# How long a rank waits, and from when a sign that the other side has no guard counts as proof.


class Pace(NamedTuple):
    """Instants on the monotonic clock: the deadline for late ranks, and proof, before which no sign is proof.

    settle: the seconds for which a sign must hold.
    """

    deadline: float
    proof: float
    settle: float

    @property
    def greeting(self) -> float:
        """Seconds in which a guard that isn't busy greets."""
        return min(0.5, max(0.1, self.settle))

    def proven(self, seen: float) -> float:
        """When a sign that was seen at an instant counts."""
        return max(self.proof, seen + self.settle)

    def strays(self, asked: float) -> bool:
        """Whether to look elsewhere too: some are late, and the last look there was a while ago.

        What listens there may be a stranger, so looks are rare.
        """
        return time.monotonic() >= max(self.proof, asked + 5 * self.settle)


def pace(seconds: float) -> Pace:
    """The pace for a timeout in seconds: signs count after 0.15 of it (10 s at most), or soon where they come later."""
    now, share = time.monotonic(), min(0.15 * seconds, 10.0)
    return Pace(now + seconds, now + share, share / 5)


# -- sockets -------------------------------------------------------------------------------------------------
# Sockets between guards: bound, tuned, read to an exact size, and closed without a trace on the store's port.


def reset(conn: socket.socket) -> None:
    """Close at once and leave no TIME_WAIT on the port that the store needs next."""
    with contextlib.suppress(OSError):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def tune(conn: socket.socket) -> None:
    """Send small messages at once, and notice a peer whose machine vanished during a long wait."""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10)):
        if hasattr(socket, name):
            conn.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


def bind(port: int) -> socket.socket:
    """A socket on every address of the machine, IPv6 where it has that; not yet listening. OSError when taken."""
    for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104 - as TCPStore does
        try:
            server = socket.socket(family)
        except OSError:
            continue
        try:
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, port))
        except OSError as problem:
            server.close()
            if problem.errno == errno.EADDRINUSE or family == socket.AF_INET:
                raise
        else:
            return server
    raise OSError(errno.EAFNOSUPPORT, "this machine has neither IPv6 nor IPv4")


def listens(port: int) -> bool:
    """Whether something on this machine listens on a port, without connecting to it."""
    try:
        bind(port).close()
    except OSError:
        return True
    return False


def receive(conn: socket.socket, size: int, until: float) -> bytes:
    """Exactly size bytes until a monotonic instant; OSError otherwise."""
    data = b""
    while len(data) < size:
        conn.settimeout(max(0.001, until - time.monotonic()))
        more = conn.recv(size - len(data))
        if not more:
            raise ConnectionResetError("closed")
        data += more
    return data


def read_greeting(conn: socket.socket, seconds: float) -> bytes:
    """The nonce of a guard that greets within these seconds; OSError when none does."""
    greeting = receive(conn, len(GREETING) + NONCE, time.monotonic() + seconds)
    if not greeting.startswith(GREETING):
        raise ConnectionResetError("no guard")
    return greeting[len(GREETING) :]


def receive_roster(conn: socket.socket, secret: bytes, nonces: bytes, until: float) -> Roster:
    """The roster out of the next frame; ValueError or OSError when it doesn't arrive whole and genuine."""
    head = receive(conn, 4 + MAC, until)
    (size,) = struct.unpack("!I", head[:4])
    if size > MOST_ROSTER:
        raise ValueError("too long")
    body = unframe(secret, nonces, head + receive(conn, size, until), MOST_ROSTER)
    return unpack_roster(body or b"")


def dial(host: str, port: int, opening: bytes, seconds: float) -> tuple[socket.socket, bytes]:
    """A connection that has sent its opening (HELLO or PEEK), and its nonce; OSError when nothing accepts it."""
    nonce = os.urandom(NONCE)
    conn = socket.create_connection((host, port), timeout=seconds)
    try:
        tune(conn)
        conn.sendall(opening + nonce)
    except OSError:
        conn.close()
        raise
    return conn, nonce


def peek(host: str, port: int, patience: float) -> Roster:
    """What the guard on a port knows so far; OSError or ValueError when no guard answers."""
    conn, nonce = dial(host, port, PEEK, patience)
    with contextlib.closing(conn):
        nonces = nonce + read_greeting(conn, patience)
        return receive_roster(conn, b"", nonces, time.monotonic() + patience)


# -- stock ---------------------------------------------------------------------------------------------------
# Stock PyTorch recognised by its bytes: a client that knocks on a guard's port, a store where a guard should be.


class Listener(NamedTuple):
    """What listens on a port: "guard" (with its roster), "store" (with era and back end), "other" or "nothing".

    "unresolved": the host's name has no address.
    """

    what: str
    era: str = ""
    backend: str = ""
    roster: Optional[Roster] = None


def greeting_era(data: bytes) -> str | None:
    """The store era of a stock client by its first bytes; "" for anything else, None while too few came."""
    for opcode, name in ((2, "1.7"), (3, "1.9")):
        stock = bytes([opcode]) + struct.pack("<Q", 5) + b"init/"
        if data[:14] == stock[: len(data)]:
            return name if len(data) >= 14 else None
    validate = b"\x00" + struct.pack("<I", 0x3C85F7CE)
    if data[:5] != validate[: len(data)]:
        return ""
    if len(data) < 6:
        return None
    return {4: "2.2", 13: "2.5"}.get(data[5], "")


def look(host: str, port: int, patience: float = 0.5) -> Listener:
    """What listens on a port.

    Sends whole messages only: half a message freezes every legacy store for all its clients.
    """
    try:
        return Listener("guard", roster=peek(host, port, patience))
    except socket.timeout:
        backend = "libuv"
    except socket.gaierror:
        return Listener("unresolved")
    except ConnectionRefusedError:
        return Listener("nothing")
    except (OSError, ValueError):
        backend = "legacy"
    try:
        store_era = _store_since_2_2(host, port, patience) or _store_before(host, port, patience)
    except OSError:
        return Listener("nothing")
    return Listener("store", store_era, backend) if store_era else Listener("other")


def _request(conn: socket.socket, data: bytes, size: int, patience: float) -> bytes:
    """The answer, b"" when the server closed or kept silent."""
    try:
        conn.sendall(data)
        return receive(conn, size, time.monotonic() + patience)
    except OSError:
        return b""


def _counts(data: bytes, many: int) -> bool:
    """Whether these bytes are plausible numbers of keys."""
    return len(data) == 8 * many and all(0 <= count < 1 << 40 for count in struct.unpack("<%dq" % many, data))


def _store_since_2_2(host: str, port: int, patience: float) -> str:
    """VALIDATE and four times the number of keys; an older server reads one absurd length and closes."""
    with contextlib.closing(socket.create_connection((host, port), timeout=patience)) as conn:
        if not _counts(_request(conn, b"\x00\xce\xf7\x85\x3c" + b"\x07" * 4, 32, patience), 4):
            return ""
        nonce = b"\x7f\x7f" + os.urandom(2)
        return "2.5" if _request(conn, b"\x0d" + nonce, 4, patience) == nonce else "2.2"


def _store_before(host: str, port: int, patience: float) -> str:
    """Two messages over no keys, whole and without effect in every old store: CHECK (WAIT up to 1.8), then WAIT.

    Up to 1.8 the second is the number of keys and a rest, so that store waits until this connection closes, at once.
    """
    with contextlib.closing(socket.create_connection((host, port), timeout=patience)) as conn:
        if _request(conn, b"\x04" + bytes(8), 1, patience) != b"\x00":
            return ""
        first = _request(conn, b"\x05" + bytes(8), 1, patience)
        conn.settimeout(0.01)
        with contextlib.suppress(OSError):
            first += conn.recv(7)
        return {1: "1.9", 8: "1.7"}.get(len(first), "")


# -- arrivals ------------------------------------------------------------------------------------------------
# Who came to rank 0's port: ranks that said hello, and stock clients that are held unanswered.


class Peer:
    """A connection to the hello port: what it sent so far, and how far it got."""

    __slots__ = ("conn", "data", "hello", "nonces", "peeks", "since")

    def __init__(self, conn: socket.socket) -> None:
        """Nothing is known of it yet."""
        self.conn, self.data, self.nonces, self.peeks = conn, b"", b"", False
        self.hello: Hello | None = None
        self.since = time.monotonic()


class Arrivals:
    """The ranks that said hello, each with its connection; rank 0 itself is not among them."""

    def __init__(self, world: int) -> None:
        """World is the size of rank 0's group."""
        self.world = world
        self.peers: dict[Identity, Peer] = {}
        self.numbers: dict[int, int] = {}
        self.wronged = float("inf")  # when the first hello came that no later one can put right

    def hellos(self) -> list[Hello]:
        """The hellos of all that arrived."""
        return [peer.hello for peer in self.peers.values() if peer.hello]

    def complete(self) -> bool:
        """Whether waiting longer changes nothing: all are here, or as many, and some of them are wrong."""
        enough = len(self.peers) + 1 >= self.world
        return enough and (self.wronged < float("inf") or all(self.numbers.get(rank) for rank in range(1, self.world)))

    def earlier(self, hello: Hello) -> Peer | None:
        """The connection over which the same process said hello before."""
        return self.peers.get(identity(hello))

    def add(self, peer: Peer, hello: Hello) -> None:
        """Count a rank in."""
        peer.hello, peer.data = hello, b""
        rank = hello["rank"]
        self.peers[identity(hello)] = peer
        self.numbers[rank] = self.numbers.get(rank, 0) + 1
        odd = hello["world"] != self.world or not 0 < rank < hello["world"]
        if odd or self.numbers[rank] > 1:
            self.wronged = min(self.wronged, time.monotonic())

    def remove(self, peer: Peer) -> None:
        """Count a rank out whose connection ended, unless a newer connection of it counts."""
        if peer.hello and self.peers.get(identity(peer.hello)) is peer:
            del self.peers[identity(peer.hello)]
            self.numbers[peer.hello["rank"]] -= 1


class StockClients:
    """Clients without the guard: counted by store era, and held unanswered, so that they neither fail nor retry."""

    held_limit = 256

    def __init__(self) -> None:
        """Nobody knocked yet."""
        self.knocks: dict[str, int] = {}
        self.first = float("inf")  # when the first of them knocked
        self.held: list[socket.socket] = []

    def count(self, store_era: str) -> bool:
        """Count one; whether there is room to hold it."""
        self.knocks[store_era] = self.knocks.get(store_era, 0) + 1
        self.first = min(self.first, time.monotonic())
        return len(self.held) < self.held_limit


# -- host ----------------------------------------------------------------------------------------------------
# Rank 0's side of the exchange over an address: it collects every rank's hello and sends all of them one roster.


class Host:
    """Collects hellos on one port that takes bytes from anyone.

    Sizes, counts and times are bounded, and a connection that says nothing sensible in time is reset. Stock clients
    are held unanswered: as with a port that doesn't listen yet, they wait.
    """

    pending_limit, pending_seconds = 512, 5.0

    def __init__(self, server: socket.socket, place: Place, mine: Hello, secret: bytes, policy: str) -> None:
        """The server is bound, not yet listening; mine is this rank's own hello."""
        self.server, self.place, self.mine, self.secret, self.policy = server, place, mine, secret, policy
        self.selector = selectors.DefaultSelector()
        self.pending: dict[socket.socket, Peer] = {}
        self.arrivals, self.stock = Arrivals(place.world), StockClients()

    def gather(self, until: Pace) -> Roster:
        """Wait for every rank until the deadline; less where the group is wrong or stock clients come instead."""
        self.listen()
        while not self.arrivals.complete():
            now = time.monotonic()
            proven = until.deadline if self.secret else until.proven(self.stock.first)
            limit = min(until.deadline, self.arrivals.wronged + 1.0, proven)
            if now >= limit:
                break
            self.serve(min(limit - now, 0.25))
        return self.roster()

    def listen(self) -> None:
        """From now on ranks find this one."""
        self.server.listen(4096)
        self.server.setblocking(False)
        self.selector.register(self.server, selectors.EVENT_READ)

    def serve(self, seconds: float) -> None:
        """Read from whoever sent something, for these seconds at most."""
        for key, _ in self.selector.select(seconds):
            if key.fileobj is self.server:
                self._accept()
            elif key.data.conn.fileno() >= 0:
                self._read(key.data)
        self._expire()

    def roster(self) -> Roster:
        """Who is here so far."""
        roster = roster_of([self.mine, *self.arrivals.hellos()], self.policy, self.stock.knocks)
        roster["where"] = str(self.place)
        return roster

    def _accept(self) -> None:
        for _ in range(128):
            try:
                conn, _ = self.server.accept()
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno not in (errno.EMFILE, errno.ENFILE) or not self.pending:
                    raise
                self._evict()
                continue
            conn.setblocking(False)
            tune(conn)
            peer = self.pending[conn] = Peer(conn)
            self.selector.register(conn, selectors.EVENT_READ, peer)
            if len(self.pending) > max(self.pending_limit, self.place.world):
                self._evict()
            self._read(peer)

    def _evict(self) -> None:
        """Make room for a newcomer: drop the oldest that sent nothing, else the oldest."""
        silent = (peer for peer in self.pending.values() if not peer.nonces)
        self._drop(next(silent, next(iter(self.pending.values()))))

    def _expire(self) -> None:
        """Drop connections that have been undecided for too long."""
        old = time.monotonic() - self.pending_seconds
        while self.pending and next(iter(self.pending.values())).since < old:
            self._drop(next(iter(self.pending.values())))

    def _drop(self, peer: Peer) -> None:
        self.pending.pop(peer.conn, None)
        self.arrivals.remove(peer)
        if peer.conn.fileno() >= 0:
            self.selector.unregister(peer.conn)
            reset(peer.conn)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.conn.recv(MOST_HELLO)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or peer.hello:
            self._drop(peer)  # it left, or it talks on after its hello
            return
        peer.data += data
        try:
            if not peer.nonces:
                self._open(peer)
            if peer.nonces:
                self._hear(peer)
        except (ValueError, OSError):
            self._drop(peer)

    def _open(self, peer: Peer) -> None:
        """The first bytes: a guard's opening is greeted, a stock client is recognised, anything else is refused."""
        start = peer.data[: len(HELLO)]
        if start in (HELLO, PEEK) and len(peer.data) >= OPENING:
            ours = os.urandom(NONCE)
            peer.peeks, peer.nonces = start == PEEK, peer.data[len(HELLO) : OPENING] + ours
            peer.data = peer.data[OPENING:]
            peer.conn.send(GREETING + ours)
        elif not (HELLO.startswith(start) or PEEK.startswith(start)):
            store_era = greeting_era(peer.data)
            if store_era == "":
                raise ValueError("junk")
            if store_era:
                self._hold(peer, store_era)

    def _hold(self, peer: Peer, store_era: str) -> None:
        """Leave a stock client unanswered until this rank's part is over."""
        if not self.stock.count(store_era):
            raise ValueError("too many")
        del self.pending[peer.conn]
        self.selector.unregister(peer.conn)
        self.stock.held.append(peer.conn)

    def _hear(self, peer: Peer) -> None:
        """What follows the opening: a peek is answered with the roster so far, a hello counts its rank in."""
        if peer.peeks:
            self._answer_peek(peer)
            raise ValueError("answered")
        body = unframe(self.secret, peer.nonces, peer.data, MOST_HELLO)
        if body is None:
            return
        hello = read_hello(body)
        if hello is None or hello["port"] != self.place.port:
            raise ValueError("no hello, or of another group")
        earlier = self.arrivals.earlier(hello)
        if earlier:
            self._drop(earlier)
        del self.pending[peer.conn]
        self.arrivals.add(peer, hello)

    def _answer_peek(self, peer: Peer) -> None:
        """Show who is here; where a secret is set, a stranger learns the group's size alone."""
        roster = roster_of([], self.policy) if self.secret else self.roster()
        roster["world"] = self.place.world
        peer.conn.send(frame(b"", peer.nonces, pack_roster(roster)))

    def send(self, roster: Roster, admitted: bool) -> None:
        """Free the port first, so that no store's client lands on it; then send everyone the roster.

        Joiners that are admitted start once rank 0's store listens: a thread tells them, this rank goes on.
        """
        self.selector.close()
        reset(self.server)
        for conn in [*self.pending, *self.stock.held]:
            reset(conn)
        body = pack_roster(roster)
        for peer in self.arrivals.peers.values():
            peer.conn.settimeout(1.0)
            with contextlib.suppress(OSError):
                peer.conn.sendall(frame(self.secret, peer.nonces, body))
        if admitted and self.place.method == "tcp" and self.mine["store"] not in HOLDS_GIL:
            threading.Thread(target=self._usher, name="torchskew-guard", daemon=True).start()
        else:
            self._part()

    def _usher(self) -> None:
        """Let the joiners go once the store listens, or after two seconds."""
        until = time.monotonic() + 2.0
        while time.monotonic() < until and not listens(self.place.port):
            time.sleep(0.001)
        self._part()

    def _part(self) -> None:
        """Let the joiners go and close first; one that doesn't within a second is reset."""
        until = time.monotonic() + 1.0
        for peer in self.arrivals.peers.values():
            with contextlib.suppress(OSError):
                peer.conn.sendall(GO)
        for peer in self.arrivals.peers.values():
            with contextlib.suppress(OSError):
                peer.conn.settimeout(max(0.001, until - time.monotonic()))
                peer.conn.recv(1)
            reset(peer.conn)


# -- joiner --------------------------------------------------------------------------------------------------
# The other ranks' side: a joiner says hello to rank 0, and recognises a stock store in its place.

BUSY = 5.0  # seconds for a guard that is only busy
HUNG_UP = "its guard closed the connection (%s). Is TORCHSKEW_GUARD_SECRET the same on every rank?"


class Line(NamedTuple):
    """An open connection to a guard that has greeted, and the nonces of both sides."""

    conn: socket.socket
    nonces: bytes


class Sighting(NamedTuple):
    """A stock store on the first port, and when the attempt began that met it first."""

    store: Listener
    since: float


class Signs(NamedTuple):
    """What a joiner has seen so far, handed from attempt to attempt.

    taken: something else than a guard may have the first port. trouble: why the last attempt there failed.
    """

    taken: bool
    trouble: str = "nothing listened"
    seen: Optional[Sighting] = None

    @property
    def since(self) -> float:
        """Since when a store stands where the guard should be; infinity where none does."""
        return self.seen.since if self.seen else float("inf")


class Attempt(NamedTuple):
    """One try at a port: when it began, the pace of the whole exchange, and the seconds in which a guard greets."""

    port: int
    began: float
    until: Pace
    patience: float


class Joiner:
    """Reaches rank 0's guard; has no state of its own, what it sees on the way is in the signs."""

    def __init__(self, place: Place, mine: Hello, secret: bytes) -> None:
        """Mine is this rank's hello."""
        self.place, self.secret, self.mine = place, secret, mine
        self.body = json.dumps(mine).encode()

    def ask(self, until: Pace) -> Roster:
        """The roster that rank 0 sends; ProtocolVersionError when no guard is there."""
        signs, pause, asked = self.nothing_seen(), 0.01, 0.0
        while time.monotonic() < until.deadline:
            for second in (True, False) if self.place.method == "agent" else (False, True):
                if second and not (signs.taken or until.strays(asked)):
                    continue
                asked = time.monotonic() if second else asked
                port = self.place.second if second else self.place.port
                roster, signs = self.attempt(Attempt(port, time.monotonic(), until, until.greeting), signs)
                if roster is not None:
                    return roster
            if time.monotonic() >= until.proven(signs.since):
                signs = self._looked(signs, signs.since, until.greeting)
                if signs.seen:
                    raise self._one_sided(signs.seen.store)
            next_step = min(until.deadline, until.proven(signs.since))
            time.sleep(min(pause, max(0.0, next_step - time.monotonic())))
            pause = min(pause * 1.5, 0.25)
        raise self._missing(signs)

    def nothing_seen(self) -> Signs:
        """The signs before the first attempt: under torchrun the agent's store has the first port."""
        return Signs(taken=self.place.method == "agent")

    def attempt(self, attempt: Attempt, signs: Signs) -> tuple[Roster | None, Signs]:
        """The roster, None where no guard of this group has the port; and the signs after it."""
        line, signs = self._reach(attempt, signs)
        if line is None:
            return None, signs
        with contextlib.closing(line.conn):
            try:
                line.conn.sendall(frame(self.secret, line.nonces, self.body))
                roster = receive_roster(line.conn, self.secret, line.nonces, attempt.until.deadline + 1.0)
                if not decide(roster):
                    self._await_store(line.conn, roster["groups"][0])
            except (OSError, ValueError) as problem:
                ours = signs.taken or attempt.port == self.place.port
                return None, signs._replace(trouble=HUNG_UP % problem) if ours else signs
        return roster, signs

    def _reach(self, attempt: Attempt, signs: Signs) -> tuple[Line | None, Signs]:
        """A connection to the guard on a port, None where none greets; and the signs after it."""
        conn = None
        try:
            conn, nonce = dial(self.place.host, attempt.port, HELLO, BUSY)
            try:
                return Line(conn, nonce + read_greeting(conn, attempt.patience)), signs
            except socket.timeout:
                signs = self._examined(attempt, signs)
                seconds = min(BUSY, attempt.until.deadline - time.monotonic())
                if seconds <= 0 or self._occupied(attempt.port, signs):
                    raise
                return Line(conn, nonce + read_greeting(conn, seconds)), signs
        except (OSError, ValueError) as problem:
            if conn is not None:
                conn.close()
            return None, self._unanswered(attempt, problem, signs)

    def _unanswered(self, attempt: Attempt, problem: Exception, signs: Signs) -> Signs:
        """The signs after an attempt that reached no guard."""
        first, refused = attempt.port == self.place.port, isinstance(problem, ConnectionRefusedError)
        absent = refused or isinstance(problem, socket.gaierror)
        if first:
            trouble = "nothing listened" if refused else str(problem) if absent else "no guard answered"
            signs = signs._replace(trouble=trouble)
        if absent:
            return signs._replace(taken=signs.taken and not first)
        return self._examined(attempt, signs)

    def _examined(self, attempt: Attempt, signs: Signs) -> Signs:
        """The signs after a port answered, but not as a guard: on the first one a store is looked for."""
        if attempt.port != self.place.port:
            return signs
        signs = signs._replace(taken=True)
        return signs if signs.seen else self._looked(signs, attempt.began, attempt.patience)

    def _looked(self, signs: Signs, since: float, patience: float) -> Signs:
        """The signs after a look for a store on the first port; an agent's store may be there, and proves nothing."""
        if self.place.method != "tcp":
            return signs._replace(seen=None)
        listener = look(self.place.host, self.place.port, patience)
        return signs._replace(seen=Sighting(listener, since) if listener.what == "store" else None)

    def _occupied(self, port: int, signs: Signs) -> bool:
        """Whether a port that doesn't greet belongs to something else than a guard that is only busy."""
        if port != self.place.port:
            return self.place.method != "agent"
        return signs.seen is not None or self.place.method == "agent"

    def _await_store(self, conn: socket.socket, host: Group) -> None:
        """Until rank 0's store listens, a second at most: a client that comes too early pauses for up to a second."""
        until = time.monotonic() + 1.0
        with contextlib.suppress(OSError):
            receive(conn, 1, until)
        conn.close()
        while host["method"] == "tcp" and host["store"] in HOLDS_GIL and time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection((self.place.host, self.place.port), timeout=1.0).close()
                return
            time.sleep(0.002)

    def _one_sided(self, store: Listener) -> ProtocolVersionError:
        text = "no guard answers at %s, but a TCPStore %s (%s): rank 0 runs without the guard, or has formed its group"
        return self._refusal("one-sided", text % (self.place, SEEN[store.era], store.backend), {store.era: 1})

    def _missing(self, signs: Signs) -> ProtocolVersionError:
        text = "rank 0 never answered at %s: %s" % (self.place, signs.trouble)
        return self._refusal("missing", text, {signs.seen.store.era: 1} if signs.seen else None)

    def _refusal(self, kind: str, text: str, knocks: dict[str, int] | None) -> ProtocolVersionError:
        roster = roster_of([self.mine], "era", knocks)
        roster["missing"] = "0"
        return refusal(roster, [Objection(kind, text)], self.mine["rank"])


# -- folder --------------------------------------------------------------------------------------------------
# The exchange over a shared folder, for file://: rank 0 opens a session, the others answer that one.


class Folder:
    """The files beside the init file, seen from one rank.

    A file left by an earlier init never counts: a hello is bound to the session, the roster to every hello's nonce.
    """

    def __init__(self, place: Place, mine: Hello, secret: bytes, policy: str) -> None:
        """The folder is beside the init file."""
        self.place, self.mine, self.secret, self.policy = place, mine, secret, policy
        self.folder = place.path + ".torchskew"
        self.began = time.time()

    def exchange(self, until: Pace) -> Roster:
        """The roster, on every rank."""
        return (self._gather if self.mine["rank"] == 0 else self._answer)(until)

    def _waiting(self, until: Pace) -> Iterator[None]:
        """Polls until the deadline, or until it is proven that a stock rank wrote the init file."""
        pause, stock = 0.002, float("inf")
        while time.monotonic() < min(until.deadline, until.proven(stock)):
            yield
            if stock == float("inf") and self._stock():
                stock = time.monotonic()
            time.sleep(pause)
            pause = min(pause * 1.2, 0.1)

    def _stock(self) -> bool:
        """Whether a rank without the guard has begun: nobody with it touches the init file before the roster."""
        with contextlib.suppress(OSError):
            status = os.stat(self.place.path)
            return status.st_size > 0 and status.st_mtime > self.began - 60
        return False

    # Rank 0.

    def _gather(self, until: Pace) -> Roster:
        """Open a session, collect hellos, leave the roster for everyone that said hello, and clear the folder."""
        self._remove(*self._names())
        session, heard = os.urandom(NONCE), {}  # type: bytes, dict[str, Hello]
        door, hellos = None, [self.mine]
        self._put("session", session)
        for _ in self._waiting(until):
            self._hear(session, heard)
            door = door or self._open_door(until)
            if door:
                door.serve(0.0)
            came = {identity(hello): hello for hello in [*heard.values(), *(door.arrivals.hellos() if door else [])]}
            hellos = [self.mine, *came.values()]
            if len(hellos) >= self.place.world:
                break
        knocks = {"file": 1} if len(hellos) < self.place.world and self._stock() else {}
        roster = roster_of(hellos, self.policy, knocks)
        roster["where"] = str(self.place)
        self._put("table", frame(self.secret, session, pack_roster(dict(roster, heard=sorted(heard)))))
        if door:
            door.send(roster, admitted=False)
        self._clear(set(heard))
        return roster

    def _open_door(self, until: Pace) -> Host | None:
        """When ranks are late: where those that meet by address find this one, if the environment names an address."""
        if not self.place.port or time.monotonic() < until.proof:
            return None
        try:
            door = Host(bind(self.place.second), self.place, self.mine, self.secret, self.policy)
        except OSError:  # something else has that port
            return None
        door.listen()
        return door

    def _hear(self, session: bytes, heard: dict[str, Hello]) -> None:
        """Read the hellos that are new."""
        for name in self._names()[: 2 * self.place.world + 64]:
            if len(name) != 2 * NONCE or name in heard or not re.match("[0-9a-f]+$", name):
                continue
            with contextlib.suppress(ValueError):
                nonces = session + bytes.fromhex(name)
                body = unframe(self.secret, nonces, _bytes_of(self._at(name), MOST_HELLO), MOST_HELLO)
                hello = read_hello(body) if body else None
                if hello:
                    heard[name] = hello

    def _clear(self, names: set[str]) -> None:
        """Remove everything once each rank has read the roster, or after a second; the next session does the rest."""
        until = time.monotonic() + 1.0
        while time.monotonic() < until and names & set(self._names()):
            time.sleep(0.002)
        self._remove("session", "table")

    # The other ranks.

    def _answer(self, until: Pace) -> Roster:
        """Say hello to each session that opens, until a roster names this hello."""
        nonce, answered, asked = os.urandom(NONCE), b"", 0.0
        name = nonce.hex()
        for _ in self._waiting(until):
            session = _bytes_of(self._at("session"), NONCE)
            if len(session) == NONCE and session != answered:
                self._put(name, frame(self.secret, session + nonce, json.dumps(self.mine).encode()))
                answered = session
            roster = self._roster(answered, name)
            if roster is None and self.place.port and until.strays(asked):
                asked = time.monotonic()
                roster = self._elsewhere(until)
            if roster is not None:
                self._remove(name)
                return roster
        self._remove(name)
        alone = roster_of([self.mine], self.policy, {"file": 1} if self._stock() else {})
        alone["missing"], alone["where"] = "0", str(self.place)
        return alone

    def _roster(self, session: bytes, name: str) -> Roster | None:
        """The roster of this session, None while there is none that names this hello."""
        try:
            body = unframe(self.secret, session, _bytes_of(self._at("table"), MOST_ROSTER), MOST_ROSTER)
            fields: dict[str, Any] = dict(unpack_roster(body)) if body else {}
        except ValueError:
            return None
        heard = fields.pop("heard", ())
        return cast("Roster", fields) if name in heard else None

    def _elsewhere(self, until: Pace) -> Roster | None:
        """The roster of a rank 0 that meets by address and misses this rank, at the address in the environment."""
        for port in (self.place.port, self.place.second):
            with contextlib.suppress(OSError, ValueError):
                roster = peek(self.place.host, port, 0.5)
                method = [group["method"] for group in roster["groups"][:1]]
                awaited = bool(self.secret) or within(self.place.rank, roster["missing"])
                if awaited and method != ["file"] and roster["world"] == self.place.world:
                    joiner = Joiner(self.place, self.mine, self.secret)
                    attempt = Attempt(port, time.monotonic(), until, patience=0.1)
                    return joiner.attempt(attempt, joiner.nothing_seen())[0]
        return None

    # Files.

    def _at(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _names(self) -> list[str]:
        with contextlib.suppress(OSError):
            return os.listdir(self.folder)
        return []

    def _put(self, name: str, data: bytes) -> None:
        """A whole file or none, for readers on any machine; a reader of an earlier init may remove the folder."""
        part = self._at("%s.%d.part" % (name, os.getpid()))
        for last in (False, False, True):
            try:
                os.makedirs(self.folder, exist_ok=True)
                with open(part, "wb") as file:
                    file.write(data)
                os.replace(part, self._at(name))
            except OSError:
                if last:
                    raise
                continue
            return

    def _remove(self, *names: str) -> None:
        """Remove these files, and the folder when it is empty then."""
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(self._at(name))
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)


def _bytes_of(path: str, most: int) -> bytes:
    """The file's bytes, b"" when it isn't there."""
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


# -- exchange ------------------------------------------------------------------------------------------------
# The exchange: rank 0 collects hellos, everyone gets the same roster, and everyone decides from it.


def exchange(place: Place, mine: Hello, seconds: float) -> Roster:
    """The roster of all ranks, the same on each of them; ProtocolVersionError where they may not form a group.

    seconds: until a rank that didn't come counts as missing; pace() has the other ends.
    """
    until, secret, policy = pace(seconds), shared_secret(), chosen("TORCHSKEW_GUARD_POLICY", POLICIES)
    if place.method == "file":
        roster = Folder(place, mine, secret, policy).exchange(until)
    else:
        server = _serve(place, until) if place.rank == 0 else None
        if server is None:
            roster = Joiner(place, mine, secret).ask(until)
        else:
            host = Host(server, place, mine, secret, policy)
            roster = host.gather(until)
            host.send(roster, not decide(roster))
    objections = decide(roster)
    if objections:
        raise refusal(roster, objections, place.rank)
    return roster


def _serve(place: Place, until: Pace) -> socket.socket | None:
    """A socket bound to the first port, or the second where the first is taken; None where a guard has it already."""
    while time.monotonic() < until.deadline:
        for port in [place.second] if place.method == "agent" else [place.port, place.second]:
            with contextlib.suppress(OSError):
                return bind(port)
            if port == place.port and look("localhost", port, 0.5).what == "guard":
                return None
        time.sleep(0.05)
    text = "rank 0 can't listen for hellos: ports %d and %d are taken. Set TORCHSKEW_GUARD_PORT to a free one."
    raise OSError(errno.EADDRINUSE, text % (place.port, place.second))


# -- install -------------------------------------------------------------------------------------------------
# The guard in a job: check() before one init_process_group, or install() before all of them.

_IN_INIT = threading.local()


def check(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: Any = None,
    world_size: int = -1,
    rank: int = -1,
) -> Roster | None:
    """Exchange versions with every rank of the group that init_process_group with these arguments would form.

    timeout: seconds or a timedelta, torch's default where None. Returns the roster of all ranks, None where there is
    nothing to check. Raises ProtocolVersionError (only warns under TORCHSKEW_GUARD=warn).
    """
    mode = chosen("TORCHSKEW_GUARD", MODES)
    place = None if mode == "off" else locate(init_method, world_size, rank)
    if place is None or place.world < 2 or str(backend).lower() in ("mpi", "fake"):
        return None
    mine = own_hello(place, str(backend or "").lower())
    try:
        roster = exchange(place, mine, _seconds(timeout))
    except ProtocolVersionError as error:
        if mode != "warn":
            raise
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return None
    newer = sorted({group["torch"] for group in roster["groups"] if not group["known"]})
    if newer and len({group["torch"].split("+")[0] for group in roster["groups"]}) > 1:
        text = "torch %s is newer than %d.%d, the last release this guard knows: it may be incompatible with the others"
        warnings.warn(text % (", ".join(newer), *LAST_KNOWN), RuntimeWarning, stacklevel=2)
    return roster


def _seconds(timeout: Any) -> float:
    if timeout is None:
        from torch.distributed import distributed_c10d

        timeout = distributed_c10d.default_pg_timeout
    return float(timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout)


def install() -> None:
    """Cover every later init_process_group of this process; calling it again changes nothing.

    A reference to init_process_group taken before is covered too, by way of torch's own rendezvous, except that
    the backend is not compared then.
    """
    from torch.distributed import distributed_c10d as c10d

    if getattr(c10d.init_process_group, "torchskew_guard", False):
        return
    import torch.distributed

    guarded = _guarded(c10d.init_process_group)
    c10d.init_process_group = torch.distributed.init_process_group = guarded
    stock = c10d.rendezvous

    @functools.wraps(stock)
    def rendezvous(url: str, rank: int = -1, world_size: int = -1, **more: Any) -> Any:
        if not getattr(_IN_INIT, "checked", False):
            check(None, url, more.get("timeout"), world_size, rank)
        return stock(url, rank, world_size, **more)

    c10d.rendezvous = rendezvous


def _guarded(stock: Callable[..., Any]) -> Callable[..., Any]:
    """init_process_group with the check before it, where it meets by address or file."""
    signature = inspect.signature(stock)

    @functools.wraps(stock)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        if given.get("store") is None:
            check(**{name: given[name] for name in inspect.signature(check).parameters if name in given})
        _IN_INIT.checked = True
        try:
            return stock(*args, **kwargs)
        finally:
            _IN_INIT.checked = False

    init_process_group.torchskew_guard = True  # type: ignore[attr-defined]
    return init_process_group


# -- launch --------------------------------------------------------------------------------------------------


def main(args: list[str]) -> None:
    """Run a script (or -m module) with its arguments, guarded."""
    if not args or args[0] in ("-h", "--help") or args == ["-m"]:
        sys.exit((__doc__ or "").strip() + "\n\nusage: python torchskew_guard.py [-m] train.py [arguments]")
    if __name__ == "__main__":
        _name_this_file()
    install()
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = args, os.path.dirname(os.path.abspath(args[0]))
        runpy.run_path(args[0], run_name="__main__")


def _name_this_file() -> None:
    """Errors that are pickled name the module they come from, and the script takes the name __main__ over."""
    name = getattr(__spec__, "name", None) or os.path.splitext(os.path.basename(__file__))[0]
    sys.modules[name] = sys.modules["__main__"]
    ProtocolVersionError.__module__ = revive.__module__ = name


if __name__ == "__main__":
    main(sys.argv[1:])
