"""What both ends of an agent's pipe agree on: the boot line, the protocol number, the files that travel."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

PROTOCOL = 1

# The whole program in an agent's command line: it runs what the first line of its standard input holds.
LOADER = "import json,sys;b=json.loads(sys.stdin.buffer.readline());exec(b['start'])"
_START_AGENT = (
    "import types\n"
    "for n in b['order']:\n"
    "  m=types.ModuleType(n);m.__file__=b['modules'][n]['file'];sys.modules[n]=m\n"
    "  exec(compile(b['modules'][n]['source'],m.__file__,'exec'),m.__dict__)\n"
    "sys.modules[b['main']].main()\n"
)
# Runs one file in the process itself, then waits for the next line.
_PREPARE = "exec(compile(b['source'],b['file'],'exec'))\n" + LOADER

_HERE = Path(__file__).resolve().parent
# The scenario that runs a user's command.
COMMAND = _HERE / "command.py"
# In the order in which they are executed: a later module may import an earlier one.
FILES = {
    "torchskew_guard": _HERE.parent / "guard" / "torchskew_guard.py",
    "torchskew_job": _HERE / "job.py",
    "torchskew_kit": _HERE / "kit.py",
    "torchskew_tree": _HERE / "tree.py",
    "torchskew_kinds": _HERE / "kinds.py",
    "torchskew_mounts": _HERE / "mounts.py",
    "torchskew_pages": _HERE / "pages.py",
    "torchskew_program": _HERE / "program.py",
    "torchskew_child": _HERE / "child.py",
    "torchskew_handle": _HERE / "handle.py",
    "torchskew_place": _HERE / "place.py",
    "torchskew_suite": _HERE / "suite.py",
    "torchskew_isolation": _HERE / "isolation.py",
    "torchskew_agent": _HERE / "agent.py",
}


def agent_command(python: str, version: str) -> tuple[str, ...]:
    """The command line of a version's agent, short enough to be read in a list of processes."""
    return (python, "-u", "-c", LOADER, "torchskew-agent", version)


@cache
def prepare_line(path: Path) -> bytes:
    """A first line that runs a file in the agent's process before the boot line is read."""
    message = {"op": "prepare", "file": str(path), "source": path.read_text(), "start": _PREPARE}
    return json.dumps(message).encode() + b"\n"


@cache
def boot_line(imports: tuple[str, ...] = ()) -> bytes:
    """The line that makes a process an agent: each module that travels, as text, and what to import before `ready`."""
    modules = {name: {"file": str(path), "source": path.read_text()} for name, path in FILES.items()}
    message: dict[str, object] = {"op": "boot", "modules": modules, "order": list(FILES), "main": "torchskew_agent"}
    message.update(imports=list(imports), start=_START_AGENT)
    return json.dumps(message).encode() + b"\n"
