"""Refuse a mixed process group with one clear error on every rank, before init_process_group can fail.

One file that a training job copies: standard library and torch only, Python 3.8 or later, torch 1.7 to 2.15. Call
install() once (uninstall() undoes it), call check() before one init_process_group, or run
`python torchskew_guard.py train.py`, which also covers every Python that the script forks, spawns or starts. Settings:
TORCHSKEW_GUARD (enforce, warn, off, strict, bridge), TORCHSKEW_GUARD_POLICY (era, minor, exact,
allow:2.6.0,2.13.0), TORCHSKEW_GUARD_PORT, TORCHSKEW_GUARD_SECRET. docs/guard.md describes them and the wire format.
"""

# Generated from torchskew 0.2.0, do not edit: `make guard-file` writes it from torchskew.guard, a module a part.
from __future__ import annotations

import atexit
import binascii
import contextlib
import datetime as dt
import errno
import functools
import hashlib
import hmac
import importlib.util
import inspect
import itertools
import json
import os
import re
import runpy
import select
import selectors
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from typing import Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, TypedDict, cast
from urllib.parse import ParseResult, parse_qs, urlparse

# -- table ---------------------------------------------------------------------------------------------------
# What each PyTorch release speaks: the one table of eras, and how to read a release out of a version string.

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


# -- errors --------------------------------------------------------------------------------------------------
# The one error that a job gets from the guard, with its evidence as data, and what the guard itself could not do.


class ProtocolVersionError(RuntimeError):
    """The group can't or must not form; the text names every differing rank, the cause and the remedy.

    kind: "version", "settings", "group", "one-sided", "missing" or "unverified". groups: one dict per build, with
    torch, host names and ranks ("0, 5-9"). eras: dicts with kind, since and who speaks what. remedy: one sentence.
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


class Unverified(Exception):  # noqa: N818 - no error of the job: the stock init goes on
    """The guard could not compare this group; the text is one line that says why. Jobs never see this class."""


def revive(text: str, data: dict[str, Any]) -> ProtocolVersionError:
    """The error out of a pickle."""
    return ProtocolVersionError(text, **data)


# -- settings ------------------------------------------------------------------------------------------------
# The guard's own settings, read from the environment; a misspelt one is an error, never a default.

MODES = ("enforce", "warn", "off", "strict", "bridge")
POLICIES = ("era", "minor", "exact", "allow:")
# Below the ports that kernels give to outgoing connections, and below those that torchskew leases for its cells.
SPARE_PORTS, LOWEST_SPARE, HIGHEST_SPARE = 6, 13000, 19999


class SettingError(ValueError):
    """A setting of the guard that nobody can follow."""


def chosen(name: str, choices: tuple[str, ...]) -> str:
    """A setting's value; the first choice where it isn't set."""
    value = os.environ.get(name, "").strip().lower() or choices[0]
    if value not in choices and not (value.startswith("allow:") and "allow:" in choices):
        raise SettingError("%s must be one of %s, got %r." % (name, ", ".join(choices), value))
    return value


def spare_ports(first: int) -> tuple[int, ...]:
    """Where rank 0 listens when something else has the first port, in this order: the same list on every rank.

    The list follows from the first port and the job, so two jobs on one host rarely share a port. The neighbours of
    the first port are not in it: they are the first ports of other jobs.
    """
    value = os.environ.get("TORCHSKEW_GUARD_PORT", "").strip()
    if value and not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
        raise SettingError("TORCHSKEW_GUARD_PORT must be a port, got %r." % value)
    seed = "%d %s" % (first, os.environ.get("TORCHELASTIC_RUN_ID", ""))
    digest = hashlib.sha256(seed.encode("utf-8", "surrogateescape")).digest()
    numbers = [int.from_bytes(digest[2 * place : 2 * place + 2], "big") for place in range(SPARE_PORTS)]
    ports = [int(value)] if value else []
    ports += [LOWEST_SPARE + number % (HIGHEST_SPARE - LOWEST_SPARE + 1) for number in numbers]
    return tuple(port for port in dict.fromkeys(ports) if port != first)


def launcher() -> str:
    """The release of the agent that started this worker, "" where that agent is not guarded."""
    release, _, job = os.environ.get("TORCHSKEW_GUARD_AGENT", "").partition(" ")
    return release if job == os.environ.get("TORCHELASTIC_RUN_ID", "") else ""


def announce(release: str, job: str) -> None:
    """Tell the workers that this process, an agent, is about to start, what it runs."""
    os.environ["TORCHSKEW_GUARD_AGENT"] = "%s %s" % (release, job)


def shared_secret() -> bytes:
    """What all ranks of this job share and strangers don't know; b"" where none is set."""
    return os.environ.get("TORCHSKEW_GUARD_SECRET", "").encode()


# -- notice --------------------------------------------------------------------------------------------------
# What the guard says without raising: one line on standard error, or a warning that points at the user's line.

# Frames of the guard, of torch and of the standard library's wrappers are not the user's line.
_OWN = (os.path.dirname(os.path.abspath(__file__)), os.sep + os.path.join("torch", "distributed") + os.sep)
_WRAPPERS = ("functools.py", "contextlib.py", "runpy.py", "torchskew_guard_start.py")


def say(rank: int, text: str, noun: str = "rank") -> None:
    """One line on standard error, in one write: the ranks of a host share it. Nothing where that is closed.

    rank: -1 where there is none.
    """
    who = ", %s %d" % (noun, rank) if rank >= 0 else ""
    line = "torchskew guard%s: %s\n" % (who, " ".join(text.split()))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line)
        sys.stderr.flush()


def warn(rank: int, text: str) -> None:
    """A warning at the line that called for the init; where warnings are errors, it is only said."""
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=_depth())
    except RuntimeWarning:
        say(rank, text)


def _depth() -> int:
    """How far up the user's line is, for warn()'s caller."""
    depth, frame = 1, sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads every source file
    while frame.f_back is not None and _not_the_users(frame.f_code.co_filename):
        depth, frame = depth + 1, frame.f_back
    return depth


def _not_the_users(path: str) -> bool:
    """Whether a frame of this file is not the user's."""
    if os.path.basename(path) in _WRAPPERS:
        return True
    own = path == __file__ if os.path.basename(__file__) != "notice.py" else os.path.dirname(path) == _OWN[0]
    return own or _OWN[1] in path


# -- place ---------------------------------------------------------------------------------------------------
# Where a group meets, read from the arguments and the environment exactly as torch reads them.

# How torchrun's agents meet; and all methods where number 0 makes a store on the first port right after the exchange.
AGENTS = ("static", "c10d")
DIRECT = ("tcp", *AGENTS)
_PORT = re.compile(r"\d{1,4}$|[1-5]\d{4}$")


class Place(NamedTuple):
    """Where a group meets, seen from one rank: method is "tcp", "agent", "file", "store" or one of AGENTS.

    Only "file" has a path; "store", one that the init is given, has neither host nor port. Under "c10d" an agent gets
    its number from number 0 when it arrives.
    """

    method: str
    host: str
    port: int
    path: str
    rank: int
    world: int

    @property
    def spares(self) -> tuple[int, ...]:
        """Where rank 0 listens, in this order, when something else has the first port.

        Under c10d that is the store of agents that met before.
        """
        return () if self.method == "c10d" else spare_ports(self.port)

    def __str__(self) -> str:
        """The address or path as people write it."""
        if self.method == "store":
            return "the given store"
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
    port = _PORT.match(os.environ.get("MASTER_PORT", ""))
    host = os.environ.get("MASTER_ADDR", "") if port else ""
    return host, int(port.group()) if port and host else 0


# -- greeting ------------------------------------------------------------------------------------------------
# The store era of a stock client, by the bytes with which it opens a connection.


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


# -- build ---------------------------------------------------------------------------------------------------
# What a build between two releases shows of itself: its label doesn't say which side of a border its commit is on.

# kind and first release of an era -> a file below torch/distributed, a text in it, whether the new era has that text.
# Read in the released wheels of 1.13.1 to 2.15.0.
CLUES = {
    ("keys", (2, 0)): ("distributed_c10d.py", "{device}/", True),
    ("keys", (2, 1)): ("distributed_c10d.py", "TORCH_DIST_INIT_BARRIER", True),
    ("agent", (2, 6)): ("rendezvous.py", "/worker/attempt_", False),
    ("c10d", (2, 6)): (os.path.join("elastic", "rendezvous", "dynamic_rendezvous.py"), "timezone", True),
}
# A store that hangs up, in a process of its own: up to 2.1 a client holds the interpreter's lock while it waits.
_LISTENER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
server.settimeout(5)
data, conn = b"", server.accept()[0]
server.close()
conn.settimeout(2)
try:
    while len(data) < (6 if data[:1] == b"\\0" else 14):
        more = conn.recv(100)
        if not more:
            break
        data += more
finally:
    print(data.hex())
"""


def eras_of(version: str) -> tuple[dict[str, str], str]:
    """Each kind's era in this process's build, and the kinds (with spaces) whose era is no more than the label says."""
    eras, guesses = {kind: era(kind, version) or "" for kind in TABLE}, []
    for kind in guessed(version):
        seen = _greets(version) if kind == "store" else _reads(kind, version)
        eras[kind] = seen or eras[kind]
        if not seen:
            guesses.append(kind)
    return eras, " ".join(guesses)


def _reads(kind: str, version: str) -> str:
    """The era by the text of torch's own files; "" where they don't show it."""
    import torch

    clue = CLUES.get((kind, (parse(version) or (0, 0, 0))[:2]))
    if clue is None:
        return ""
    path = os.path.join(os.path.dirname(torch.__file__ or ""), "distributed", clue[0])
    with contextlib.suppress(OSError, UnicodeError), open(path, encoding="utf-8") as file:
        newer = (clue[1] in file.read()) == clue[2]
        return era(kind, version if newer else before(version)) or ""
    return ""


def _greets(version: str) -> str:
    """The store's era by how this build's client greets; "" where that does not show it, or there is no time to see."""
    seen = _greeting() if chosen("TORCHSKEW_GUARD", MODES) != "warn" else ""
    label, earlier = era("store", version) or "", era("store", before(version)) or ""
    if seen in (label, earlier):
        return seen
    return earlier if (seen, earlier) == ("1.9", "2.1") else ""


@functools.lru_cache(maxsize=None)
def _greeting() -> str:
    """The era of the first bytes that a client of this build sends; "" where none could be seen."""
    from torch.distributed import TCPStore

    with contextlib.suppress(OSError, ValueError, RuntimeError, subprocess.SubprocessError):
        command = [sys.executable, "-I", "-S", "-c", _LISTENER]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as listener:
            assert listener.stdout is not None
            port = int(listener.stdout.readline())
            with contextlib.suppress(RuntimeError):  # the listener hangs up
                TCPStore("127.0.0.1", port, 2, False, dt.timedelta(seconds=0.3))
            return greeting_era(bytes.fromhex(listener.communicate(timeout=10.0)[0].strip())) or ""
    return ""


# -- hello ---------------------------------------------------------------------------------------------------
# A hello: what one rank reports about itself, and how a hello from a stranger is read.

# Each field of a hello, its type and its longest value. A hello may have more: what a later guard adds is passed over.
FIELDS: dict[str, tuple[type, int]] = {
    "rank": (int, 1 << 20), "world": (int, 1 << 20), "pid": (int, 1 << 31), "port": (int, 65535), "host": (str, 255),
    "torch": (str, 80), "git": (str, 80), "python": (str, 40), "backend": (str, 80), "method": (str, 10),
    "job": (str, 255), "order": (str, 10), "nccl": (str, 40), "store": (str, 8), "gloo": (str, 8), "keys": (str, 8),
    "agent": (str, 8), "static": (str, 8), "c10d": (str, 8), "launcher": (str, 80), "serves": (str, 255),
    "settings": (str, 400), "known": (int, 1), "last": (str, 8),
    "guess": (str, 60), "numpy": (str, 40), "bridge": (str, 80),
}  # fmt: skip
_ERA = re.compile(r"(\d{1,2}\.\d{1,2})?")
# The fields that 0.1 did not know: it takes a hello without them alone, and its own has none of them.
LATER = ("static", "c10d", "launcher", "guess", "numpy", "bridge")
# What the text of a field must look like, where more than its length is known.
FORMS = {
    "method": re.compile("|".join((*DIRECT, "agent", "file", "store"))), "order": re.compile("little|big"),
    "serves": re.compile(r"[\d. ]*"),
    "store": _ERA, "gloo": _ERA, "keys": _ERA, "agent": _ERA, "static": _ERA, "c10d": _ERA,
    "last": _ERA, "guess": re.compile("[a-z0-9 ]*"),
}  # fmt: skip
# The fields that tell ranks of one build apart.
PERSONAL = ("rank", "host", "pid")
# A rank that connects again is the same, two processes that claim one number are not.
Identity = Tuple[int, str, int]


class Build(TypedDict):
    """What ranks of one build have in common; each value as FIELDS bounds it.

    launcher: the release of the agent that started this rank and has its store, where that agent is guarded. guess: the
    kinds of era, with spaces, that are no more than the label of a build between releases says. bridge: "" where this
    rank is not in that mode, "ready", or why it can't use a bridge.
    """

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
    static: str
    c10d: str
    launcher: str
    serves: str
    settings: str
    known: int
    last: str
    guess: str
    numpy: str
    bridge: str


class Hello(Build):
    """What one rank reports about itself, as the JSON object that travels."""

    rank: int
    host: str
    pid: int


def own_hello(place: Place, backend: str = "") -> Hello:
    """This process's hello: who it is, what it runs, and what that speaks according to the table."""
    import torch

    version = str(torch.__version__)
    eras, guess = eras_of(version)
    agent = launcher() if place.method == "agent" else ""
    store = (era("store", agent) or "") if agent else eras["store"]
    release = parse(version) or (0, 0, 0)
    read = {} if place.method in AGENTS else WIRE_SETTINGS  # what an agent has in its environment is for its workers
    wire = {name: setting(name, os.environ) for name, since in read.items() if since <= release[:2]}
    fields: dict[str, Any] = {
        "rank": place.rank, "world": place.world, "pid": os.getpid(), "port": place.port,
        "host": socket.gethostname(), "torch": version, "git": str(getattr(torch.version, "git_version", "") or ""),
        "python": ".".join(map(str, sys.version_info[:3])), "backend": backend, "method": place.method,
        "job": os.environ.get("TORCHELASTIC_RUN_ID", ""), "order": sys.byteorder, "nccl": _nccl(backend),
        "serves": " ".join(SERVES.get(store, ())), "launcher": agent, "known": int(known(version)),
        "settings": " ".join("%s=%s" % pair for pair in sorted(wire.items()) if pair[1]),
        "last": "%d.%d" % LAST_KNOWN, "guess": guess, "numpy": _numpy(), "bridge": "",
    }  # fmt: skip
    fields.update(eras)
    cut = {name: shown(value)[: FIELDS[name][1]] if isinstance(value, str) else value for name, value in fields.items()}
    return cast("Hello", cut)


def shown(text: str) -> str:
    """A text as it can travel and be shown: one line, no control characters."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _numpy() -> str:
    """The version of NumPy, where this process has it: torch imports it where it is installed."""
    return str(getattr(sys.modules.get("numpy"), "__version__", ""))


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
    """The hello in bytes that anyone may have sent, None where there is none; fields that 0.1 did not know may lack."""
    try:
        fields = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not set(FIELDS) - set(LATER) <= set(fields):
        return None
    fields = {name: fields.get(name, kind()) for name, (kind, _) in FIELDS.items()}
    return cast("Hello", fields) if all(valid(name, value) for name, value in fields.items()) else None


def hello_body(hello: Hello, *, marked: bool) -> bytes:
    """A hello as it travels to a rank 0 whose nonce is marked, or to one of 0.1."""
    return json.dumps({name: value for name, value in hello.items() if marked or name not in LATER}).encode()


def valid(name: str, value: Any) -> bool:
    """Whether a stranger's value for a field is one: its type, its size, its form, and nothing that can't be shown."""
    kind, most = FIELDS[name]
    if type(value) is not kind or not isinstance(value, (int, str)):
        return False
    if isinstance(value, int):
        return 0 <= value <= most
    form = FORMS.get(name)
    return len(value) <= most and value.isprintable() and (form is None or form.fullmatch(value) is not None)


def identity(hello: Hello) -> Identity:
    """Which process a hello is from."""
    return hello["rank"], hello["host"], hello["pid"]


# -- roster --------------------------------------------------------------------------------------------------
# The roster: every rank's hello in one small object, the same on every rank, from which each of them decides.

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


# -- verdict -------------------------------------------------------------------------------------------------
# The verdict: what speaks against a group, decided from the roster alone, so that every rank decides the same.

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


# -- notes ---------------------------------------------------------------------------------------------------
# Notes on a group that may form: what the guard can't know of it, and what is beyond the wire. Never a refusal.

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


# -- refusal -------------------------------------------------------------------------------------------------
# The refusal: the roster and the objections as one error that a person can act on.

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


# -- wire ----------------------------------------------------------------------------------------------------
# The wire: the bytes that open a connection between guards, and the frames that follow.

# 0xff is an opcode of no TCPStore: an old server closes, a newer one ignores it, none is left waiting for more.
HELLO, PEEK, GREETING = b"\xfftorchskew-hello/1\n", b"\xfftorchskew-peek/1\n\n", b"torchskew-guard/1\n"
NONCE, MAC, MOST_HELLO, GO = 16, 32, 4096, b"G"
OPENING = len(HELLO) + NONCE


def marked_nonce() -> bytes:
    """A nonce of rank 0 by which joiners know that it takes a hello with fields it does not know; 0.1's has no mark."""
    head = os.urandom(NONCE // 2)
    return head + _mark(head)


def is_marked(nonce: bytes) -> bool:
    """Whether marked_nonce() made these bytes."""
    return nonce[NONCE // 2 :] == _mark(nonce[: NONCE // 2])


def _mark(head: bytes) -> bytes:
    return hashlib.sha256(b"torchskew takes more fields" + head).digest()[: NONCE - NONCE // 2]


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

# What the guard may add to an init where it only warns, and where it can't use the port that the store will use.
MOST_WARN, MOST_APART = 1.8, 10.0


class Pace(NamedTuple):
    """Instants on the monotonic clock: the deadline for late ranks, and proof, before which no sign is proof.

    settle: the seconds for which a sign must hold. end: when even a message that is on its way is given up. mode:
    "enforce", "warn", "strict" or "bridge". aside: the deadline comes before the init's own timeout, so the stock init
    goes on then and waits for late ranks itself.
    """

    deadline: float
    proof: float
    settle: float
    end: float
    mode: str = "enforce"
    aside: bool = False

    @property
    def greeting(self) -> float:
        """Seconds in which a guard that isn't busy greets."""
        return min(0.5, max(0.1, self.settle))

    @property
    def left(self) -> float:
        """Seconds until the end, never less than a millisecond."""
        return max(0.001, self.end - time.monotonic())

    def proven(self, seen: float) -> float:
        """When a sign that was seen at an instant counts."""
        return max(self.proof, seen + self.settle)

    def aside_now(self) -> int:
        """What a roster that is made now says of it: whether the stock init goes on with what it leaves open."""
        return int(self.mode != "strict" and (self.aside or time.monotonic() < self.deadline))

    @property
    def handover(self) -> float:
        """When to leave the rest of the timeout to the stock init, where something keeps the guard from its work."""
        return self.deadline if self.aside or self.mode == "strict" else self.deadline - 5 * self.settle

    def strays(self, asked: float) -> bool:
        """Whether to look elsewhere too: some are late, and the last look there was a while ago.

        What listens there may be a stranger, so looks are rare.
        """
        return time.monotonic() >= max(self.proof - 4 * self.settle, asked + min(5.0, 5 * self.settle))

    def at_once(self) -> Pace:
        """The pace where a store instead of a guard is no surprise: agents may join a group that has formed."""
        proof = min(self.proof, time.monotonic() + 0.5)
        return self._replace(proof=proof, settle=min(self.settle, 0.1))

    def apart(self, timeout: float) -> Pace:
        """The pace where the hellos can't use the store's port: another port may be blocked, so the wait is short."""
        if self.mode == "strict":
            return self
        deadline = min(self.deadline, time.monotonic() + min(timeout / 2, MOST_APART))
        return self._replace(deadline=deadline, end=min(self.end, deadline + 2.0), aside=True)


def pace(seconds: float, mode: str = "enforce") -> Pace:
    """The pace for a timeout in seconds: signs count after 0.15 of it (10 s at most), or soon where they come later."""
    now, share = time.monotonic(), min(0.15 * seconds, 10.0)
    if mode == "warn":
        share = min(share, 0.4)
        deadline = now + min(seconds, 1.0)
        return Pace(deadline, now + share, share / 5, min(deadline + 0.8, now + MOST_WARN), mode, aside=True)
    return Pace(now + seconds, now + share, share / 5, now + seconds + 2.0, mode)


# -- resolve -------------------------------------------------------------------------------------------------
# Names of hosts, looked up within a time limit: the system's resolver has none that a caller can choose.


def numeric(host: str, seconds: float) -> str:
    """An address of a host within these seconds, IPv4 where it has one; OSError otherwise.

    A thread that is stuck in the resolver is left to it: the stock init asks the same question next, and waits longer.
    """
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # no address but a name: it is looked up below, and what can't be looked up is an error there
    else:
        return host
    try:
        found = within_time(seconds, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except socket.gaierror as problem:
        raise OSError("the name %s does not resolve" % host) from problem
    except TimeoutError as problem:
        raise OSError("the name %s did not resolve within %.1f s" % (host, seconds)) from problem
    return min((family != socket.AF_INET, str(address[0])) for family, _, _, _, address in found)[1]


def addresses(host: str, port: int | None = None) -> list[Any]:
    """What getaddrinfo() says of a host; OSError where it has no address.

    As bytes, because a text loads Python's table of international names first: 2 ms of a process's first look.
    """
    return socket.getaddrinfo(host.encode() if host.isascii() else host, port, type=socket.SOCK_STREAM)


def within_time(seconds: float, ask: Callable[[], Any]) -> Any:
    """What ask() says, which may ask the resolver; TimeoutError where it takes longer, OSError without a thread."""
    answers: list[Any] = []
    problems: list[Exception] = []
    thread = threading.Thread(target=_try, args=(ask, answers, problems), name="torchskew-guard", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as problem:
        raise OSError("no thread to look up a name: %s" % problem) from problem
    thread.join(seconds)
    if problems:
        raise problems[0]
    if not answers:
        raise TimeoutError("the name service did not answer within %.1f s" % seconds)
    return answers[0]


def _try(ask: Callable[[], Any], answers: list[Any], problems: list[Exception]) -> None:
    """The answer, or the problem, for the thread that waits for it."""
    try:
        answers.append(ask())
    except Exception as problem:  # noqa: BLE001 - raised where it is waited for
        problems.append(problem)


# -- sockets -------------------------------------------------------------------------------------------------
# Sockets between guards: bound, tuned, read to an exact size, and closed without a trace on the store's port.

MID_SENTENCE = 5.0  # seconds for the rest of a message that has begun
HEAD_START = 0.15  # seconds that an address has before the next one of the same name is tried, or the same again


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


def claim(port: int) -> socket.socket:
    """As bind(), and listening; OSError when taken.

    Two processes can bind one port as long as neither listens, so only who listens knows that the port is its own.
    """
    server = bind(port)
    try:
        server.listen(4096)
    except OSError:
        server.close()
        raise
    return server


def claim_first(ports: Iterable[int]) -> socket.socket:
    """A socket that listens on the first of these ports that is free; OSError where all are taken."""
    problem = OSError(errno.EADDRINUSE, "no port to try")
    for port in ports:
        try:
            return claim(port)
        except OSError as taken:  # noqa: PERF203 - a handful of ports
            problem = taken
    raise problem


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
    """The roster out of the next frame; ValueError or OSError when it doesn't arrive whole and genuine.

    Its first byte may take until the deadline. Who has begun to speak is given a few seconds to finish.
    """
    head = receive(conn, 1, until)
    until = min(until, time.monotonic() + MID_SENTENCE)
    head += receive(conn, 3 + MAC, until)
    (size,) = struct.unpack("!I", head[:4])
    if size > MOST_ROSTER:
        raise ValueError("too long")
    body = unframe(secret, nonces, head + receive(conn, size, until), MOST_ROSTER)
    return unpack_roster(body or b"")


def deliver(frames: list[tuple[socket.socket, bytes]], until: float) -> None:
    """Send each connection its bytes, all at the same time; one that doesn't take them by then gets the rest never."""
    with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
        for conn, data in frames:  # each once, however late it is: nearly always that is all
            with contextlib.suppress(OSError, ValueError):
                conn.setblocking(False)
                rest = _unsent(conn, memoryview(data))
                if rest:
                    selector.register(conn, selectors.EVENT_WRITE, rest)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(max(0.001, until - time.monotonic())):
                _send_some(selector, key)


def _unsent(conn: socket.socket, data: memoryview) -> memoryview:
    """What a connection does not take at once; OSError where it is broken."""
    try:
        return data[conn.send(data) :]
    except BlockingIOError:
        return data


def _send_some(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """As much as the connection takes; it is done with when all is sent, or it is broken."""
    conn, rest = cast("socket.socket", key.fileobj), memoryview(b"")
    with contextlib.suppress(OSError):
        rest = _unsent(conn, key.data)
    if rest:
        selector.modify(conn, selectors.EVENT_WRITE, rest)
    else:
        selector.unregister(conn)


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """A connection to the first address of a name that takes one; OSError where none does within these seconds.

    The addresses are tried at the same time, each a little later than the one before it: one that leads nowhere
    delays the others by that little alone. While none answers each is tried once more: where the first packet of a
    connection is lost, the system would send the next a second later.
    """
    first = addresses(host, port)
    left, until, turn = first + first, time.monotonic() + seconds, 0.0
    problem: OSError | None = None
    with selectors.DefaultSelector() as selector:
        try:
            while selector.get_map() or len(left) > len(first):
                now = time.monotonic()
                if now >= until:
                    raise socket.timeout("timed out")
                if left and (now >= turn or not selector.get_map()):
                    problem, turn = _begin_to_connect(selector, left.pop(0)) or problem, now + HEAD_START
                for key, _ in selector.select(max(0.001, min(turn if left else until, until) - now)):
                    conn = cast("socket.socket", key.fileobj)
                    problem = _settled(selector, conn)
                    if problem is None:
                        conn.settimeout(seconds)
                        return conn
            raise problem or OSError("no address")
        finally:
            for key in list(selector.get_map().values()):
                cast("socket.socket", key.fileobj).close()


def _begin_to_connect(selector: selectors.BaseSelector, found: Any) -> OSError | None:
    """Start with one address of getaddrinfo(); the problem where it fails at once."""
    family, kind, number, _, address = found
    try:
        conn = socket.socket(family, kind, number)
    except OSError as problem:
        return problem
    conn.setblocking(False)
    code = conn.connect_ex(address)
    if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
        conn.close()
        return OSError(code, os.strerror(code))
    selector.register(conn, selectors.EVENT_WRITE)
    return None


def _settled(selector: selectors.BaseSelector, conn: socket.socket) -> OSError | None:
    """None where a connection is there; its problem where it failed, and then it is closed."""
    selector.unregister(conn)
    code = conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not code:
        return None
    conn.close()
    return OSError(code, os.strerror(code))


def dial(host: str, port: int, opening: bytes, seconds: float) -> tuple[socket.socket, bytes]:
    """A connection that has sent its opening (HELLO or PEEK), and its nonce; OSError when nothing accepts it."""
    nonce = os.urandom(NONCE)
    conn = connect(host, port, seconds)
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


# -- search --------------------------------------------------------------------------------------------------
# Looks for guards on several ports at the same time, so that a port that drops packets delays no other.

_MOST_ADDRESSES = 3  # of one name


class Line(NamedTuple):
    """An open connection to a guard that has greeted, and the nonces of both sides."""

    conn: socket.socket
    nonces: bytes


class Call:
    """A connection to a port, and how far it got: opening is what is still to be sent, heard what came."""

    __slots__ = ("heard", "nonce", "opening")

    def __init__(self) -> None:
        """Nothing is sent yet."""
        self.nonce, self.heard = os.urandom(NONCE), b""
        self.opening = HELLO + self.nonce


def greetings(host: str, ports: Iterable[int], seconds: float) -> Iterator[Line]:
    """Guards on these ports of a host, as they greet within these seconds; OSError where the name has no address.

    A line that the caller takes is the caller's to close, everything else is closed here.
    """
    found = [(family, address) for family, _, _, _, address in addresses(host)][:_MOST_ADDRESSES]
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        try:
            for port in ports:
                for family, address in found:
                    _begin(selector, family, (address[0], port, *address[2:]))
            while selector.get_map() and time.monotonic() < until:
                for key, _ in selector.select(max(0.001, until - time.monotonic())):
                    line = _advance(selector, key)
                    if line is not None:
                        yield line
        finally:
            for key in list(selector.get_map().values()):
                cast("socket.socket", key.fileobj).close()


def _begin(selector: selectors.BaseSelector, family: int, address: tuple[object, ...]) -> None:
    """Start to connect; a port that fails at once is passed over."""
    conn = None
    try:
        conn = socket.socket(family)
        conn.setblocking(False)
        conn.connect_ex(address)
        selector.register(conn, selectors.EVENT_WRITE, Call())
    except OSError:
        if conn is not None:
            conn.close()


def _advance(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> Line | None:
    """One step with one connection; the line when its guard has greeted."""
    conn, call = cast("socket.socket", key.fileobj), cast("Call", key.data)
    try:
        if call.opening:
            _open(selector, conn, call)
            return None
        more = conn.recv(len(GREETING) + NONCE - len(call.heard))
        call.heard += more
        if not more or not GREETING.startswith(call.heard[: len(GREETING)]):
            raise ConnectionResetError("no guard")
    except BlockingIOError:
        return None
    except OSError:
        selector.unregister(conn)
        conn.close()
        return None
    if len(call.heard) < len(GREETING) + NONCE:
        return None
    selector.unregister(conn)
    return Line(conn, call.nonce + call.heard[len(GREETING) :])


def _open(selector: selectors.BaseSelector, conn: socket.socket, call: Call) -> None:
    """The connection is there, or failed: send the opening."""
    problem = conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))
    tune(conn)
    call.opening = call.opening[conn.send(call.opening) :]
    if not call.opening:
        selector.modify(conn, selectors.EVENT_READ, call)


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
    """VALIDATE, four times the number of keys, and PING.

    An older server reads one absurd length and closes. A store of 2.2 to 2.4 closes at PING; one that is silent is
    only busy, and which it is remains open.
    """
    with contextlib.closing(connect(host, port, patience)) as conn:
        if not _counts(_request(conn, b"\x00\xce\xf7\x85\x3c" + b"\x07" * 4, 32, patience), 4):
            return ""
        nonce = b"\x7f\x7f" + os.urandom(2)
        try:
            conn.sendall(b"\x0d" + nonce)
            return "2.5" if receive(conn, 4, time.monotonic() + patience) == nonce else ""
        except socket.timeout:
            return ""
        except OSError:
            return "2.2"


def _store_before(host: str, port: int, patience: float) -> str:
    """Two messages over no keys, whole and without effect in every old store: CHECK (WAIT up to 1.8), then WAIT.

    Up to 1.8 the second is the number of keys and a rest, so that store waits until this connection closes, at once.
    """
    with contextlib.closing(connect(host, port, patience)) as conn:
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

    def numbered(self, hello: Hello) -> Hello:
        """The hello of an agent under c10d: it has no number of its own, and may ask for a group of another size."""
        free = next(number for number in itertools.count(1) if not self.numbers.get(number))
        hello["rank"], hello["world"] = free, self.world
        return hello

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
        self.held: list[Peer] = []

    def count(self, store_era: str) -> bool:
        """Count one; whether there is room to hold it."""
        self.knocks[store_era] = self.knocks.get(store_era, 0) + 1
        self.first = min(self.first, time.monotonic())
        return len(self.held) < self.held_limit


# -- usher ---------------------------------------------------------------------------------------------------
# After the roster: joiners are let go once rank 0's store listens, and late ranks are answered during the init.

_ENDED = threading.Event()  # the init of this process is over: whoever still waits for its store has waited enough
_COVERED = threading.Event()  # dismiss() will be called
_USHERS: list[threading.Thread] = []


def usher(conns: list[socket.socket], port: int) -> None:
    """Let the joiners go from a thread, or at once where no thread can start."""
    if not _started(lambda: _await_store(conns, port)):
        part(conns, time.monotonic() + 0.05)


def attend(answer: Callable[[float], None], close: Callable[[], None]) -> None:
    """Answer late ranks from a thread until the init is over, then close; at once where nothing would end the thread.

    answer: does so for these seconds at most.
    """
    if not _COVERED.is_set() or not _started(lambda: _answer_late(answer, close)):
        close()


def _started(work: Callable[[], None]) -> bool:
    """Whether a thread could start that does this."""
    _ENDED.clear()
    thread = threading.Thread(target=work, name="torchskew-guard", daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError):
        return False
    _USHERS[:] = [thread]
    return True


def expect() -> None:
    """An init begins that ends with dismiss()."""
    _COVERED.set()


def dismiss() -> None:
    """The init is over: end the usher, so that no thread of the guard outlives it."""
    _COVERED.clear()
    _ENDED.set()
    for thread in _USHERS:
        thread.join(0.1)
    _USHERS.clear()


def _answer_late(answer: Callable[[float], None], close: Callable[[], None]) -> None:
    """Until the init is over, or something is wrong with the answers: then a late rank finds nobody."""
    with contextlib.suppress(Exception):
        while not _ENDED.is_set():
            answer(0.05)
    close()


def _await_store(conns: list[socket.socket], port: int) -> None:
    """Until the store listens, or for two seconds."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until and not _ENDED.is_set() and not listens(port):
        time.sleep(0.001)
    part(conns, time.monotonic() + 0.05)


def part(conns: list[socket.socket], until: float) -> None:
    """Let the joiners go and close first; those that don't in time are reset."""
    deliver([(conn, GO) for conn in conns], until)
    with contextlib.suppress(OSError), selectors.DefaultSelector() as selector:
        for conn in conns:
            with contextlib.suppress(OSError, ValueError):
                selector.register(conn, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(max(0.001, until - time.monotonic())):
                selector.unregister(key.fileobj)
    for conn in conns:
        reset(conn)


# -- relay ---------------------------------------------------------------------------------------------------
# A relay for stock clients that came to rank 0's guard: releases up to 2.4 don't connect again after a reset.
#
# Where the stock init goes on, a process of its own carries their bytes to the store, as long as they are connected. It
# is a process because the store may hold the interpreter's lock, and no thread of the guard outlives an init.

STORE_SOON = 60.0  # seconds until the store must listen: its init begins at once
_RELAY = """from __future__ import annotations
import contextlib, json, os, socket, sys, threading, time
%s
port, seconds, clients = json.load(sys.stdin)
if os.fork() == 0:
    Carrier(port, seconds).start(clients)
"""


class Caller(NamedTuple):
    """A stock client: its connection, and what it has sent so far."""

    conn: socket.socket
    data: bytes


class Carrier:
    """The relay itself, run as text in a process of its own; it ends when the last connection has ended."""

    def __init__(self, port: int, seconds: float) -> None:
        """Where the store will listen, and how long to wait for it."""
        self.port, self.until = port, time.monotonic() + seconds

    def start(self, clients: list[tuple[int, str]]) -> None:
        """Serve each client (its descriptor, and its first bytes as hex) by a thread."""
        threading.stack_size(1 << 18)
        for number, first in clients:
            client = socket.socket(fileno=number)
            threading.Thread(target=self.serve, args=(client, bytes.fromhex(first))).start()

    def serve(self, client: socket.socket, first: bytes) -> None:
        """Connect one client to the store, until both sides have ended."""
        with contextlib.suppress(OSError, RuntimeError), client, self.store() as store:
            for conn in (client, store):
                conn.settimeout(None)
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            store.sendall(first)
            back = threading.Thread(target=self.pump, args=(store, client), daemon=True)
            back.start()
            self.pump(client, store)
            back.join()

    def store(self) -> socket.socket:
        """A connection to the store, as soon as it listens; OSError where it doesn't in time."""
        while True:
            try:
                return socket.create_connection(("localhost", self.port), timeout=5)
            except OSError:
                if time.monotonic() >= self.until:
                    raise
            time.sleep(0.005)

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        """Carry bytes one way until the source ends; then the target hears that too."""
        with contextlib.suppress(OSError):
            data = source.recv(1 << 16)
            while data:
                target.sendall(data)
                data = source.recv(1 << 16)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def relay(callers: list[Caller], port: int) -> None:
    """Give these clients to a relay, and forget them; OSError where none can start."""
    if not hasattr(os, "fork"):
        raise OSError("this system has no fork")
    numbers = [caller.conn.fileno() for caller in callers]
    clients = [(number, caller.data.hex()) for number, caller in zip(numbers, callers)]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _RELAY % inspect.getsource(Carrier)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=numbers,
        )  # fmt: skip
        process.communicate(json.dumps([port, STORE_SOON, clients]).encode(), timeout=10.0)
    except subprocess.SubprocessError as problem:
        raise OSError(str(problem)) from problem
    for caller in callers:
        caller.conn.close()  # without a reset: the relay has it


# -- bridge --------------------------------------------------------------------------------------------------
# A bridge that rank 0 hosts under TORCHSKEW_GUARD=bridge: where its code is, its process, and the ranks' clients.
#
# The bridge is the package torchskew.bridge, which needs the standard library alone. It is not part of the one file
# that jobs copy: rank 0's Python must be able to import it.

BRIDGE_SOON = 20.0  # seconds for the bridge to start, less where the init has less
_RUN = """import sys
sys.path.insert(0, sys.argv[1])
from torchskew.bridge.hosted import main
sys.exit(main(sys.argv[2:]))
"""
# Whose it is, the bridge, and its port once it serves.
_CHILDREN: list[tuple[int, subprocess.Popen[bytes], int]] = []


class Crossing(NamedTuple):
    """Where a rank meets the others at a bridge, and which of how many it is."""

    host: str
    port: int
    rank: int
    world: int


def readiness(mine: Hello, mode: str, *, led: bool) -> str:
    """What a rank's hello says of a bridge: "" where its mode is another, READY, or why it can't use one.

    led: the store that this init gets is the guard's to choose.
    """
    if mode != "bridge":
        return ""
    reason = READY
    backends = {part.rpartition(":")[2] for part in mine["backend"].split(",")}
    if mine["method"] not in BRIDGED_BY:
        reason = "it meets by %s" % {"store": "a store that it was given"}.get(mine["method"], mine["method"])
    elif not led:
        reason = "guard.check() only compares: guard.install() is needed, too"
    elif mine["method"] in AGENTS:
        pass  # an agent has no backend
    elif backends == {""} and _may_be_nccl():
        reason = "its backend is not named, and may be NCCL"
    elif not backends <= {"gloo", ""}:
        reason = "its backend is %s" % mine["backend"]
    return reason[: FIELDS["bridge"][1]]


def _may_be_nccl() -> bool:
    """Whether a group without a named backend can be one of NCCL, for tensors of a GPU."""
    import torch.distributed

    return bool(getattr(torch.distributed, "is_nccl_available", bool)())


def crossing(place: Place, mine: Hello, roster: Roster) -> Crossing | None:
    """Where this rank's store is, if its group has a bridge, and this rank said that it can use one."""
    port = roster["bridge"]
    led = port.isdigit() and mine["bridge"] == READY
    return Crossing(place.host, int(port), place.rank, place.world) if led else None


def host_bridge(server: socket.socket, seconds: float) -> str:
    """Give a listening socket to a bridge of its own process: its port as text, or why there is none.

    The process ends with this one, however that ends.
    """
    folder = _bridge_folder()
    if not folder:
        return "rank 0's Python can't import torchskew.bridge; the folder that has torchskew belongs on PYTHONPATH"
    command = [sys.executable, "-I", "-S", "-c", _RUN, folder, str(os.getpid()), str(server.fileno())]
    try:
        # A session of its own: a signal to the job's process group, as by ctrl-C, is for the ranks.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, pass_fds=[server.fileno()],
                                   start_new_session=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError, ValueError) as problem:
        return shown("rank 0 can't start it: %s" % problem)
    if not _CHILDREN:
        atexit.register(end_bridges)
    _CHILDREN.append((os.getpid(), process, 0))
    with contextlib.suppress(OSError), process.stdout as answers:  # type: ignore[union-attr]
        if select.select([answers], [], [], min(seconds, BRIDGE_SOON))[0] and answers.readline() == b"ready\n":
            port = int(server.getsockname()[1])
            _CHILDREN[-1] = (os.getpid(), process, port)
            return str(port)
    end_bridges()
    return "rank 0's bridge did not start: its process ended with %s" % process.returncode


def _bridge_folder() -> str:
    """The folder to import the bridge from, "" where there is none."""
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec("torchskew")
        for place in (spec.submodule_search_locations if spec else None) or ():
            if os.path.isfile(os.path.join(place, "bridge", "hosted.py")):
                return os.path.dirname(os.path.abspath(place))
    return ""


def end_bridges() -> None:
    """End the bridges of this process, not those of one that it was forked from: Python 3.8 would."""
    mine = [each for each in _CHILDREN if each[0] == os.getpid()]
    for each in mine:
        _CHILDREN.remove(each)
        _, process, port = each
        if process.poll() and port:  # neither alive nor ended in order, as by the end of the whole container
            text = "the bridge at port %d of this host has ended before this process, with %d: new groups failed since"
            say(-1, text % (port, process.returncode))
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_idle_bridges() -> None:
    """End the bridges of this process where no group is left that may need them, as a stock store ends with its own."""
    if not _CHILDREN:
        return
    rpc: Any = sys.modules.get("torch.distributed.rpc.api")
    import torch.distributed

    if not torch.distributed.is_initialized() and not getattr(rpc, "_is_current_rpc_agent_set", bool)():
        end_bridges()


def bridge_client(meeting: Crossing, timeout: Any) -> Any:
    """A store of torch that is this rank's client of the bridge; what torch raises where it can't be reached.

    timeout: a timedelta, torch's own where None.
    """
    from torch.distributed import TCPStore

    options = {"timeout": timeout} if isinstance(timeout, dt.timedelta) else {}
    where = (meeting.host, meeting.port, meeting.world, False)
    try:
        return TCPStore(*where, **options)
    except RuntimeError as problem:
        # Builds of 2.6 and later without libuv ask for it all the same, also in a client, which makes no use of it.
        if "libuv" not in str(problem):
            raise
        return TCPStore(*where, use_libuv=False, **options)


# -- host ----------------------------------------------------------------------------------------------------
# Rank 0's side of the exchange over an address: it collects every rank's hello and sends all of them one roster.

# What accept() says where this process has no room for a connection; anything else is one connection's own trouble.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Host:
    """Collects hellos on one port that takes bytes from anyone.

    Sizes, counts and times are bounded, and a connection that says nothing sensible in time is reset. Stock clients
    are held unanswered: as with a port that doesn't listen yet, they wait.
    """

    pending_limit, pending_seconds = 512, 5.0

    def __init__(self, server: socket.socket, place: Place, mine: Hello, secret: bytes, policy: str) -> None:
        """The server listens; mine is this rank's own hello."""
        self.server, self.place, self.mine, self.secret, self.policy = server, place, mine, secret, policy
        self.selector = selectors.DefaultSelector()
        self.pending: dict[socket.socket, Peer] = {}
        self.arrivals, self.stock = Arrivals(place.world), StockClients()
        self.bridged = False  # a bridge has the port

    def gather(self, until: Pace) -> Roster:
        """Wait for every rank until the deadline; less where the group is wrong or stock clients come instead."""
        self.open()
        while not self.arrivals.complete():
            now = time.monotonic()
            proven = until.proven(self.stock.first)
            strict_stranger = self.secret and until.mode == "strict"
            limit = min(until.deadline, self.arrivals.wronged + 1.0, until.deadline if strict_stranger else proven)
            if now >= limit:
                break
            self.serve(min(limit - now, 0.25))
        roster = self.roster()
        roster["aside"] = until.aside_now()
        return roster

    def open(self) -> None:
        """From now on ranks are answered."""
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
        roster["where"] = shown(str(self.place))
        return roster

    def bridge(self, roster: Roster, until: Pace) -> None:
        """Where these ranks can't mix and a bridge helps, give it this port; the roster says so, or why there is none.

        Every rank has reached this port, so no firewall is between them and the bridge.
        """
        objections = decide(roster)
        if refuses(objections, until.mode, bool(roster["aside"])) and not no_bridge(roster, objections):
            roster["bridge"] = host_bridge(self.server, max(1.0, until.deadline - time.monotonic()))
            self.bridged = roster["bridge"].isdigit()

    def _accept(self) -> None:
        """Take what came; a connection that ended before it was taken ends nothing else."""
        for _ in range(128):
            try:
                conn, _ = self.server.accept()
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno in _NO_ROOM:
                    self._make_room()
                continue
            try:
                conn.setblocking(False)
                tune(conn)
                self.selector.register(conn, selectors.EVENT_READ, Peer(conn))
            except OSError:
                reset(conn)
                continue
            self._admit(self.selector.get_key(conn).data)

    def _admit(self, peer: Peer) -> None:
        """A connection that may be anyone's."""
        self.pending[peer.conn] = peer
        if len(self.pending) > max(self.pending_limit, self.place.world):
            self._evict()
        if peer.conn.fileno() >= 0:
            self._read(peer)

    def _make_room(self) -> None:
        """Without room for a connection: drop an undecided one, or wait for a moment."""
        if self.pending:
            self._evict()
        else:
            time.sleep(0.01)

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
            ours = marked_nonce()
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
        self.stock.held.append(peer)

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
        if self.place.method == "c10d":
            if hello["job"] != self.mine["job"]:
                raise ValueError("of another job, whose agents may meet at the same store")
            hello = self.arrivals.numbered(hello)
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

    def send(self, roster: Roster, goes_on: bool, end: float) -> None:
        """Free the port first, so that no store's client lands on it; then send everyone the roster.

        Joiners that go on start once rank 0's store listens: an usher tells them, this rank goes on at once. On a port
        that no store needs, ranks that come during the init are answered as well.
        """
        frees_gil = self.mine["store"] not in HOLDS_GIL
        answers = frees_gil or self.place.method == "agent"  # no client of an agent's store waits in its constructor
        if goes_on and roster["missing"] and answers and self.server.getsockname()[1] != self.place.port:
            self._tell(list(self.arrivals.peers.values()), roster, min(end, time.monotonic() + 1.0))
            attend(self._answer_late, self._free_port)
            return
        self._free_port(relayed=goes_on)
        peers = list(self.arrivals.peers.values())
        if goes_on and self.place.method in DIRECT and frees_gil:
            self._deliver(peers, roster, min(end, time.monotonic() + 1.0))
            usher([peer.conn for peer in peers], self.place.port)
        else:
            self._tell(peers, roster, min(end, time.monotonic() + 2.0))

    def _deliver(self, peers: list[Peer], roster: Roster, until: float) -> None:
        body = pack_roster(roster)
        deliver([(peer.conn, frame(self.secret, peer.nonces, body)) for peer in peers], until)

    def _tell(self, peers: list[Peer], roster: Roster, until: float) -> None:
        """Send these the roster, let them go and part from them."""
        for peer in peers:
            with contextlib.suppress(KeyError, ValueError, RuntimeError):  # not there, or the selector is closed
                self.selector.unregister(peer.conn)
        self._deliver(peers, roster, until)
        part([peer.conn for peer in peers], until)

    def _answer_late(self, seconds: float) -> None:
        """Send who comes within these seconds all that is known, at once: the stock init waits for late ranks."""
        self.serve(seconds)
        late = [peer for peer in self.arrivals.peers.values() if peer.conn.fileno() >= 0]
        if late:
            roster = self.roster()
            roster["aside"] = 1
            for objection in decide(roster):
                if objection.proof:
                    say(self.place.rank, "a rank came late that can't join: %s" % objection.text)
            self._tell(late, roster, time.monotonic() + 0.05)

    def _free_port(self, *, relayed: bool = False) -> None:
        """Nobody finds this rank from now on. Who was not counted in is reset, or handed to the store that follows."""
        relayed = relayed and bool(self.stock.held)
        if relayed:
            self.serve(0.0)  # who came at the last moment
        self.selector.close()
        if self.bridged:
            self.server.close()  # what a reset sets would hold for the bridge's connections, too
        else:
            reset(self.server)
        stock = [*self.stock.held, *(peer for peer in self.pending.values() if not peer.nonces)]
        if relayed:
            with contextlib.suppress(OSError):
                relay([Caller(peer.conn, peer.data) for peer in stock], self.place.port)
        for peer in [*stock, *self.pending.values()]:
            if peer.conn.fileno() >= 0:
                reset(peer.conn)

    def abandon(self) -> None:
        """After a failure: no socket stays open, and no bridge."""
        if self.bridged:
            end_bridges()
        self._free_port()
        for peer in self.arrivals.peers.values():
            reset(peer.conn)


# -- joiner --------------------------------------------------------------------------------------------------
# The other ranks' side: a joiner says hello to rank 0, and recognises a stock store in its place.

NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EINVAL)  # the network has no way to the host
BUSY = 5.0  # seconds for a guard that is only busy
AGENT_PAUSE = 1.0  # seconds between looks at the port of an agent's store, where no guard is expected
LOOKS = 9  # times its patience is what a look for a store takes at most
HUNG_UP = "its guard closed the connection (%s). Is TORCHSKEW_GUARD_SECRET the same on every rank?"


class Sighting(NamedTuple):
    """A stock store on the first port, and when the attempt began that met it first."""

    store: Listener
    since: float


class Signs(NamedTuple):
    """What a joiner has seen so far, handed from attempt to attempt.

    taken: something else than a guard may have the first port. trouble: why the last attempt there failed. nameless:
    since when the host's name has no address. rejected: when a guard there first took a hello and gave no roster, which
    a port that is closed since then does not undo. silent: something there takes connections, and is no guard.
    """

    taken: bool
    trouble: str = "nothing listened"
    seen: Optional[Sighting] = None
    rejected: float = float("inf")
    nameless: float = float("inf")
    silent: bool = False

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

    def __init__(self, place: Place, mine: Hello, secret: bytes, reach: float = float("inf")) -> None:
        """Mine is this rank's hello; reach: seconds after which nobody is called any more."""
        self.place, self.secret, self.mine, self.reach = place, secret, mine, reach

    @property
    def noun(self) -> str:
        """What this process is."""
        return "agent" if self.place.method in AGENTS else "rank"

    def ask(self, until: Pace) -> Roster:
        """The roster that rank 0 sends; ProtocolVersionError or Unverified when no guard sends one."""
        signs, pause, asked, called, noted = self.nothing_seen(), 0.01, 0.0, 0.0, False
        agent, calls_end = self.place.method == "agent", min(until.deadline, time.monotonic() + self.reach)
        while time.monotonic() < (min(calls_end, until.handover) if signs.silent else calls_end):
            roster = None
            if signs.taken or until.strays(asked):
                asked = time.monotonic()
                roster = self.among_spares(until)
            if roster is None and (not agent or time.monotonic() >= called + AGENT_PAUSE):
                called = time.monotonic()
                roster, signs = self.attempt(Attempt(self.place.port, called, until, until.greeting), signs)
            if roster is not None:
                return roster
            signs = self._weighed(signs, until)
            if time.monotonic() > signs.nameless + 1.0 and not noted:
                say(self.place.rank, signs.trouble + ", and is tried again", self.noun)
                noted = True
            rejected = signs.rejected if until.mode != "strict" else float("inf")
            next_step = min(calls_end, until.proven(min(signs.since, rejected)))
            time.sleep(min(pause, max(0.0, next_step - time.monotonic())))
            pause = min(pause * 1.5, 0.25)
        raise self._nobody(signs, until)

    def _weighed(self, signs: Signs, until: Pace) -> Signs:
        """Raises when a sign has held long enough to end the wait; the signs otherwise."""
        if time.monotonic() >= until.proven(signs.since):
            signs = self._looked(signs, signs.since, until)
            if signs.seen:
                raise self._one_sided(signs.seen.store, until)
        if time.monotonic() >= until.proven(signs.rejected) and until.mode != "strict":
            raise Unverified("the releases of the other ranks are unknown: %s" % signs.trouble)
        return signs

    def among_spares(self, until: Pace) -> Roster | None:
        """The roster of this group's guard on one of the spare ports; what else listens there is left alone."""
        seconds = min(2 * until.greeting, max(0.001, until.deadline - time.monotonic()))
        with contextlib.suppress(OSError):
            for line in greetings(self.place.host, self.place.spares, seconds):
                with contextlib.suppress(OSError, ValueError):
                    return self._roster(line, until, marked=is_marked(line.nonces[NONCE:]))
        return None

    def nothing_seen(self) -> Signs:
        """The signs before the first attempt: under torchrun the agent's store has the first port."""
        return Signs(taken=self.place.method == "agent")

    def attempt(self, attempt: Attempt, signs: Signs) -> tuple[Roster | None, Signs]:
        """The roster, None where no guard of this group has the port; and the signs after it."""
        line, signs = self._reach(attempt, signs)
        if line is None:
            return None, signs
        # A guard without the mark is of 0.1, or one that takes no hello but a whole one: the next try has that.
        marked = is_marked(line.nonces[NONCE:]) or signs.rejected < float("inf")
        try:
            return self._roster(line, attempt.until, marked=marked), signs
        except (OSError, ValueError) as problem:
            since = min(signs.rejected, time.monotonic())
            return None, signs._replace(trouble=HUNG_UP % problem, rejected=since, silent=False)

    def _roster(self, line: Line, until: Pace, *, marked: bool) -> Roster:
        """What rank 0 sends over a line, once the joiners may go on; ValueError or OSError when it sends none."""
        with contextlib.closing(line.conn):
            line.conn.settimeout(min(BUSY, until.left))
            line.conn.sendall(frame(self.secret, line.nonces, hello_body(self.mine, marked=marked)))
            roster = receive_roster(line.conn, self.secret, line.nonces, min(until.end, until.deadline + 1.0))
            if not self._listed(roster):
                raise ValueError("its roster is of another group")
            if not refuses(decide(roster), until.mode, bool(roster["aside"])):
                self._await_store(line.conn, roster["groups"][0], min(until.end, time.monotonic() + 1.0))
        return roster

    def _listed(self, roster: Roster) -> bool:
        """Whether a roster is of this rank's group; an agent under c10d does not know its number."""
        if self.place.method != "c10d":
            return names(roster, self.place.rank)
        return roster["more"] > 0 or any(group["git"] == self.mine["git"] for group in roster["groups"])

    def _reach(self, attempt: Attempt, signs: Signs) -> tuple[Line | None, Signs]:
        """A connection to the guard on a port, None where none greets; and the signs after it."""
        conn = None
        try:
            seconds = max(0.01, min(BUSY, attempt.until.deadline - time.monotonic()))
            conn, nonce = dial(self.place.host, attempt.port, HELLO, seconds)
            try:
                return Line(conn, nonce + read_greeting(conn, attempt.patience)), signs
            except socket.timeout:
                signs = self._examined(attempt, signs)
                seconds = min(BUSY, attempt.until.handover - time.monotonic())
                if seconds <= 0 or signs.seen is not None or self.place.method == "agent":
                    raise
                return Line(conn, nonce + read_greeting(conn, seconds)), signs
        except (OSError, ValueError) as problem:
            if conn is not None:
                conn.close()
            signs = signs._replace(silent=conn is not None and self.place.method in DIRECT)
            return None, self._unanswered(attempt, problem, signs)

    def _unanswered(self, attempt: Attempt, problem: Exception, signs: Signs) -> Signs:
        """The signs after an attempt that reached no guard."""
        refused, nameless = isinstance(problem, ConnectionRefusedError), isinstance(problem, socket.gaierror)
        away = isinstance(problem, OSError) and problem.errno in NO_WAY
        trouble = "nothing listened" if refused else str(problem) if away else "no guard answered"
        if nameless:
            trouble = "the name %s does not resolve on this %s (%s)" % (self.place.host, self.noun, problem)
        since = min(signs.nameless, attempt.began) if nameless else float("inf")
        if signs.rejected == float("inf"):
            signs = signs._replace(trouble=trouble)
        signs = signs._replace(nameless=since)
        if refused or nameless or away:
            return signs._replace(taken=self.place.method == "agent")
        return self._examined(attempt, signs)

    def _examined(self, attempt: Attempt, signs: Signs) -> Signs:
        """The signs after the port answered, but not as a guard: a store is looked for."""
        signs, until = signs._replace(taken=True), attempt.until
        late = not until.aside and time.monotonic() + LOOKS * until.greeting > until.handover
        return signs if signs.seen or late else self._looked(signs, attempt.began, until)

    def _looked(self, signs: Signs, since: float, until: Pace) -> Signs:
        """The signs after a look for a store on the first port; an agent's store may be there, and proves nothing."""
        if self.place.method not in DIRECT or until.left < LOOKS * until.greeting:
            return signs._replace(seen=None)
        listener = look(self.place.host, self.place.port, until.greeting)
        return signs._replace(seen=Sighting(listener, since) if listener.what == "store" else None)

    def _await_store(self, conn: socket.socket, host: Group, until: float) -> None:
        """Until rank 0's store listens, a second at most: a client that comes too early pauses for up to a second."""
        with contextlib.suppress(OSError):
            receive(conn, 1, until)
        conn.close()
        while host["method"] in DIRECT and host["store"] in HOLDS_GIL and time.monotonic() < until:
            with contextlib.suppress(OSError):
                seconds = max(0.01, until - time.monotonic())
                socket.create_connection((self.place.host, self.place.port), timeout=seconds).close()
                return
            time.sleep(0.002)

    def _one_sided(self, store: Listener, until: Pace) -> Exception:
        """A store that this release's client can't use is proof; any other may be the one that it should use."""
        text = "no guard answers at %s, but a TCPStore %s (%s): %s 0 runs without the guard, or has formed its group"
        text %= self.place, SEEN[store.era], store.backend, self.noun
        foreign = bool(self.mine["serves"]) and self.mine["store"] not in SERVES.get(store.era, ())
        return self._ended(Objection("one-sided", text, proof=foreign), {store.era: 1}, until.mode, aside=True)

    def _nobody(self, signs: Signs, until: Pace) -> Exception:
        text = "%s 0 never answered at %s: %s" % (self.noun, self.place, signs.trouble)
        knocks = {signs.seen.store.era: 1} if signs.seen else {}
        aside = until.aside or signs.silent
        return self._ended(Objection("missing", text, proof=False), knocks, until.mode, aside=aside)

    def _ended(self, objection: Objection, knocks: dict[str, int], mode: str, *, aside: bool) -> Exception:
        """What the wait ends with: a refusal, or one line where the stock init goes on."""
        if not refuses([objection], mode, aside):
            return Unverified(objection.text)
        roster = roster_of([self.mine], "era", knocks)
        roster["missing"] = "0"
        return refusal(roster, [objection], -1 if self.place.method == "c10d" else self.place.rank)


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
        self.unread = float("inf")  # since when another rank's file is there that this guard can't read
        self.strange: set[str] = set()  # the names of such files, for rank 0
        self.before = b""  # the table that was there when this rank said hello: it answers an earlier one

    def exchange(self, until: Pace) -> Roster:
        """The roster, on every rank."""
        return (self._gather if self.mine["rank"] == 0 else self._answer)(until)

    def _waiting(self, until: Pace) -> Iterator[None]:
        """Polls until the deadline, or until it is proven that a stock rank wrote the init file."""
        pause, stock = 0.002, float("inf")
        while time.monotonic() < min(until.deadline, until.proven(stock), self._given_up(until)):
            yield
            if stock == float("inf") and self._stock():
                stock = time.monotonic()
            time.sleep(pause)
            pause = min(pause * 1.2, 0.1)

    def _given_up(self, until: Pace) -> float:
        """When a file that can't be read ends the wait: it is of a guard with another secret, or of another version."""
        return until.deadline if until.mode == "strict" else until.proven(self.unread)

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
        session, heard = marked_nonce(), {}  # type: bytes, dict[str, Hello]
        self._put("session", session)
        hellos, door = [self.mine], None  # type: list[Hello], Host | None
        try:
            for _ in self._waiting(until):
                self._hear(session, heard)
                door = door or self._open_door(until)
                if door:
                    door.serve(0.0)
                came = {identity(hello): hello for hello in [*heard.values(), *_through(door)]}
                hellos = [self.mine, *came.values()]
                if len(hellos) >= self.place.world:
                    break
            roster = self._answer_all(session, hellos, set(heard), until)
            if door:
                door.send(roster, goes_on=False, end=until.end)
        except BaseException:
            if door:
                door.abandon()
            raise
        self._clear(set(heard) | self.strange, until)
        return roster

    def _answer_all(self, session: bytes, hellos: list[Hello], heard: set[str], until: Pace) -> Roster:
        """The roster, left for everyone that said hello in the folder."""
        knocks = {"file": 1} if len(hellos) < self.place.world and self._stock() else {}
        roster = roster_of(hellos, self.policy, knocks)
        roster["where"], roster["aside"] = shown(str(self.place)), until.aside_now()
        self._put("table", frame(self.secret, session, pack_roster(dict(roster, heard=sorted(heard)))))
        return roster

    def _open_door(self, until: Pace) -> Host | None:
        """When ranks are late: where those that meet by address find this one, if the environment names an address."""
        if not self.place.port or time.monotonic() < until.proof:
            return None
        try:
            door = Host(claim_first(self.place.spares), self.place, self.mine, self.secret, self.policy)
        except OSError:  # something else has these ports
            return None
        door.open()
        return door

    def _hear(self, session: bytes, heard: dict[str, Hello]) -> None:
        """Read the hellos that are new."""
        for name in self._names()[: 2 * self.place.world + 64]:
            if len(name) != 2 * NONCE or name in heard or not re.match("[0-9a-f]+$", name):
                continue
            hello = self._hello(session, name)
            if hello:
                heard[name] = hello
            else:
                self.strange.add(name)
                self.unread = min(self.unread, time.monotonic())

    def _hello(self, session: bytes, name: str) -> Hello | None:
        """The hello in a rank's file, None where there is none of this session that can be read."""
        with contextlib.suppress(ValueError):
            data = _bytes_of(self._at(name), MOST_HELLO)
            return read_hello(unframe(self.secret, session + bytes.fromhex(name), data, MOST_HELLO) or b"")
        return None

    def _clear(self, heard: set[str], until: Pace) -> None:
        """Remove everything once each rank has read the roster, or after a second; the next session does the rest."""
        end = min(until.end, time.monotonic() + 1.0)
        while time.monotonic() < end and heard & set(self._names()):
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
                answered, self.unread, self.before = session, float("inf"), _bytes_of(self._at("table"), MOST_ROSTER)
                body = hello_body(self.mine, marked=is_marked(session))
                self._put(name, frame(self.secret, session + nonce, body))
            roster = self._roster(answered, name)
            if roster is None and self.place.port and until.strays(asked):
                asked = time.monotonic()
                roster = self._elsewhere(until)
            if roster is not None:
                self._remove(name)
                return roster
        self._remove(name)
        if time.monotonic() >= self._given_up(until):
            raise Unverified("rank 0 left no roster for this rank at %s that this guard can read" % str(self.place))
        alone = roster_of([self.mine], self.policy, {"file": 1} if self._stock() else {})
        alone["missing"], alone["where"], alone["aside"] = "0", shown(str(self.place)), until.aside_now()
        return alone

    def _roster(self, session: bytes, name: str) -> Roster | None:
        """The roster of this session, None while there is none that names this hello."""
        data = _bytes_of(self._at("table"), MOST_ROSTER)
        if not session or data in (b"", self.before):
            return None
        with contextlib.suppress(ValueError):
            roster, heard = unpack_heard(unframe(self.secret, session, data, MOST_ROSTER) or b"")
            if name in heard and names(roster, self.place.rank):
                return roster
        self.unread = min(self.unread, time.monotonic())
        return None

    def _elsewhere(self, until: Pace) -> Roster | None:
        """The roster of a rank 0 that meets by address and misses this rank, at the address in the environment."""
        for port in (self.place.port, *self.place.spares):
            if until.left < 4 * until.greeting:
                break
            with contextlib.suppress(OSError, ValueError):
                roster = peek(self.place.host, port, until.greeting)
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


def _through(door: Host | None) -> list[Hello]:
    """The hellos that came by address."""
    return door.arrivals.hellos() if door else []


def _bytes_of(path: str, most: int) -> bytes:
    """The file's bytes, b"" when it isn't there or is no file: to open a pipe would block."""
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            return file.read(most) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return b""


# -- given_store ---------------------------------------------------------------------------------------------
# The exchange through a store that init_process_group is given: each rank leaves its hello there, rank 0 a roster.
#
# Only set, get of a key that is there, and add are used: a wait that times out can leave a store of 2.0 or older out of
# step. Keys begin with torchskew/ and the number of this rank's inits through this store, so no earlier init counts.


class GivenStore:
    """A store as one rank uses it; RuntimeError where the store itself fails."""

    def __init__(self, store: Any, mine: Hello, secret: bytes, policy: str) -> None:
        """The store is torch's, connected; mine is this rank's hello."""
        self.store, self.mine, self.secret, self.policy = store, mine, secret, policy
        self.prefix, self.arrived = "", 0  # arrived: the ranks that rank 0 has heard

    def exchange(self, until: Pace) -> Roster:
        """The roster, on every rank."""
        rank = self.mine["rank"]
        self.prefix = "torchskew/%d/" % self.store.add("torchskew/inits/%d" % rank, 1)
        return self._gather(until) if rank == 0 else self._answer(until)

    def _gather(self, until: Pace) -> Roster:
        """Read each hello that comes before the deadline, and leave a roster for all of them."""
        hellos, late = {0: self.mine}, set(range(1, self.mine["world"]))
        pause = 0.002
        while late and time.monotonic() < until.deadline:
            for rank in [rank for rank in sorted(late) if self._has(str(rank))]:
                hello = read_hello(self._get(str(rank), MOST_HELLO))
                if hello is None or hello["rank"] != rank:
                    raise Unverified("rank %d left no hello that this guard can read in the store" % rank)
                hellos[rank] = hello
                late.remove(rank)
            time.sleep(pause if late else 0.0)
            pause = min(pause * 1.3, 0.1)
        roster = roster_of([hellos[rank] for rank in sorted(hellos)], self.policy)
        roster["where"], roster["aside"], self.arrived = "the given store", until.aside_now(), len(hellos) - 1
        self._put("roster", pack_roster(roster))
        return roster

    def _answer(self, until: Pace) -> Roster:
        """Leave this rank's hello, and wait for the roster."""
        self._put(str(self.mine["rank"]), json.dumps(self.mine).encode())
        pause, end = 0.002, min(until.end, until.deadline + min(1.0, 5 * until.settle))
        while not self._has("roster"):
            if time.monotonic() >= end:
                raise Unverified("rank 0 left no roster in the given store")
            time.sleep(pause)
            pause = min(pause * 1.3, 0.1)
        roster = unpack_roster(self._get("roster", MOST_ROSTER))
        with contextlib.suppress(Exception):  # rank 0's store may end as soon as it counted this, before it replies
            self.store.add(self.prefix + "read", 1)
        if not names(roster, self.mine["rank"]):
            raise Unverified("the roster in the given store is of another group")
        return roster

    def part(self, until: float) -> None:
        """Rank 0 waits until every rank has read the roster: the store may be its own, and end with it.

        The other ranks have all they need, and touch the store no more.
        """
        if self.mine["rank"]:
            return
        with contextlib.suppress(Exception):  # a store that is gone keeps nobody waiting
            while time.monotonic() < until and self.store.add(self.prefix + "read", 0) < self.arrived:
                time.sleep(0.002)

    def _put(self, name: str, body: bytes) -> None:
        """A value, and after it the sign that it is there."""
        framed = frame(self.secret, self.prefix.encode(), body)
        self.store.set(self.prefix + name, binascii.b2a_hex(framed).decode())
        self.store.add(self.prefix + name + "/set", 1)

    def _has(self, name: str) -> bool:
        return bool(self.store.add(self.prefix + name + "/set", 0))

    def _get(self, name: str, most: int) -> bytes:
        """What another rank left; ValueError where that is not whole and genuine."""
        value = self.store.get(self.prefix + name)
        return unframe(self.secret, self.prefix.encode(), binascii.a2b_hex(value), most) or b""


# -- exchange ------------------------------------------------------------------------------------------------
# The exchange: rank 0 collects hellos, everyone gets the same roster, and everyone decides from it.


def exchange(place: Place, mine: Hello, seconds: float, mode: str = "enforce", reach: float = float("inf")) -> Roster:
    """The roster of all ranks, the same on each of them, where they may form a group.

    seconds: the init's own timeout; pace() has the other ends. reach: seconds after which nobody is called any more.
    Raises ProtocolVersionError where they may not form a group, and Unverified where that could not be found out and
    the stock init goes on.
    """
    until, policy = pace(seconds, mode), chosen("TORCHSKEW_GUARD_POLICY", POLICIES)
    _ = place.spares  # a misspelt port is an error at once, and not only where it is needed
    try:
        if mode == "warn" and place.host:
            place = place._replace(host=numeric(place.host, 0.6 * (until.deadline - time.monotonic())))
        roster = _roster(Ask(place, mine, seconds, policy, reach), until)
    except (OSError, MemoryError) as problem:
        raise Unverified("the releases of the other ranks could not be compared: %s" % problem) from problem
    return _admitted(roster, mode, number_in(roster, mine) if place.method == "c10d" else place.rank)


def exchange_in(store: Any, mine: Hello, seconds: float, mode: str = "enforce") -> Roster:
    """As exchange(), through a store that the init is given."""
    policy, until = chosen("TORCHSKEW_GUARD_POLICY", POLICIES), pace(seconds, mode).apart(seconds)
    given = GivenStore(store, mine, shared_secret(), policy)
    roster = given.exchange(until)
    if refuses(decide(roster), mode, bool(roster["aside"])):
        given.part(min(until.end, time.monotonic() + 5.0))
    return _admitted(roster, mode, mine["rank"])


def _admitted(roster: Roster, mode: str, rank: int) -> Roster:
    """The roster itself, where its ranks may form a group."""
    objections = decide(roster)
    if refuses(objections, mode, bool(roster["aside"])):
        raise refusal(roster, objections, rank)
    if objections:
        raise Unverified(objections[-1].text)
    return roster


class Ask(NamedTuple):
    """What one rank knows before it hears from the others; seconds: the init's own timeout."""

    place: Place
    mine: Hello
    seconds: float
    policy: str
    reach: float


def _roster(ask: Ask, until: Pace) -> Roster:
    """What rank 0 says, by way of a folder or an address."""
    place, mine, secret = ask.place, ask.mine, shared_secret()
    if place.method == "file":
        return Folder(place, mine, secret, ask.policy).exchange(until)
    server = _serve(place) if place.rank == 0 else None
    if place.method == "agent" or (server and server.getsockname()[1] != place.port):
        until = until.apart(ask.seconds)
    if server is None:
        if place.method == "c10d":
            place, mine, until = place._replace(rank=1), cast("Hello", {**mine, "rank": 1}), until.at_once()
        return Joiner(place, mine, secret, ask.reach).ask(until)
    host = Host(server, place, mine, secret, ask.policy)
    try:
        roster = host.gather(until)
        host.bridge(roster, until)
        host.send(roster, not refuses(decide(roster), until.mode, bool(roster["aside"])), until.end)
    except BaseException:
        host.abandon()
        raise
    return roster


def _serve(place: Place) -> socket.socket | None:
    """A listening socket on the first port or a spare one; None where a guard has the first: a second rank 0 is here.

    Under c10d several agents may think that they are number 0; whoever gets the port is. OSError where no port is
    free.
    """
    if place.method != "agent":
        with contextlib.suppress(OSError):
            return claim(place.port)
        with contextlib.suppress(OSError, ValueError):
            peek("127.0.0.1", place.port, 0.1)
            return None
    if place.method == "c10d":
        return None
    try:
        return claim_first(place.spares)
    except OSError as problem:
        text = "rank 0 can't listen for hellos: port %d and the spare ports %s are taken (%s)"
        raise OSError(text % (place.port, ", ".join(map(str, place.spares)), problem.strerror)) from problem


# -- aside ---------------------------------------------------------------------------------------------------
# Whatever keeps the guard from its work is one line, and the job goes on: the border between the guard and a job.


class Seat:
    """Around all that the guard does before an init: only what the mode allows comes out.

    That is ProtocolVersionError where the group is known not to work, under strict also where that could not be found
    out, and nothing under warn.
    """

    def __init__(self, mode: str) -> None:
        """The block sets the place as soon as it knows it."""
        self.mode = mode
        self.place: Place | None = None

    def __enter__(self) -> Seat:  # noqa: PYI034 - typing has no Self in Python 3.8
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> bool:
        if isinstance(problem, ProtocolVersionError):
            if self.mode == "warn":
                warn(problem.rank, str(problem))
            return self.mode == "warn"
        if isinstance(problem, Exception):
            _step_aside(problem, self.mode, self.place)
            return True
        return False


def _step_aside(problem: Exception, mode: str, place: Place | None) -> None:
    """Say in one line that nothing was compared; under strict, that is an error. So is a misspelt setting, except
    under warn.
    """
    rank, noun = (place.rank, "agent" if place.method in AGENTS else "rank") if place else (-1, "rank")
    if isinstance(problem, SettingError) and mode != "warn":
        raise problem
    if mode == "strict":
        text = "The releases of this process group could not be compared (detected on %s %d): %s\nRemedy: %s"
        remedy = "remove the cause, or set TORCHSKEW_GUARD=enforce to go on without the comparison."
        raise ProtocolVersionError(text % (noun, rank, problem, remedy), kind="unverified", rank=rank, remedy=remedy)
    what = str(problem) if isinstance(problem, Unverified) else "%s: %s" % (type(problem).__name__, problem)
    say(rank, "%s. The init goes on without a comparison of the releases." % what, noun)


# -- budget --------------------------------------------------------------------------------------------------
# What the guard's waiting leaves of an init's timeout: the stock init gets that much, its group keeps the whole.
#
# A group that has formed can be given another timeout since 2.13. In older ones gloo keeps the one of its init for
# good, so there the init gets the whole, and its waits end earlier (ending.py).

LEAST = dt.timedelta(seconds=1)  # for a stock init that has all it needs
_RESTORED = {"", "none", "undefined", "cpu", "cuda", "gloo", "nccl"}  # what may be in a backend's name


def left_of(whole: dt.timedelta, spent: float) -> dt.timedelta:
    """What is left of a timeout after these seconds, a second at least where it had that much."""
    return max(whole - dt.timedelta(seconds=spent), min(whole, LEAST))


def restorable(backend: Any) -> bool:
    """Whether a group of this torch and backend can be given its whole timeout once it has formed."""
    import torch
    from torch.distributed import distributed_c10d

    others = backend is None and getattr(getattr(torch, "xpu", None), "is_available", bool)()
    known = _RESTORED.issuperset(re.split("[:,]", str(backend or "").lower()))
    return known and not others and hasattr(getattr(distributed_c10d, "ProcessGroup", None), "set_timeout")


def restore(whole: dt.timedelta, rank: int, *, given_store: bool) -> None:
    """Give the group that has formed its whole timeout, and its store, unless that was given and never had less."""
    from torch.distributed import distributed_c10d

    try:
        distributed_c10d._get_default_group().set_timeout(whole)  # noqa: SLF001 - torch.distributed.set_timeout: 2.14
        if not given_store:
            distributed_c10d._get_default_store().set_timeout(whole)  # noqa: SLF001 - no public name
    except Exception as problem:  # noqa: BLE001 - whatever torch says, the group has formed
        say(rank, "the group's timeout is shorter than asked for: %s: %s" % (type(problem).__name__, problem))


# -- ending --------------------------------------------------------------------------------------------------
# An end for what a stock init waits for in its store, where its group keeps the timeout that it is given: up to 2.12.
#
# Gloo waits for the keys of the other ranks, in C++, for as long as its group may wait for good. While ending_by() is
# entered, a gloo group is made with a store between it and the real one, which cuts these waits; afterwards it passes
# everything on. The barrier of old releases is cut as well.

Cut = Callable[[dt.timedelta], dt.timedelta]
_HELD: list[Any] = []  # C++ uses these stores as long as their groups live, and does not keep their Python half


@contextlib.contextmanager
def ending_by(end: float) -> Iterator[None]:
    """Whatever the ranks of a group are waited for ends at an instant of the monotonic clock."""
    from torch.distributed import distributed_c10d

    over: list[bool] = []

    def cut(asked: dt.timedelta) -> dt.timedelta:
        return asked if over else min(asked, dt.timedelta(seconds=max(0.01, end - time.monotonic())))

    covers = []
    for name, cover in (("ProcessGroupGloo", _cut_gloo), ("_store_based_barrier", _cut_barrier)):
        stock: Any = getattr(distributed_c10d, name, None)
        if not callable(stock):  # a torch may have no gloo
            continue
        with contextlib.suppress(TypeError, ValueError):  # another kind of function than torch has there
            covers.append((name, stock, cover(stock, cut)))
            setattr(distributed_c10d, name, covers[-1][2])
    try:
        yield
    finally:
        over.append(True)
        for name, stock, cover in covers:
            if getattr(distributed_c10d, name) is cover:  # else something else is in front, and ours cuts nothing
                setattr(distributed_c10d, name, stock)


def _cut_gloo(stock: Any, cut: Cut) -> Any:
    """The class of gloo's groups, as torch's own code sees it, that makes them with a store whose waits are cut."""

    class Gloo(type):
        def __call__(cls, store: Any, *args: Any, **kwargs: Any) -> Any:
            return stock(_cut_store(store, cut), *args, **kwargs)

        def __instancecheck__(cls, group: Any) -> bool:
            return isinstance(group, stock)

        def __subclasscheck__(cls, kind: Any) -> bool:
            return issubclass(kind, stock)

        def __getattr__(cls, name: str) -> Any:
            return getattr(stock, name)

    return Gloo("ProcessGroupGloo", (), {})


def _cut_store(real: Any, cut: Cut) -> Any:
    """A store for gloo; the real one where torch allows none in between."""
    from torch.distributed import Store

    class CutStore(Store):  # type: ignore[misc] # no types without torch
        def set(self, key: str, value: Any) -> Any:
            return real.set(key, value)

        def get(self, key: str) -> Any:
            return real.get(key)

        def add(self, key: str, amount: int) -> Any:
            return real.add(key, amount)

        def wait(self, keys: list[str], *timeout: dt.timedelta) -> Any:
            return real.wait(keys, *map(cut, timeout))

        def append(self, key: str, value: Any) -> Any:
            return real.append(key, value)

        def multi_get(self, keys: list[str]) -> Any:
            return real.multi_get(keys)

        def multi_set(self, keys: list[str], values: list[Any]) -> Any:
            return real.multi_set(keys, values)

        def has_extended_api(self) -> bool:
            return bool(real.has_extended_api())

    try:
        _HELD.append(CutStore())
        return _HELD[-1]
    except Exception:  # noqa: BLE001 - whatever torch says: a missing rank costs more then, and the group forms
        return real


def _cut_barrier(stock: Callable[..., Any], cut: Cut) -> Callable[..., Any]:
    """The barrier over the store after a group was made, with its timeout cut."""
    signature = inspect.signature(stock)

    @functools.wraps(stock)
    def _store_based_barrier(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        if isinstance(given.arguments.get("timeout"), dt.timedelta):
            given.arguments["timeout"] = cut(given.arguments["timeout"])
        return stock(*given.args, **given.kwargs)

    return _store_based_barrier


# -- agents --------------------------------------------------------------------------------------------------
# torchrun's agents: they say hello before the store of their rendezvous, as ranks do before theirs.

_C10D_PORT, _C10D_JOIN, _C10D_READ = 29400, 600, 60  # torch's defaults: the last two in seconds


class Rendezvous(NamedTuple):
    """How the agents meet, seen from one. seconds: the rendezvous' timeout; reach: of them, until agent 0 is there."""

    place: Place
    job: str
    seconds: float
    reach: float = float("inf")


def check_agents(look: Callable[[], Rendezvous], bridges: list[Crossing] | None = None) -> float:
    """Compare with the other agents, as check() does with the other ranks; the seconds that led to nothing.

    look: finds out where they meet, in seconds where it asks for names. bridges: gets the bridge where they meet at
    one; None where they can't. Raises ProtocolVersionError as check() does.
    """
    mode, began = chosen("TORCHSKEW_GUARD", MODES), time.monotonic()
    if mode == "off":
        return 0.0
    with Seat(mode) as seat:
        meeting = look() if mode != "warn" else within_time(0.5, look)
        seat.place = meeting.place
        if meeting.place.world >= 2:
            mine = _hello(meeting)
            mine["bridge"] = readiness(mine, mode, led=bridges is not None)
            roster = exchange(meeting.place, mine, meeting.seconds, mode, meeting.reach)
            bridge = crossing(meeting.place, mine, roster)
            if bridge is not None and bridges is not None:
                bridges.append(bridge)
                say(-1 if meeting.place.method == "c10d" else bridge.rank, bridge_note(roster), "agent")
        return 0.0
    return time.monotonic() - began


def _hello(meeting: Rendezvous) -> Hello:
    """An agent's hello: its job is not in its environment."""
    hello = own_hello(meeting.place)
    return cast("Hello", {**hello, "job": shown(meeting.job)[: FIELDS["job"][1]]})


def guarded_static(stock: Callable[..., Any]) -> Callable[..., Any]:
    """StaticTCPRendezvous.next_rendezvous with the check before its first store."""

    @functools.wraps(stock)
    def next_rendezvous(self: Any) -> Any:
        if getattr(self, "_store", None) is not None:
            return stock(self)  # a restart of the workers: the agents met before
        whole = self.timeout
        try:
            expect()
            bridges: list[Crossing] = []
            spent = check_agents(lambda: _static(self), bridges)
            if bridges:
                self._store = bridge_client(bridges[0], whole)
            if spent > 0.1:
                self.timeout = left_of(whole, spent)
            return stock(self)
        finally:
            self.timeout = whole
            dismiss()

    next_rendezvous.torchskew_guard = next_rendezvous  # type: ignore[attr-defined]
    return next_rendezvous


def _static(handler: Any) -> Rendezvous:
    """Where the agents of a static rendezvous meet: each of them knows its number."""
    host, port = str(handler.master_addr), int(handler.master_port)
    place = Place("static", host, port, "", int(handler.rank), int(handler.world_size))
    return Rendezvous(place, str(handler.run_id), float(handler.timeout.total_seconds()))


def guarded_c10d(stock: Callable[..., Any]) -> Callable[..., Any]:
    """_create_tcp_store of the c10d backend with the check before it."""

    @functools.wraps(stock)
    def create_tcp_store(params: Any) -> Any:
        bridges: list[Crossing] = []
        check_agents(lambda: _c10d(params, stock.__globals__), bridges)
        try:
            if bridges:
                return bridge_client(bridges[0], dt.timedelta(seconds=params.get_as_int("read_timeout", _C10D_READ)))
            return stock(params)
        finally:
            dismiss()

    create_tcp_store.torchskew_guard = create_tcp_store  # type: ignore[attr-defined]
    return create_tcp_store


def _c10d(params: Any, torchs: dict[str, Any]) -> Rendezvous:
    """Where the agents of a dynamic rendezvous meet: who has the store becomes number 0, the others get theirs there.

    torchs: the names in the backend's own module, so that it is found out as torch finds it out right after.
    """
    host, port = torchs["parse_rendezvous_endpoint"](params.endpoint, default_port=_C10D_PORT)
    own = params.get_as_bool("is_host")
    if own is None:
        own = int(params.min_nodes) > 1 and torchs["_matches_machine_hostname"](host)
    place = Place("c10d", host, port, "", 0 if own else 1, int(params.min_nodes))
    seconds, reach = params.get_as_int("join_timeout", _C10D_JOIN), params.get_as_int("read_timeout", _C10D_READ)
    return Rendezvous(place, str(params.run_id), float(seconds), float(reach))


def announcing(stock: Callable[..., Any]) -> Callable[..., Any]:
    """SimpleElasticAgent._initialize_workers, so that the workers learn which release started them."""

    @functools.wraps(stock)
    def initialize_workers(self: Any, worker_group: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(Exception):  # a rendezvous of the user's own may lack any of this
            import torch

            announce(str(torch.__version__), str(worker_group.spec.rdzv_handler.get_run_id()))
        return stock(self, worker_group, *args, **kwargs)

    initialize_workers.torchskew_guard = initialize_workers  # type: ignore[attr-defined]
    return initialize_workers


# -- start ---------------------------------------------------------------------------------------------------
# The start-up hook: it waits for torch.distributed, and covers its init by a call that loads the guard when needed.
#
# Every Python of an environment may run it, so it is written into a small file of its own, as text: StartHook uses
# nothing but sys until torch.distributed is imported, and the guard itself is loaded by the first init.

START = "torchskew_guard_start"  # the module that the text becomes
MARK = "# Written by torchskew's guard, which also removes it."
_TEXT = '''"""The start-up hook of torchskew's guard: nothing but torch.distributed loads more than this file."""

{mark}
from __future__ import annotations

import sys


{hook}

StartHook({name!r}, {path}).arm()
'''


class StartHook:
    """A finder that finds nothing: it waits for modules of torch.distributed, and covers functions that form groups."""

    # By module: what is covered, and the guard's function that makes the cover. A dot: a method of a class.
    COVERED = {  # noqa: RUF012 - never changed, and typing is not loaded here
        "torch.distributed.distributed_c10d": (
            ("init_process_group", "guarded_init"),
            ("rendezvous", "guarded_rendezvous"),
        ),
        "torch.distributed.elastic.rendezvous.static_tcp_rendezvous": (
            ("StaticTCPRendezvous.next_rendezvous", "guarded_static"),
        ),
        "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend": (("_create_tcp_store", "guarded_c10d"),),
        "torch.distributed.elastic.agent.server.api": (("SimpleElasticAgent._initialize_workers", "announcing"),),
    }

    def __init__(self, name: str, path: str = "") -> None:
        """The guard's module, and its file where that is not to be looked for."""
        self.name, self.path = name, path
        self.loading: set[str] = set()

    def arm(self) -> None:
        """Cover what there is of torch.distributed, and wait for the rest; nothing where the guard is switched off."""
        import os

        if os.environ.get("TORCHSKEW_GUARD", "").strip().lower() != "off":
            self.watch()

    def watch(self) -> None:
        """As arm(), whatever is set."""
        for where in self.COVERED:
            if where in sys.modules:
                self.cover(where)
        if not any(hasattr(each, "COVERED") for each in sys.meta_path):
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """What the other finders find; for a module that is waited for, its loader covers it when it is loaded."""
        if name not in self.COVERED or name in self.loading:
            return None
        self.loading.add(name)
        try:
            for finder in list(sys.meta_path):
                spec = finder.find_spec(name, path, target) if finder is not self else None
                if spec is not None:
                    self.follow(name, spec.loader)
                    return spec
        finally:
            self.loading.discard(name)
        return None

    def follow(self, name: str, loader: Any) -> None:
        """Cover the module once its own loader has run it; a loader that allows no change stays as it is."""
        load = loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            self.cover(name)

        try:
            loader.exec_module = exec_module
        except AttributeError:
            self.say("%s has a loader of its own" % name)

    def cover(self, where: str) -> None:
        """Put a call that loads the guard before each function of a module, wherever torch.distributed has it."""
        for name, maker in self.COVERED[where]:
            owner, _, attribute = name.rpartition(".")
            holder = getattr(sys.modules[where], owner, None) if owner else sys.modules[where]
            stock = getattr(holder, attribute, None)
            if stock is None or hasattr(stock, "torchskew_guard"):
                continue
            if owner:
                setattr(holder, attribute, self.late(stock, maker))
            else:
                self.replace(attribute, stock, self.late(stock, maker))

    @staticmethod
    def replace(name: str, stock: Any, cover: Any) -> None:
        """Every reference to a function under its own name in torch.distributed's modules becomes its cover."""
        for where, module in list(sys.modules.items()):
            if where.startswith("torch.distributed") and getattr(module, "__dict__", {}).get(name) is stock:
                setattr(module, name, cover)

    def late(self, stock: Any, maker: str) -> Any:
        """The function, guarded from its first call on."""
        import functools

        ready: list[Any] = []

        @functools.wraps(stock)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not ready:
                ready.append(self.guarded(stock, maker))
            return ready[0](*args, **kwargs)

        call.torchskew_guard = call  # type: ignore[attr-defined]
        return call

    def guarded(self, stock: Any, maker: str) -> Any:
        """What the guard makes of a function; the function itself where the guard can't be loaded."""
        try:
            return getattr(self.load(), maker)(stock)
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with the guard, the job goes on
            self.say("%s can't be loaded: %s: %s" % (self.path or self.name, type(problem).__name__, problem))
            return stock

    def load(self) -> Any:
        """The guard's module."""
        import importlib.util

        if self.name in sys.modules or not self.path:
            return importlib.import_module(self.name)
        spec = importlib.util.spec_from_file_location(self.name, self.path)
        module = sys.modules[self.name] = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        try:
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        except BaseException:
            del sys.modules[self.name]
            raise
        return module

    @staticmethod
    def say(problem: str) -> None:
        """One line on standard error."""
        try:
            line = "torchskew guard: %s. The init goes on without a comparison of the releases.\n"
            sys.stderr.write(line % " ".join(problem.split()))
        except (OSError, ValueError, AttributeError):
            return


def start_text(name: str, path: str = "") -> str:
    """The file that a Python loads at its start; path: the guard's file as an expression, "" to import it by name."""
    return _TEXT.format(mark=MARK, hook=inspect.getsource(StartHook).rstrip(), name=name, path=path or '""')


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
    nothing to check or nothing could be compared (it says so then). Raises ProtocolVersionError where the group is
    known not to work, under TORCHSKEW_GUARD=strict also where that could not be found out, and never under warn.
    """
    return _compare(backend, timeout, lambda: locate(init_method, world_size, rank))


def _compare(backend: Any, timeout: Any, look: Callable[[], Place | None], store: Any = None) -> Roster | None:
    """As check(), for a group that meets where a look says, or in a store that its init is given."""
    mode = chosen("TORCHSKEW_GUARD", MODES)
    if mode == "off":
        return None
    with Seat(mode) as seat:
        seat.place = place = look()
        if place is None or place.world < 2 or str(backend).lower() in ("mpi", "fake"):
            return None
        mine, seconds = own_hello(place, str(backend or "").lower()), _seconds(timeout, backend)
        mine["bridge"] = readiness(mine, mode, led=getattr(_IN_INIT, "led", False))
        roster = exchange(place, mine, seconds, mode) if store is None else exchange_in(store, mine, seconds, mode)
        for note in notes(roster):
            warn(place.rank, note)
        _note_agent(place)
        _IN_INIT.crossing = crossing(place, mine, roster)
        return roster
    return None


def _note_agent(place: Place) -> None:
    """Warn where the agent that started this worker is of another release, although the group may form."""
    import torch

    agent = launcher() if place.method == "agent" else ""
    if agent not in ("", str(torch.__version__)):
        warn(place.rank, "this worker runs torch %s, the agent that started it %s" % (torch.__version__, agent))


def _seconds(timeout: Any, backend: str | None = None) -> float:
    """The init's timeout as torch reads it: since 2.2 nccl has a default of its own."""
    if timeout is None:
        from torch.distributed import distributed_c10d

        own = getattr(distributed_c10d, "default_pg_nccl_timeout", None) if str(backend).lower() == "nccl" else None
        timeout = own or distributed_c10d.default_pg_timeout
    return float(timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout)


class _Installed(StartHook):
    """The hook of this process: the guard is here already."""

    def guarded(self, stock: Any, maker: str) -> Any:
        """What this guard makes of a function."""
        return globals()[maker](stock)


_HOOK = _Installed(__name__)


def install() -> None:
    """Cover every later init_process_group of this process, and the agents of torchrun; again, it changes nothing.

    A reference to init_process_group that others took before is covered too, by way of torch's own rendezvous, except
    that the backend is not compared then.
    """
    import torch.distributed.distributed_c10d  # noqa: F401 - what is covered first

    _HOOK.watch()


def uninstall() -> None:
    """Undo install(), or what a start-up hook did in this process; calling it without one changes nothing.

    A function that something else has wrapped since then stays as it is: it is not ours to take apart.
    """
    sys.meta_path[:] = [each for each in sys.meta_path if not hasattr(each, "COVERED")]
    for where, rows in StartHook.COVERED.items():
        for name, _ in rows:
            _uncover(where, *name.rpartition(".")[::2])


def _uncover(where: str, owner: str, attribute: str) -> None:
    """Restore one function, wherever torch.distributed has it."""
    for module in filter(None, (sys.modules.get(where), sys.modules.get("torch.distributed"))):
        holder = getattr(module, owner, None) if owner else module
        cover: Any = getattr(holder, attribute, None)
        if getattr(cover, "torchskew_guard", holder) is cover and cover is not None:
            if owner:
                setattr(holder, attribute, cover.__wrapped__)
            else:
                StartHook.replace(attribute, cover, cover.__wrapped__)


def guarded_init(stock: Callable[..., Any]) -> Callable[..., Any]:
    """init_process_group with the check before it."""
    signature = inspect.signature(stock)

    @functools.wraps(stock)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        try:
            expect()
            end_idle_bridges()
            _IN_INIT.led = _is_led()
            spent = _spent(lambda: _before_init(given.arguments))
            _IN_INIT.checked = True
            return _within_timeout(stock, given, spent)
        finally:
            _IN_INIT.checked, _IN_INIT.spent = False, 0.0
            _IN_INIT.led, _IN_INIT.crossing = False, None
            dismiss()

    init_process_group.torchskew_guard = init_process_group  # type: ignore[attr-defined]
    return init_process_group


def _is_led() -> bool:
    """Whether torch's rendezvous, through which a rank comes to a bridge, is covered: something else may be there."""
    from torch.distributed import distributed_c10d

    return hasattr(distributed_c10d.rendezvous, "torchskew_guard")


def _spent(compare: Callable[[], Roster | None]) -> float:
    """The seconds that a comparison took of the init's timeout: none where all ranks are there, or nobody waited."""
    began = time.monotonic()
    compared = compare()
    spent = time.monotonic() - began
    return spent if compared is None and spent > 0.1 else 0.0


def _within_timeout(stock: Callable[..., Any], given: inspect.BoundArguments, spent: float) -> Any:
    """The stock init with what is left of its timeout: a missing rank costs nobody more than without the guard."""
    asked, backend = given.arguments.get("timeout"), given.arguments.get("backend")
    if not spent or not isinstance(asked, (dt.timedelta, type(None))):
        return stock(*given.args, **given.kwargs)
    whole = dt.timedelta(seconds=_seconds(asked, backend))
    if not restorable(backend):
        _IN_INIT.spent = spent  # for the store, where that waits for the ranks
        with ending_by(time.monotonic() + left_of(whole, spent).total_seconds()):
            return stock(*given.args, **given.kwargs)
    given.arguments["timeout"] = left_of(whole, spent)
    result = stock(*given.args, **given.kwargs)
    rank = given.arguments.get("rank", -1)
    restore(whole, rank if type(rank) is int else -1, given_store=given.arguments.get("store") is not None)
    return result


def _before_init(given: Mapping[str, Any]) -> Roster | None:
    """Compare what an init with these arguments would bring together."""
    if given.get("store") is None:
        return check(**{name: given[name] for name in inspect.signature(check).parameters if name in given})
    rank, world = (value if type(value) is int else -1 for value in (given.get("rank"), given.get("world_size")))
    place = Place("store", "", 0, "", rank, world) if 0 <= rank < world else None
    return _compare(given.get("backend"), given.get("timeout"), lambda: place, given["store"])


def guarded_rendezvous(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The rendezvous of torch with the check before it: for what meets without init_process_group."""

    @functools.wraps(stock)
    def rendezvous(url: str, rank: int = -1, world_size: int = -1, **more: Any) -> Any:
        spent = getattr(_IN_INIT, "spent", 0.0)
        if not getattr(_IN_INIT, "checked", False):
            _IN_INIT.led, _IN_INIT.crossing = True, None
            try:
                spent = _spent(lambda: check(None, url, more.get("timeout"), world_size, rank))
            finally:
                _IN_INIT.led = False
        meeting, _IN_INIT.crossing = getattr(_IN_INIT, "crossing", None), None
        if meeting is not None:
            return iter([(bridge_client(meeting, more.get("timeout")), meeting.rank, meeting.world)])
        if isinstance(more.get("timeout"), dt.timedelta) and spent:
            more["timeout"] = left_of(more["timeout"], spent)
        return stock(url, rank, world_size, **more)

    rendezvous.torchskew_guard = rendezvous  # type: ignore[attr-defined]
    return rendezvous


# -- children ------------------------------------------------------------------------------------------------
# Processes that a guarded one starts anew: what spawns, what a launcher runs again, and what those start.
#
# They have nothing of their parent but its environment, so the start-up hook reaches them by PYTHONPATH. The folder is
# one for each user and guard; it stays, because a child may start after its parent has ended.

_CUSTOMIZE = '''"""Loads the start-up hook of torchskew's guard, then the sitecustomize that this one hides."""

{mark}
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
own = sys.modules.pop("sitecustomize", None)
try:
    import torchskew_guard_start
except Exception as problem:
    sys.stderr.write("torchskew guard: this process is not guarded: %s\\n" % problem)
finally:
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]
    try:
        import sitecustomize
    except ImportError as problem:
        if problem.name != "sitecustomize":
            raise
    finally:
        if own is not None:
            sys.modules.setdefault("sitecustomize", own)
'''


def reach_children(name: str, path: str = "") -> None:
    """From now on every Python that this process starts loads the hook, by the environment that it inherits.

    name, path: the guard's module there, and its file. OSError where no folder can be made.
    """
    if START in sys.modules:
        return  # this Python's own environment has the hook
    start = start_text(name, repr(path) if path else "")
    folder = _folder({START + ".py": start, "sitecustomize.py": _CUSTOMIZE.format(mark=MARK)})
    others = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each != folder]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *others])


def _folder(files: dict[str, str]) -> str:
    """A folder of this user's with these files; OSError where anyone else could have written them."""
    digest = hashlib.sha256("".join(files.values()).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = os.path.join(tempfile.gettempdir(), "torchskew-guard-%d-%s" % (user, digest))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    status = os.lstat(folder)
    foreign = hasattr(os, "getuid") and (status.st_uid != user or status.st_mode & 0o022)
    if foreign or not stat.S_ISDIR(status.st_mode):
        raise PermissionError("%s belongs to another user, or others can write it" % folder)
    for name, text in files.items():
        _write(os.path.join(folder, name), text)
    return folder


def _write(path: str, text: str) -> None:
    """The file with this text, whole for whoever reads it meanwhile."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            if file.read() == text:
                return
    except (OSError, UnicodeError):
        pass  # not there yet, or not readable as ours: it is written below, and what can't be written is an error there
    part = "%s.%d.part" % (path, os.getpid())
    with open(part, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.replace(part, path)


# -- launch --------------------------------------------------------------------------------------------------


def main(args: list[str]) -> None:
    """Run a script (or -m module) with its arguments, guarded."""
    if not args or args[0] in ("-h", "--help") or args == ["-m"]:
        sys.exit((__doc__ or "").strip() + "\n\nusage: python torchskew_guard.py [-m] train.py [arguments]")
    _name_this_file()
    install()
    _cover_children()
    if args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = args, os.path.dirname(os.path.abspath(args[0]))
        runpy.run_path(args[0], run_name="__main__")


def _name_this_file() -> None:
    """The script takes the name __main__ over, but pickled errors and the relay's text are found by their module."""
    if __name__ == "__main__":
        name = _own_name()
        sys.modules[name] = sys.modules["__main__"]
        ProtocolVersionError.__module__ = revive.__module__ = Carrier.__module__ = name


def _own_name() -> str:
    """The name under which this one file is imported."""
    return getattr(__spec__, "name", None) or os.path.splitext(os.path.basename(__file__))[0]


def _cover_children() -> None:
    """Reach the processes that the script starts, too; where that fails, one line says so, and the script runs."""
    packaged = ProtocolVersionError.__module__ == "torchskew.guard.errors"
    try:
        if packaged:
            reach_children("torchskew.guard.install")
        else:
            reach_children(_own_name(), os.path.abspath(__file__))
    except (OSError, TypeError) as problem:
        say(int(os.environ.get("RANK") or -1), "processes that this one starts run unguarded: %s" % problem)


if __name__ == "__main__":
    main(sys.argv[1:])
