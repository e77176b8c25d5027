"""What both ends of an agent's pipe agree on: the boot line, the protocol number, the files that travel."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

PROTOCOL = 1

# Runs inside the version before anything of ours is there; one line, because some shells log it.
BOOT = (
    "import sys,json,types\n"
    "b=json.loads(sys.stdin.buffer.readline().decode())\n"
    "for n in b['order']:\n"
    "  m=types.ModuleType(n);m.__file__=b['modules'][n]['file'];sys.modules[n]=m\n"
    "  exec(compile(b['modules'][n]['source'],m.__file__,'exec'),m.__dict__)\n"
    "sys.modules[b['main']].main()\n"
)

_HERE = Path(__file__).resolve().parent
# In the order in which they are executed: a later module may import an earlier one.
FILES = {
    "torchskew_guard": _HERE.parent / "guard" / "torchskew_guard.py",
    "torchskew_kit": _HERE / "kit.py",
    "torchskew_child": _HERE / "child.py",
    "torchskew_handle": _HERE / "handle.py",
    "torchskew_place": _HERE / "place.py",
    "torchskew_agent": _HERE / "agent.py",
}


@cache
def boot_line(imports: tuple[str, ...] = ()) -> bytes:
    """The first line an agent reads: every module that travels, as text, and which of the version's to import ahead."""
    modules = {name: {"file": str(path), "source": path.read_text()} for name, path in FILES.items()}
    message: dict[str, object] = {"op": "boot", "modules": modules, "order": list(FILES), "main": "torchskew_agent"}
    message["imports"] = list(imports)
    return json.dumps(message).encode() + b"\n"


@cache
def agent_digest() -> str:
    """Content of everything that travels into a version, part of each cell's cache key."""
    digest = hashlib.sha256()
    for path in FILES.values():
        digest.update(path.read_bytes())
    return digest.hexdigest()
