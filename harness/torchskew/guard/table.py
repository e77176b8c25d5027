"""What each PyTorch release speaks: the one table of eras, and how to read a release out of a version string."""

from __future__ import annotations

import re
from typing import Mapping

# kind -> (first release, what changed in it). A release belongs to the last row that is not above it.
# Sources: store opcodes and greetings from the headers and first bytes of released builds 1.7.1 to 2.15.0;
# gloo from its commits 31b1f02 (one listener) and 6d8b511 (one record per rank); keys from
# torch/distributed/distributed_c10d.py of each release; agent from the keys that real clients wrote; static and
# c10d, how torchrun's agents meet, from torch/distributed/elastic of 1.13.1 and 2.1 to 2.14.
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
    "static": (
        ((1, 7), "every agent reads every role"),
        ((2, 4), "agent 0 assigns the ranks"),
    ),
    "c10d": (
        ((1, 7), "every agent reads every role"),
        ((2, 4), "agent 0 assigns the ranks"),
        ((2, 6), "the times in the state have a zone"),
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
# What changed above the store and stays broken at a bridge (docs/bridge.md): first release of the newer side -> what.
ABOVE = {
    (2, 0): "TORCH_DISTRIBUTED_DEBUG=DETAIL",
    (2, 1): "TORCH_DISTRIBUTED_DEBUG=DETAIL and TORCH_DIST_INIT_BARRIER",
    (2, 2): "DeviceMesh and DTensor",
    (2, 3): "FullyShardedDataParallel and reduce_scatter_tensor on gloo",
    (2, 4): "DTensor, and DDP with unused parameters",
    (2, 5): "objects of DTensor's classes in object collectives",
    (2, 6): "new_group with use_local_synchronization",
    (2, 10): "meshes with two dimensions",
    (2, 14): "groups made after one with use_local_synchronization",
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
# Compiled with the module, not within a rank's init, of which each pattern would take a millisecond.
_RELEASE = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")
_BETWEEN = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.0)?(?:a|b|\.?dev)\d*$")


def parse(version: str) -> tuple[int, int, int] | None:
    """The release in a torch version string, such as (2, 6, 0) for "2.6.0+debian"; None where there is none."""
    public = version.split("+", 1)[0].strip()
    if public in LABELS:
        return LABELS[public]
    match = _RELEASE.match(public)
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


def before(version: str) -> str:
    """The minor release before a build between two, such as "2.9.0" for 2.10.0a0+gitabc; "" for a release.

    The label of such a build is the release that follows it, a release candidate counts as that release.
    """
    public = version.split("+", 1)[0].strip()
    match = None if public in LABELS else _BETWEEN.match(public)
    if not match:
        return ""
    major, minor = int(match.group(1)), int(match.group(2))
    return "1.13.0" if (major, minor) == (2, 0) else "%d.%d.0" % (major, minor - 1) if minor else ""


def guessed(version: str) -> list[str]:
    """The kinds of era that begin with the release in the label of a build between two: it may still speak the last."""
    earlier = before(version)
    return [kind for kind in TABLE if earlier and era(kind, earlier) != era(kind, version)]


def setting(name: str, env: Mapping[str, str]) -> str:
    """A setting's effect on the wire: "" where it is off, however that is spelled."""
    value = env.get(name, "").strip().upper()
    if name == "TORCH_DISTRIBUTED_DEBUG":
        return value if value == "DETAIL" else ""
    return "" if value in ("", "0", "N", "NO", "OFF", "FALSE") else "1"
