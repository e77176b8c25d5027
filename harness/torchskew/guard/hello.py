"""A hello: what one rank reports about itself, and how a hello from a stranger is read."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from typing import Any, Tuple, TypedDict, cast

from torchskew.guard.build import eras_of
from torchskew.guard.place import AGENTS, DIRECT, Place
from torchskew.guard.settings import launcher
from torchskew.guard.table import LAST_KNOWN, SERVES, WIRE_SETTINGS, era, known, parse, setting

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
