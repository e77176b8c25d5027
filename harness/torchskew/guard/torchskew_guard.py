"""Refuse a mixed process group with one clear error on every rank, before init_process_group can fail.

Longer than a module should be, on purpose: a training job vendors this one file as it is. Standard library and
torch only, Python 3.8 syntax, torch 1.7 to 2.15. Use: install() once, check() before one init_process_group, or
`python guard.py train.py`. Settings: TORCHSKEW_GUARD (off, warn, enforce), TORCHSKEW_GUARD_POLICY (era, minor, exact,
allow:2.6.0,2.13.0), TORCHSKEW_GUARD_PORT, TORCHSKEW_GUARD_SECRET. docs/guard.md has the wire format.
"""

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
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple
from urllib.parse import parse_qs, urlparse

# -- What each release speaks ------------------------------------------------------------------------------
# The one table of eras: (first release, what changed). A release belongs to the last row not above it.
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
# Which clients a store's server can talk to, by era: the only fact with a direction.
SERVES = {
    "1.7": ("1.7",),
    "1.9": ("1.9", "2.1"),
    "2.1": ("1.9", "2.1"),
    "2.2": ("2.2",),
    "2.5": ("2.2", "2.5"),
}
# Settings that change what goes over the wire where one rank has them, and the first release that reads each.
WIRE_SETTINGS = {
    "TORCH_GLOO_LAZY_INIT": (2, 8),
    "GLOO_ENABLE_RANK_AS_SEQUENCE_NUMBER": (2, 8),
    "TORCH_DISTRIBUTED_DEBUG": (1, 9),
    "TORCH_DIST_INIT_BARRIER": (2, 1),
}
# Debian's pre-release labels and the release that each was built from.
LABELS = {"1.7.0a0": (1, 7, 1), "1.13.0a0": (1, 13, 1)}


def parse(version: str) -> tuple[int, int, int] | None:
    """The release in a torch version string, such as (2, 6, 0) of "2.6.0+debian"; None where there is none."""
    public = version.split("+", 1)[0].strip()
    if public in LABELS:
        return LABELS[public]
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", public)
    if not found:
        return None
    return int(found.group(1)), int(found.group(2)), int(found.group(3) or 0)


def era(kind: str, version: str) -> str | None:
    """The era of a kind ("store", "gloo", "keys", "agent") that a release speaks, named by its first release."""
    release = parse(version)
    rows = [since for since, _ in TABLE[kind] if release and since <= release[:2]]
    return f"{rows[-1][0]}.{rows[-1][1]}" if rows else None


def known(version: str) -> bool:
    """Whether the table covers this release; a newer one is held to speak as the last known one does."""
    release = parse(version)
    return release is not None and release[:2] <= LAST_KNOWN


def setting(name: str, env: Mapping[str, str]) -> str:
    """A setting as the wire sees it: "" where it is off, whatever the spelling."""
    value = env.get(name, "").strip().upper()
    if name == "TORCH_DISTRIBUTED_DEBUG":
        return value if value == "DETAIL" else ""
    return "" if value in ("", "0", "N", "NO", "OFF", "FALSE") else "1"


# -- The error ---------------------------------------------------------------------------------------------
class ProtocolVersionError(RuntimeError):
    """The group can't or must not form; the text names every differing rank, the cause and the remedy.

    kind: "version", "settings", "group", "one-sided" or "missing". groups: one dict per build, with torch, host
    names and ranks ("0, 5-9"). eras: dicts with kind, since and who speaks what. remedy: one sentence.
    """

    def __init__(self, text: str, **data: Any) -> None:
        """Data becomes the attributes of the error."""
        super().__init__(text)
        self.kind: str = data.get("kind", "version")
        self.rank: int = data.get("rank", -1)
        self.groups: list[dict[str, Any]] = data.get("groups", [])
        self.eras: list[dict[str, str]] = data.get("eras", [])
        self.remedy: str = data.get("remedy", "")
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        """Text and data survive a queue or a pickle."""
        return _revive, (self.args[0], self.data)


def _revive(text: str, data: dict[str, Any]) -> ProtocolVersionError:
    return ProtocolVersionError(text, **data)


# -- What a rank says of itself ----------------------------------------------------------------------------
# Each field of a hello, its type and its longest value; anything else is no hello.
FIELDS: dict[str, tuple[type, int]] = {
    "rank": (int, 1 << 20), "world": (int, 1 << 20), "pid": (int, 1 << 31), "port": (int, 65535), "host": (str, 255),
    "torch": (str, 80), "git": (str, 80), "python": (str, 40), "backend": (str, 80), "method": (str, 10),
    "job": (str, 255), "order": (str, 10), "nccl": (str, 40), "store": (str, 8), "gloo": (str, 8), "keys": (str, 8),
    "agent": (str, 8), "serves": (str, 255), "settings": (str, 400), "known": (int, 1), "last": (str, 8),
}  # fmt: skip
PERSONAL = ("rank", "host", "pid")


def hello(where: Place, backend: str = "") -> dict[str, Any]:
    """What this process says: who it is, what it runs, and what that speaks by the table."""
    import torch

    version = str(torch.__version__)
    eras = {kind: era(kind, version) or "" for kind in TABLE}
    release = parse(version) or (0, 0, 0)
    wire = {name: setting(name, os.environ) for name, since in WIRE_SETTINGS.items() if since <= release[:2]}
    said: dict[str, Any] = {
        "rank": where.rank, "world": where.world, "pid": os.getpid(), "port": where.port,
        "host": socket.gethostname(), "torch": version, "git": str(getattr(torch.version, "git_version", "") or ""),
        "python": ".".join(map(str, sys.version_info[:3])), "backend": backend, "method": where.method,
        "job": os.environ.get("TORCHELASTIC_RUN_ID", ""), "order": sys.byteorder, "nccl": _nccl(backend),
        "serves": " ".join(SERVES.get(eras["store"], ())), "known": int(known(version)),
        "settings": " ".join("%s=%s" % pair for pair in sorted(wire.items()) if pair[1]),
        "last": "%d.%d" % LAST_KNOWN,
    }  # fmt: skip
    said.update(eras)
    return {name: value[: FIELDS[name][1]] if isinstance(value, str) else value for name, value in said.items()}


def _nccl(backend: str) -> str:
    """NCCL's version where the group uses it: it demands equality itself, but says so late."""
    if "nccl" not in backend:
        return ""
    try:
        import torch.cuda.nccl

        return str(torch.cuda.nccl.version())
    except (ImportError, AttributeError, RuntimeError):
        return ""


def read_hello(body: bytes) -> dict[str, Any] | None:
    """A hello out of bytes from anyone; None for everything that isn't exactly one."""
    try:
        said = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or set(said) != set(FIELDS):
        return None
    for name, (kind, most) in FIELDS.items():
        value = said[name]
        size = len(value) if isinstance(value, str) else value
        if type(value) is not kind or not 0 <= size <= most:
            return None
    return said


# -- The table every rank decides from ---------------------------------------------------------------------
MOST_GROUPS, MOST_HOSTS = 256, 8


def spans(numbers: Iterable[int]) -> str:
    """[0, 5, 6, 7] as "0, 5-7"."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else "%d-%d" % (a, b) for a, b in found)


def _within(number: int, text: str) -> bool:
    """Whether spans() showed this number."""
    parts = (part.partition("-") for part in text.split(", ") if part)
    return any(int(first) <= number <= int(last or first) for first, _, last in parts)


def tabulate(hellos: list[dict[str, Any]], policy: str, knocks: dict[str, int] | None = None) -> dict[str, Any]:
    """Every rank's hello as one small table: builds that say the same share a row. hellos[0] is rank 0's."""
    rows: dict[str, dict[str, Any]] = {}
    counts: dict[int, int] = {}
    for said in hellos:
        counts[said["rank"]] = counts.get(said["rank"], 0) + 1
        facts = {name: value for name, value in said.items() if name not in PERSONAL}
        row = rows.setdefault(json.dumps(facts, sort_keys=True), {"facts": facts, "ranks": [], "hosts": {}})
        row["ranks"].append(said["rank"])
        if len(row["hosts"]) < MOST_HOSTS or said["host"] in row["hosts"]:
            row["hosts"].setdefault(said["host"], []).append(said["rank"])
    groups = [
        dict(row["facts"], ranks=spans(row["ranks"]), hosts={h: spans(r) for h, r in row["hosts"].items()})
        for row in list(rows.values())[:MOST_GROUPS]
    ]
    world = hellos[0]["world"] if hellos else 0
    return {
        "world": world, "policy": policy, "groups": groups, "more": max(0, len(rows) - MOST_GROUPS),
        "missing": spans(rank for rank in range(world) if rank not in counts),
        "twice": spans(rank for rank, count in counts.items() if count > 1),
        "outside": spans(rank for rank in counts if rank >= world), "knocks": knocks or {}, "where": "",
    }  # fmt: skip


def decide(table: dict[str, Any]) -> list[dict[str, str]]:
    """What speaks against this group, the gravest first; [] admits it. Pure: every rank comes to the same.

    Each objection has kind and text; one about an era has era and since (a release) as well.
    """
    found = [{"kind": "group", "text": text} for text in _wrong_group(table)]
    found += _by_policy(table["groups"], table["policy"])
    settings = _differ(table["groups"], "settings", "no such setting")
    if settings:
        found.append({"kind": "settings", "text": "settings that change the wire differ: " + settings})
    if table["more"]:
        found.append({"kind": "group", "text": "%d more builds are in this group" % table["more"]})
    if table["missing"]:
        found.append({"kind": "one-sided" if table["knocks"] else "missing", "text": _absent(table)})
    return found


def _wrong_group(table: dict[str, Any]) -> Iterator[str]:
    """Two ranks with one number, ranks outside the world, and what must be the same on every rank but isn't."""
    if table["twice"]:
        yield "more than one process says it is %s" % _ranks(table["twice"])
    if table["outside"]:
        yield "%s of a world of %d" % (_ranks(table["outside"]), table["world"])
    for name, title in (("world", "world sizes"), ("backend", "backends"), ("method", "init methods"),
                        ("job", "jobs"), ("order", "byte orders"), ("nccl", "NCCL versions")):  # fmt: skip
        found = _differ([one for one in table["groups"] if one[name] != ""], name)
        if found:
            yield "different %s: %s" % (title, found)


def _differ(groups: list[dict[str, Any]], name: str, empty: str = "none") -> str:
    """Who says what of a field, "" where all say the same."""
    said: dict[Any, list[str]] = {}
    for one in groups:
        said.setdefault(one[name], []).append(one["ranks"])
    if len(said) < 2:
        return ""
    return "; ".join("%s %s" % (_ranks(", ".join(ranks)), value or empty) for value, ranks in said.items())


def _ranks(text: str) -> str:
    """As in `rank 0` or `ranks 1, 5-9`, a long list shortened."""
    parts = text.split(", ")
    shown = ", ".join(parts[:6]) + (" and %d more" % (len(parts) - 6) if len(parts) > 6 else "")
    return ("rank " if text.isdigit() else "ranks ") + shown


def _absent(table: dict[str, Any]) -> str:
    who = _ranks(table["missing"]) + " never said hello" + (" at %s" % table["where"] if table["where"] else "")
    if not table["knocks"]:
        return who
    came = ", ".join("%d %s" % (count, SEEN.get(name, name)) for name, count in table["knocks"].items())
    return "%s, but stock PyTorch without the guard came instead: %s" % (who, came)


# Stock clients and stores by what their bytes give away: 2.0 and 2.1 can't be told apart by them.
SEEN = {
    "1.7": "of 1.7 to 1.8",
    "1.9": "of 1.9 to 2.1",
    "2.1": "of 1.9 to 2.1",
    "2.2": "of 2.2 to 2.4",
    "2.5": "of 2.5 or later",
    "file": "on the init file",
}


def _by_policy(groups: list[dict[str, Any]], policy: str) -> list[dict[str, str]]:
    """Objections to the mix of releases, under rank 0's policy."""
    releases = {one["torch"].split("+")[0] for one in groups}
    if policy.startswith("allow:"):
        sets = [{name.strip() for name in listed.split(",")} for listed in policy[6:].split(";")]
        admitted = len(releases) == 1 or any(releases <= listed for listed in sets)
        text = "the allow-list has no entry with all of these releases"
        return [] if admitted else [{"kind": "version", "text": text}]
    found = _by_era(groups)
    minors = {(parse(name) or (0, 0, 0))[:2] for name in releases}
    builds = {one["git"] for one in groups if one["git"] not in ("", "Unknown")}
    if policy == "minor" and len(minors) > 1:
        found.append({"kind": "version", "text": "the policy asks for one minor release on every rank"})
    if policy == "exact" and (len(releases) > 1 or len(builds) > 1):
        found.append({"kind": "version", "text": "the policy asks for exactly one build on every rank"})
    return found


def _by_era(groups: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What the table knows to be incompatible; groups[0] has rank 0, which hosts the store."""
    host, found = groups[0], []
    gloo = any("gloo" in one["backend"] or not one["backend"] for one in groups)
    checked = {"store": host["method"] == "tcp", "gloo": gloo, "keys": True, "agent": host["method"] == "agent"}
    for kind, applies in checked.items():
        odd = [one for one in groups if one[kind] != host[kind]]
        if kind == "store":
            odd = [one for one in odd if one[kind] not in host["serves"].split()]
        if applies and odd:
            found.append(_era_objection(kind, [host, *odd]))
    return found


def _era_objection(kind: str, groups: list[dict[str, Any]]) -> dict[str, str]:
    """One line: which era differs, since which release, who speaks what."""
    said: dict[str, list[str]] = {}
    for one in groups:
        said.setdefault(one[kind], []).append(one["ranks"])
    meaning = {"%d.%d" % since: what for since, what in TABLE[kind]}
    since = max(said, key=lambda name: parse(name) or (0, 0, 0))
    who = "; ".join("%s %s (%s)" % (_ranks(", ".join(ranks)), name or "unknown", meaning.get(name, "not in the table"))
                    for name, ranks in said.items())  # fmt: skip
    return {"kind": "version", "era": kind, "since": since, "text": "%s era differs since %s: %s" % (kind, since, who)}


def _remedy(objections: list[dict[str, str]], groups: list[dict[str, Any]]) -> str:
    """What to do about the gravest objection."""
    kind = objections[0]["kind"]
    if kind == "version" and {one.get("era") for one in objections if one["kind"] == "version"} == {"store"}:
        best = [one for one in groups if all(other["store"] in one["serves"].split() for other in groups)]
        if best:
            newest = max(best, key=lambda one: parse(one["torch"]) or (0, 0, 0))["torch"]
            return "run rank 0 on the newest release (%s), or install the same release on every rank." % newest
    return {
        "version": "install the same PyTorch release on every rank.",
        "settings": "set these variables on every rank or on none.",
        "group": "start every rank once, with one world size, backend, init method and job.",
        "one-sided": "install the guard on every rank, or set TORCHSKEW_GUARD=off on this one.",
        "missing": "see why they did not start or wait elsewhere, or give init_process_group a longer timeout.",
    }[kind]


HEADS = {
    "version": "PyTorch releases that can't form one process group",
    "settings": "ranks with different settings",
    "group": "ranks that are no group",
    "one-sided": "ranks without the guard",
    "missing": "ranks are missing",
}


def refusal(table: dict[str, Any], objections: list[dict[str, str]], rank: int) -> ProtocolVersionError:
    """The error for one rank, out of the table that all ranks have."""
    groups = table["groups"]
    versions = ", ".join(dict.fromkeys(one["torch"] for one in groups[:16]))
    head = HEADS[objections[0]["kind"]]
    lines = ["%s: torch %s (told to rank %d before it touched the store)" % (head, versions, rank)]
    for one in groups[:16]:
        hosts = [name for name, _ in list(one["hosts"].items())[:3]]
        more = " and more" if len(one["hosts"]) > 3 else ""
        lines.append("  %s: torch %s on %s%s" % (_ranks(one["ranks"]), one["torch"], ", ".join(hosts), more))
    lines += ["  " + one["text"] for one in objections]
    remedy = _remedy(objections, groups)
    lines.append("Remedy: " + remedy)
    eras = [{"kind": one["era"], "since": one["since"], "text": one["text"]} for one in objections if "era" in one]
    return ProtocolVersionError("\n".join(lines), kind=objections[0]["kind"], rank=rank, groups=groups, eras=eras,
                                remedy=remedy, missing=table["missing"], knocks=table["knocks"])  # fmt: skip


# -- The wire ----------------------------------------------------------------------------------------------
# 0xff is an opcode of no TCPStore: an old server closes, a newer one ignores it, none is left waiting for more.
HELLO, PEEK, GREETING = b"\xfftorchskew-hello/1\n", b"\xfftorchskew-peek/1\n\n", b"torchskew-guard/1\n"
NONCE, MAC, MOST_HELLO, MOST_TABLE, GO = 16, 32, 4096, 1 << 20, b"G"
OPENING = len(HELLO) + NONCE


def _mac(secret: bytes, nonces: bytes, body: bytes) -> bytes:
    """Binds a message to this connection's two nonces; without a secret it only finds damage."""
    return hmac.new(secret or b"torchskew", nonces + body, "sha256").digest()


def _frame(secret: bytes, nonces: bytes, body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + _mac(secret, nonces, body) + body


def _unframe(secret: bytes, nonces: bytes, data: bytes, most: int) -> bytes | None:
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


def pack_table(table: dict[str, Any]) -> bytes:
    """The table as it travels."""
    return zlib.compress(json.dumps(table).encode())


TABLE_FIELDS = {"world": int, "policy": str, "groups": list, "more": int, "missing": str, "twice": str, "outside": str,
                "knocks": dict, "where": str}  # fmt: skip
GROUP_FIELDS = {name: kind for name, (kind, _) in FIELDS.items() if name not in PERSONAL}
GROUP_FIELDS.update({"ranks": str, "hosts": dict})


def unpack_table(body: bytes) -> dict[str, Any]:
    """The table out of a frame; ValueError when it is none."""
    try:
        table = json.loads(zlib.decompressobj().decompress(body, 8 * MOST_TABLE))
    except (zlib.error, RecursionError) as problem:
        raise ValueError(str(problem)) from problem
    if not _has(table, TABLE_FIELDS) or not all(_has(one, GROUP_FIELDS) for one in table["groups"]):
        raise ValueError("no table")
    return dict(table)


def _has(value: Any, fields: Mapping[str, type]) -> bool:
    """Whether this is an object with at least these fields, each of its type."""
    return isinstance(value, dict) and all(type(value.get(name)) is kind for name, kind in fields.items())


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


class Place(NamedTuple):
    """Where a group meets: method "tcp", "agent" or "file"; a folder's path for files."""

    method: str
    host: str
    port: int
    path: str
    rank: int
    world: int

    @property
    def second(self) -> int:
        """The port where rank 0 listens when something else has the first."""
        chosen = os.environ.get("TORCHSKEW_GUARD_PORT", "").strip()
        if chosen and not (chosen.isdigit() and 0 < int(chosen) < 65536):
            raise ValueError("TORCHSKEW_GUARD_PORT must be a port, got %r." % chosen)
        return int(chosen or (self.port + 1 if self.port < 65535 else 65534))

    def __str__(self) -> str:
        """As a person writes it."""
        return self.path if self.method == "file" else "%s:%d" % (self.host, self.port)


class Pace(NamedTuple):
    """Until when to wait, all monotonic: deadline for late ranks; proof, before which nothing counts as proof that the
    other side has no guard; stands, the seconds for which such a sign must have stood.
    """

    deadline: float
    proof: float
    stands: float

    def proven(self, seen: float) -> float:
        """When a sign seen at an instant counts."""
        return max(self.proof, seen + self.stands)

    def strays(self, asked: float) -> bool:
        """Whether to look elsewhere too: some are late, and the last look there, at strangers maybe, is a while ago."""
        return time.monotonic() >= max(self.proof, asked + 5 * self.stands)


def pace(seconds: float) -> Pace:
    """For a timeout in seconds: a sign is believed after 0.15 of it (10 s at most), or soon where it comes later."""
    now, share = time.monotonic(), min(0.15 * seconds, 10.0)
    return Pace(now + seconds, now + share, share / 5)


def _reset(conn: socket.socket) -> None:
    """Close at once and leave no TIME_WAIT on the port that the store needs next."""
    with contextlib.suppress(OSError):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def _keep(conn: socket.socket) -> None:
    """Small messages at once, and a peer whose machine vanished is noticed although it may be waited for for long."""
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


# -- Rank 0's side -----------------------------------------------------------------------------------------
class Peer:
    """A connection to the hello port: what came so far, and how far it got."""

    __slots__ = ("conn", "data", "nonces", "peeks", "said", "since")

    def __init__(self, conn: socket.socket) -> None:
        """Nothing is known of it yet."""
        self.conn, self.data, self.nonces, self.peeks = conn, b"", b"", False
        self.said: dict[str, Any] = {}
        self.since = time.monotonic()


class Host:
    """Collects every rank's hello on one port and tells all of them the same table.

    The port takes bytes from anyone: sizes, counts and times are bounded, and who says nothing sensible in time
    is reset. Stock clients are held unanswered, as a port that doesn't listen yet would keep them trying.
    """

    pending_limit, pending_seconds, held_limit = 512, 5.0, 256

    def __init__(self, server: socket.socket, place: Place, mine: dict[str, Any], secret: bytes, policy: str) -> None:
        """Server is bound, not yet listening; mine is this rank's own hello."""
        self.server, self.place, self.mine, self.secret, self.policy = server, place, mine, secret, policy
        self.selector = selectors.DefaultSelector()
        self.pending: dict[socket.socket, Peer] = {}
        self.arrived: dict[tuple[int, str, int], Peer] = {}
        self.numbers: dict[int, int] = {}
        self.held: list[socket.socket] = []
        self.knocks: dict[str, int] = {}
        self.knocked = self.wronged = float("inf")

    def gather(self, until: Pace) -> dict[str, Any]:
        """Wait for every rank until the deadline; less where the group is wrong or stock clients come instead."""
        self.listen()
        while not self._complete():
            now = time.monotonic()
            proven = until.deadline if self.secret else until.proven(self.knocked)
            limit = min(until.deadline, self.wronged + 1.0, proven)
            if now >= limit:
                break
            self.serve(min(limit - now, 0.25))
        return self.table()

    def listen(self) -> None:
        """From now on ranks find this one."""
        self.server.listen(4096)
        self.server.setblocking(False)
        self.selector.register(self.server, selectors.EVENT_READ)

    def serve(self, seconds: float) -> None:
        """Hear who has something to say, for these seconds at most."""
        for key, _ in self.selector.select(seconds):
            if key.fileobj is self.server:
                self._accept()
            elif key.data.conn.fileno() >= 0:
                self._read(key.data)
        self._expire()

    def said(self) -> list[dict[str, Any]]:
        """The hellos of all that arrived."""
        return [peer.said for peer in self.arrived.values()]

    def table(self) -> dict[str, Any]:
        """What is known so far."""
        return dict(tabulate([self.mine, *self.said()], self.policy, self.knocks), where=str(self.place))

    def _complete(self) -> bool:
        enough = len(self.arrived) + 1 >= self.place.world
        return enough and (
            self.wronged < float("inf") or all(self.numbers.get(rank) for rank in range(1, self.place.world))
        )

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
            _keep(conn)
            peer = self.pending[conn] = Peer(conn)
            self.selector.register(conn, selectors.EVENT_READ, peer)
            if len(self.pending) > max(self.pending_limit, self.place.world):
                self._evict()
            self._read(peer)

    def _evict(self) -> None:
        """Room for a newcomer: the oldest that said nothing, else the oldest."""
        silent = (peer for peer in self.pending.values() if not peer.nonces)
        self._drop(next(silent, next(iter(self.pending.values()))))

    def _expire(self) -> None:
        old = time.monotonic() - self.pending_seconds
        while self.pending and next(iter(self.pending.values())).since < old:
            self._drop(next(iter(self.pending.values())))

    def _drop(self, peer: Peer) -> None:
        self.pending.pop(peer.conn, None)
        if self.arrived.get(_name(peer.said)) is peer:
            del self.arrived[_name(peer.said)]
            self.numbers[peer.said["rank"]] -= 1
        if peer.conn.fileno() >= 0:
            self.selector.unregister(peer.conn)
            _reset(peer.conn)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.conn.recv(MOST_HELLO)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or peer.said:
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
        """The first bytes: a guard's opening is greeted, a stock client's are recognised, others are no use."""
        start = peer.data[: len(HELLO)]
        if start in (HELLO, PEEK) and len(peer.data) >= OPENING:
            ours = os.urandom(NONCE)
            peer.peeks, peer.nonces = start == PEEK, peer.data[len(HELLO) : OPENING] + ours
            peer.data = peer.data[OPENING:]
            peer.conn.send(GREETING + ours)
        elif not (HELLO.startswith(start) or PEEK.startswith(start)):
            found = greeting_era(peer.data)
            if found == "":
                raise ValueError("junk")
            if found:
                self._hold(peer, found)

    def _hold(self, peer: Peer, found: str) -> None:
        self.knocks[found] = self.knocks.get(found, 0) + 1
        self.knocked = min(self.knocked, time.monotonic())
        if len(self.held) >= self.held_limit:
            raise ValueError("too many")
        del self.pending[peer.conn]
        self.selector.unregister(peer.conn)
        self.held.append(peer.conn)

    def _hear(self, peer: Peer) -> None:
        if peer.peeks:
            table = tabulate([], self.policy) if self.secret else self.table()
            table["world"] = self.place.world
            peer.conn.send(_frame(b"", peer.nonces, pack_table(table)))
            raise ValueError("answered")
        body = _unframe(self.secret, peer.nonces, peer.data, MOST_HELLO)
        if body is None:
            return
        said = read_hello(body)
        if said is None or said["port"] != self.place.port:
            raise ValueError("no hello, or of another group")
        peer.said, peer.data = said, b""
        before = self.arrived.get(_name(said))
        if before:
            self._drop(before)
        del self.pending[peer.conn]
        self.arrived[_name(said)] = peer
        self.numbers[said["rank"]] = self.numbers.get(said["rank"], 0) + 1
        odd = said["world"] != self.place.world or not 0 < said["rank"] < said["world"]
        if odd or self.numbers[said["rank"]] > 1:
            self.wronged = min(self.wronged, time.monotonic())

    def tell(self, table: dict[str, Any], admitted: bool) -> None:
        """Free the port first, so that no store's client lands on it; then send everyone the table.

        Joiners that are admitted start once rank 0's store listens: a thread tells them, this rank goes on.
        """
        self.selector.close()
        _reset(self.server)
        for conn in [*self.pending, *self.held]:
            _reset(conn)
        body = pack_table(table)
        for peer in self.arrived.values():
            peer.conn.settimeout(1.0)
            with contextlib.suppress(OSError):
                peer.conn.sendall(_frame(self.secret, peer.nonces, body))
        if admitted and self.place.method == "tcp" and self.mine["store"] not in HOLDS_GIL:
            threading.Thread(target=self._usher, name="torchskew-guard", daemon=True).start()
        else:
            self._part()

    def _usher(self) -> None:
        until = time.monotonic() + 2.0
        while time.monotonic() < until and not _listens(self.place.port):
            time.sleep(0.001)
        self._part()

    def _part(self) -> None:
        """Let the joiners go and close first; who doesn't within a second is reset."""
        until = time.monotonic() + 1.0
        for peer in self.arrived.values():
            with contextlib.suppress(OSError):
                peer.conn.sendall(GO)
        for peer in self.arrived.values():
            with contextlib.suppress(OSError):
                peer.conn.settimeout(max(0.001, until - time.monotonic()))
                peer.conn.recv(1)
            _reset(peer.conn)


# Store eras whose constructor keeps Python from running while it waits, so no thread can say that it listens.
HOLDS_GIL = ("1.7", "1.9")


def _name(said: dict[str, Any]) -> tuple[int, str, int]:
    """Who a hello is from: a rank that connects again is the same, two processes with one number are not."""
    return said.get("rank", -1), said.get("host", ""), said.get("pid", -1)


def _listens(port: int) -> bool:
    """Whether somebody on this machine listens on a port, without connecting to it."""
    try:
        bind(port).close()
    except OSError:
        return True
    return False


# -- The other ranks' side ---------------------------------------------------------------------------------
BUSY = 5.0
HUNG_UP = "a guard hung up on this rank (%s); is TORCHSKEW_GUARD_SECRET the same on all?"


def _receive(conn: socket.socket, size: int, until: float) -> bytes:
    """Exactly size bytes until a monotonic instant; OSError otherwise."""
    data = b""
    while len(data) < size:
        conn.settimeout(max(0.001, until - time.monotonic()))
        more = conn.recv(size - len(data))
        if not more:
            raise ConnectionResetError("closed")
        data += more
    return data


def _open(
    host: str, port: int, first: bytes, within: float, more: Callable[[], float] | None = None
) -> tuple[socket.socket, bytes]:
    """A connection to a guard and its two nonces; OSError when no guard answers within these seconds.

    more: asked then for how many seconds a guard that is only busy gets, 0 where something else has the port.
    """
    ours = os.urandom(NONCE)
    conn = socket.create_connection((host, port), timeout=BUSY if more else within)
    try:
        _keep(conn)
        conn.sendall(first + ours)
        try:
            greeting = _receive(conn, len(GREETING) + NONCE, time.monotonic() + within)
        except socket.timeout:
            extra = more() if more else 0.0
            if not extra:
                raise
            greeting = _receive(conn, len(GREETING) + NONCE, time.monotonic() + extra)
        if not greeting.startswith(GREETING):
            raise ConnectionResetError("no guard")
    except OSError:
        conn.close()
        raise
    return conn, ours + greeting[len(GREETING) :]


def _receive_table(conn: socket.socket, secret: bytes, nonces: bytes, until: float) -> dict[str, Any]:
    """The table out of the next frame; ValueError or OSError when it doesn't come whole and true."""
    head = _receive(conn, 4 + MAC, until)
    (size,) = struct.unpack("!I", head[:4])
    if size > MOST_TABLE:
        raise ValueError("too long")
    body = _unframe(secret, nonces, head + _receive(conn, size, until), MOST_TABLE)
    return unpack_table(body or b"")


class Joiner:
    """Says hello to rank 0, waits for the table, and finds out what listens there when no guard does."""

    def __init__(self, place: Place, mine: dict[str, Any], secret: bytes) -> None:
        """Mine is this rank's hello."""
        self.place, self.secret, self.mine = place, secret, mine
        self.body = json.dumps(mine).encode()
        self.trouble, self.taken = "nobody listened", place.method == "agent"
        self.seen: dict[str, Any] = {}
        self.since, self.within, self.asked = float("inf"), 0.1, 0.0

    def ask(self, until: Pace) -> dict[str, Any]:
        """The table that rank 0 sends; ProtocolVersionError when no guard is there."""
        pause, self.within = 0.01, min(0.5, max(0.1, until.stands))
        while time.monotonic() < until.deadline:
            for port in self._ports(until):
                table = self.ask_once(port, until)
                if table is not None:
                    return table
            if time.monotonic() >= until.proven(self.since) and self._look():
                raise self._one_sided()
            next_step = min(until.deadline, until.proven(self.since))
            time.sleep(min(pause, max(0.0, next_step - time.monotonic())))
            pause = min(pause * 1.5, 0.25)
        raise self._missing()

    def _ports(self, until: Pace) -> Iterator[int]:
        """The first port; the second one when something that is no guard has the first, or rank 0 may meet by file."""
        if self.place.method != "agent":
            yield self.place.port
        if self.taken or until.strays(self.asked):
            self.asked = time.monotonic()
            yield self.place.second
        if self.place.method == "agent":
            yield self.place.port

    def ask_once(self, port: int, until: Pace) -> dict[str, Any] | None:
        """The table, None where no guard of this group has the port."""
        conn, began = None, time.monotonic()
        try:
            conn, nonces = _open(self.place.host, port, HELLO, self.within, lambda: self._more(port, began, until))
            conn.sendall(_frame(self.secret, nonces, self.body))
            table = _receive_table(conn, self.secret, nonces, until.deadline + 1.0)
            if not decide(table):
                self._await_store(conn, table["groups"][0])
        except (OSError, ValueError) as problem:
            self._failed(port, problem, began if conn is None else None)
            return None
        finally:
            if conn is not None:
                conn.close()
        return table

    def _failed(self, port: int, problem: Exception, began: float | None) -> None:
        """Remember why; began: when the attempt began that reached no guard."""
        absent = isinstance(problem, (ConnectionRefusedError, socket.gaierror))
        if began is None and (self.taken or port == self.place.port):
            self.trouble = HUNG_UP % problem
        elif port == self.place.port:
            refused = isinstance(problem, ConnectionRefusedError)
            self.trouble = "nobody listened" if refused else str(problem) if absent else "no guard answered"
        if absent:
            self.taken = self.taken and port != self.place.port
        elif began is not None:
            self._taken(port, began)

    def _more(self, port: int, began: float, until: Pace) -> float:
        """Seconds to wait for a guard that may only be busy; none where something else has the port."""
        return 0.0 if self._taken(port, began) else max(0.0, min(BUSY, until.deadline - time.monotonic()))

    def _taken(self, port: int, began: float) -> bool:
        """Whether something other than a guard has this port; on the first one a store is looked for."""
        if port != self.place.port:
            return self.place.method != "agent"
        self.taken = True
        if not self.seen and self._look():
            self.since = began
        return bool(self.seen) or self.place.method == "agent"

    def _await_store(self, conn: socket.socket, host: dict[str, Any]) -> None:
        """Until rank 0's store listens, a second at most: a client that comes too early pauses for up to a second."""
        until = time.monotonic() + 1.0
        with contextlib.suppress(OSError):
            _receive(conn, 1, until)
        conn.close()
        while host["method"] == "tcp" and host["store"] in HOLDS_GIL and time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection((self.place.host, self.place.port), timeout=1.0).close()
                return
            time.sleep(0.002)

    def _look(self) -> bool:
        """Whether a store has the port, although a guard should: an agent's store may, and proves nothing."""
        found = look(self.place.host, self.place.port, self.within) if self.place.method == "tcp" else {"what": "agent"}
        self.seen = found if found["what"] == "store" else {}
        if not self.seen:
            self.since = float("inf")
        return bool(self.seen)

    def _one_sided(self) -> ProtocolVersionError:
        text = (
            "no guard answers at %s, but a TCPStore %s (%s): rank 0 runs without the guard, or formed its group before"
        )
        return self._refusal("one-sided", text % (self.place, SEEN[self.seen["era"]], self.seen["backend"]))

    def _missing(self) -> ProtocolVersionError:
        return self._refusal("missing", "rank 0 never answered at %s: %s" % (self.place, self.trouble))

    def _refusal(self, kind: str, text: str) -> ProtocolVersionError:
        table = tabulate([self.mine], "era", {self.seen["era"]: 1} if self.seen else None)
        table["missing"] = "0"
        return refusal(table, [{"kind": kind, "text": text}], self.mine["rank"])


# -- What listens there ------------------------------------------------------------------------------------
def look(host: str, port: int, patience: float = 0.5) -> dict[str, Any]:
    """What listens on a port: {"what": "guard" (with table), "store" (with era, backend), "other" or "nothing"}.

    Sends whole messages only: half a message freezes every legacy store for all its clients.
    """
    try:
        conn, nonces = _open(host, port, PEEK, patience)
        with contextlib.closing(conn):
            return {"what": "guard", "table": _receive_table(conn, b"", nonces, time.monotonic() + patience)}
    except socket.timeout:
        backend = "libuv"
    except (ConnectionRefusedError, socket.gaierror):
        return {"what": "nothing"}
    except (OSError, ValueError):
        backend = "legacy"
    try:
        found = _store_since_2_2(host, port, patience) or _store_before(host, port, patience)
    except OSError:
        return {"what": "nothing"}
    return {"what": "store", "era": found, "backend": backend} if found else {"what": "other"}


def _say(conn: socket.socket, data: bytes, size: int, patience: float) -> bytes:
    """The answer, b"" when the server closed or kept silent."""
    try:
        conn.sendall(data)
        return _receive(conn, size, time.monotonic() + patience)
    except OSError:
        return b""


def _counts(data: bytes, many: int) -> bool:
    """Whether these are numbers of keys."""
    return len(data) == 8 * many and all(0 <= one < 1 << 40 for one in struct.unpack("<%dq" % many, data))


def _store_since_2_2(host: str, port: int, patience: float) -> str:
    """VALIDATE and four times the number of keys; an older server reads one absurd length and closes."""
    with contextlib.closing(socket.create_connection((host, port), timeout=patience)) as conn:
        if not _counts(_say(conn, b"\x00\xce\xf7\x85\x3c" + b"\x07" * 4, 32, patience), 4):
            return ""
        nonce = b"\x7f\x7f" + os.urandom(2)
        return "2.5" if _say(conn, b"\x0d" + nonce, 4, patience) == nonce else "2.2"


def _store_before(host: str, port: int, patience: float) -> str:
    """Two messages over no keys, whole and without effect in every old store: CHECK (WAIT up to 1.8), then WAIT.

    Up to 1.8 the second is the number of keys and a rest, so that store waits until this connection closes, at once.
    """
    with contextlib.closing(socket.create_connection((host, port), timeout=patience)) as conn:
        if _say(conn, b"\x04" + bytes(8), 1, patience) != b"\x00":
            return ""
        first = _say(conn, b"\x05" + bytes(8), 1, patience)
        conn.settimeout(0.01)
        with contextlib.suppress(OSError):
            first += conn.recv(7)
        return {1: "1.9", 8: "1.7"}.get(len(first), "")


# -- Over a shared folder ----------------------------------------------------------------------------------
def _bytes_of(path: str, most: int) -> bytes:
    """The file's bytes, b"" when it isn't there."""
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


class Folder:
    """The exchange for file://: rank 0 opens a session that nobody has seen before, the others answer that one.

    A file left by an earlier init never counts: a hello is bound to the session, the table to every hello's nonce.
    """

    def __init__(self, place: Place, mine: dict[str, Any], secret: bytes, policy: str) -> None:
        """The folder stands beside the init file."""
        self.place, self.mine, self.secret, self.policy = place, mine, secret, policy
        self.folder = place.path + ".torchskew"
        self.began, self.asked = time.time(), 0.0

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

    def exchange(self, until: Pace) -> dict[str, Any]:
        """The table, on every rank."""
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
        """Whether a rank without the guard has begun: nobody with it touches the init file before the table."""
        with contextlib.suppress(OSError):
            found = os.stat(self.place.path)
            return found.st_size > 0 and found.st_mtime > self.began - 60
        return False

    def _gather(self, until: Pace) -> dict[str, Any]:
        self._leave(*self._names())
        session, heard = os.urandom(NONCE), {}  # type: bytes, dict[str, dict[str, Any]]
        door, hellos = None, [self.mine]
        self._put("session", session)
        for _ in self._waiting(until):
            self._hear(session, heard)
            door = door or self._open_door(until)
            if door:
                door.serve(0.0)
            came = {_name(said): said for said in [*heard.values(), *(door.said() if door else [])]}
            hellos = [self.mine, *came.values()]
            if len(hellos) >= self.place.world:
                break
        knocks = {"file": 1} if len(hellos) < self.place.world and self._stock() else {}
        table = dict(tabulate(hellos, self.policy, knocks), where=str(self.place), heard=sorted(heard))
        self._put("table", _frame(self.secret, session, pack_table(table)))
        if door:
            door.tell(table, admitted=False)
        self._clear(set(heard))
        return table

    def _open_door(self, until: Pace) -> Host | None:
        """When ranks are late: where those that meet by address find this one, if the environment names an address."""
        if not self.place.port or time.monotonic() < until.proof:
            return None
        try:
            door = Host(bind(self.place.second), self.place, self.mine, self.secret, self.policy)
        except OSError:  # somebody has that port
            return None
        door.listen()
        return door

    def _elsewhere(self, until: Pace) -> dict[str, Any] | None:
        """The table of a rank 0 that meets by address and misses this rank, if the environment names an address."""
        if not self.place.port or not until.strays(self.asked):
            return None
        self.asked = time.monotonic()
        for port in (self.place.port, self.place.second):
            with contextlib.suppress(OSError, ValueError):
                conn, nonces = _open(self.place.host, port, PEEK, 0.5)
                with contextlib.closing(conn):
                    found = _receive_table(conn, b"", nonces, time.monotonic() + 0.5)
                method = [one["method"] for one in found["groups"][:1]]
                awaited = bool(self.secret) or _within(self.place.rank, found["missing"])
                if awaited and method != ["file"] and found["world"] == self.place.world:
                    return Joiner(self.place, self.mine, self.secret).ask_once(port, until)
        return None

    def _hear(self, session: bytes, heard: dict[str, dict[str, Any]]) -> None:
        for name in self._names()[: 2 * self.place.world + 64]:
            if len(name) != 2 * NONCE or name in heard or not re.match("[0-9a-f]+$", name):
                continue
            with contextlib.suppress(ValueError):
                nonces = session + bytes.fromhex(name)
                body = _unframe(self.secret, nonces, _bytes_of(self._at(name), MOST_HELLO), MOST_HELLO)
                said = read_hello(body) if body else None
                if said:
                    heard[name] = said

    def _clear(self, names: set[str]) -> None:
        """Remove everything once each rank has read the table, or after a second; the next session does the rest."""
        until = time.monotonic() + 1.0
        while time.monotonic() < until and names & set(self._names()):
            time.sleep(0.002)
        self._leave("session", "table")

    def _leave(self, *names: str) -> None:
        """Remove these files, and the folder when it is empty then."""
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(self._at(name))
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)

    def _answer(self, until: Pace) -> dict[str, Any]:
        nonce, answered = os.urandom(NONCE), b""
        name = nonce.hex()
        for _ in self._waiting(until):
            session = _bytes_of(self._at("session"), NONCE)
            if len(session) == NONCE and session != answered:
                self._put(name, _frame(self.secret, session + nonce, json.dumps(self.mine).encode()))
                answered = session
            table = self._table(answered, name) or self._elsewhere(until)
            if table is not None:
                self._leave(name)
                return table
        self._leave(name)
        table = tabulate([self.mine], self.policy, {"file": 1} if self._stock() else {})
        return dict(table, missing="0", where=str(self.place))

    def _table(self, session: bytes, name: str) -> dict[str, Any] | None:
        try:
            body = _unframe(self.secret, session, _bytes_of(self._at("table"), MOST_TABLE), MOST_TABLE)
            table = unpack_table(body) if body else {}
        except ValueError:
            return None
        return table if name in table.get("heard", ()) else None


# -- Use ---------------------------------------------------------------------------------------------------
_AT_WORK = threading.local()


def locate(init_method: str | None = None, world_size: int = -1, rank: int = -1) -> Place | None:
    """Where this rank's group meets; None where torch will complain itself, or the guard can't know."""
    parts = urlparse(init_method or "env://")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    env = os.environ if parts.scheme == "env" else {}
    try:
        rank = int(query.get("rank", rank if rank >= 0 else env.get("RANK", -1)))
        world = int(query.get("world_size", world_size if world_size >= 0 else env.get("WORLD_SIZE", -1)))
        host = parts.hostname if parts.scheme == "tcp" else env.get("MASTER_ADDR")
        port = int((parts.port if parts.scheme == "tcp" else env.get("MASTER_PORT")) or 0)
    except ValueError:
        return None
    if rank < 0 or world < 1:
        return None
    if parts.scheme == "file" and parts.path:
        beside = re.match(r"\d{1,4}$|[1-5]\d{4}$", os.environ.get("MASTER_PORT", ""))
        address = os.environ.get("MASTER_ADDR", "") if beside else ""
        return Place("file", address, int(beside.group()) if beside and address else 0, parts.path, rank, world)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Place("agent" if agent else "tcp", host, port, "", rank, world) if host and 0 < port < 65536 else None


def check(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: Any = None,
    world_size: int = -1,
    rank: int = -1,
) -> dict[str, Any] | None:
    """Exchange versions with every rank of the group that init_process_group with these arguments would form.

    timeout: seconds or a timedelta, torch's default where None. Returns the table of ranks, None where there is
    nothing to check. Raises ProtocolVersionError (only warns under TORCHSKEW_GUARD=warn).
    """
    mode = _chosen("TORCHSKEW_GUARD", ("enforce", "warn", "off"))
    place = None if mode == "off" else locate(init_method, world_size, rank)
    if place is None or place.world < 2 or str(backend).lower() in ("mpi", "fake"):
        return None
    mine = hello(place, str(backend or "").lower())
    try:
        table = exchange(place, mine, _seconds(timeout))
    except ProtocolVersionError as error:
        if mode != "warn":
            raise
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return None
    newer = sorted({one["torch"] for one in table["groups"] if not one["known"]})
    if newer and len({one["torch"].split("+")[0] for one in table["groups"]}) > 1:
        text = "torch %s is newer than %d.%d, the last release this guard knows: it may not speak to the others"
        warnings.warn(text % (", ".join(newer), *LAST_KNOWN), RuntimeWarning, stacklevel=2)
    return table


def _chosen(name: str, choices: tuple[str, ...]) -> str:
    """A setting's value; the first choice where it isn't set."""
    value = os.environ.get(name, "").strip().lower() or choices[0]
    if value not in choices and not (value.startswith("allow:") and "allow:" in choices):
        raise ValueError("%s must be one of %s, got %r." % (name, ", ".join(choices), value))
    return value


def _seconds(timeout: Any) -> float:
    if timeout is None:
        from torch.distributed import distributed_c10d

        timeout = distributed_c10d.default_pg_timeout
    return float(timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout)


def exchange(place: Place, mine: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The table of all ranks, the same on each of them; ProtocolVersionError where they may not form a group.

    seconds: until a rank that didn't come counts as missing; see pace() for other ends.
    """
    until = pace(seconds)
    secret = os.environ.get("TORCHSKEW_GUARD_SECRET", "").encode()
    policy = _chosen("TORCHSKEW_GUARD_POLICY", ("era", "minor", "exact", "allow:"))
    if place.method == "file":
        table = Folder(place, mine, secret, policy).exchange(until)
    else:
        server = _serve(place, until) if place.rank == 0 else None
        if server is None:
            table = Joiner(place, mine, secret).ask(until)
        else:
            host = Host(server, place, mine, secret, policy)
            table = host.gather(until)
            host.tell(table, not decide(table))
    objections = decide(table)
    if objections:
        raise refusal(table, objections, place.rank)
    return table


def _serve(place: Place, until: Pace) -> socket.socket | None:
    """A socket bound to the first port, or the second where the first is taken; None where a guard has it already."""
    while time.monotonic() < until.deadline:
        for port in [place.second] if place.method == "agent" else [place.port, place.second]:
            with contextlib.suppress(OSError):
                return bind(port)
            if port == place.port and look("localhost", port, 0.5)["what"] == "guard":
                return None
        time.sleep(0.05)
    text = "rank 0 can't listen for hellos: ports %d and %d are taken. Set TORCHSKEW_GUARD_PORT to a free one."
    raise OSError(errno.EADDRINUSE, text % (place.port, place.second))


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
        if not getattr(_AT_WORK, "checked", False):
            check(None, url, more.get("timeout"), world_size, rank)
        return stock(url, rank, world_size, **more)

    c10d.rendezvous = rendezvous


def _guarded(stock: Callable[..., Any]) -> Callable[..., Any]:
    """init_process_group with the check before it, where it meets by address or file."""
    names = inspect.signature(stock)

    @functools.wraps(stock)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        given = names.bind(*args, **kwargs).arguments
        if given.get("store") is None:
            wanted = {name: given[name] for name in inspect.signature(check).parameters if name in given}
            check(**wanted)
        _AT_WORK.checked = True
        try:
            return stock(*args, **kwargs)
        finally:
            _AT_WORK.checked = False

    init_process_group.torchskew_guard = True  # type: ignore[attr-defined]
    return init_process_group


def main(args: list[str]) -> None:
    """Run a script (or -m module) with its arguments, guarded."""
    if not args or args[0] in ("-h", "--help") or args == ["-m"]:
        sys.exit((__doc__ or "").strip() + "\n\nusage: python guard.py [-m] train.py [arguments]")
    name = getattr(__spec__, "name", None) or os.path.splitext(os.path.basename(__file__))[0]
    sys.modules[name] = sys.modules["__main__"]
    ProtocolVersionError.__module__ = _revive.__module__ = name
    install()
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = args, os.path.dirname(os.path.abspath(args[0]))
        runpy.run_path(args[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
