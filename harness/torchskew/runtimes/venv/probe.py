"""Asks an interpreter about its torch, in the environment that ranks will have; it may be any program."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from torchskew.errors import ProvisionError
from torchskew.runtimes import processes
from torchskew.runtimes.venv import launch

_PATIENCE = 180.0  # seconds for a first `import torch` on a slow disk
_GREETING_PATIENCE = 30.0  # seconds for a Python to start
_MOST = 1 << 20  # bytes of output: a hundred times what a Python prints here, warnings of torch included
_CHUNK = 1 << 16
_SHOWN = 80  # characters of a stranger's output that an error repeats
_GREETING = b"torchskew: a Python runs this"
_FACTS = b"torchskew: "
_PROBE = """
import sys
print("torchskew: " + "a Python runs this")  # in two parts: a program that prints its arguments is no Python
sys.stdout.flush()
import hashlib, importlib.util, json, os, platform
spec = importlib.util.find_spec("torch")
if spec is None or not spec.origin:
    sys.exit("there is no torch in it")
content = hashlib.sha256()
for folder, folders, names in os.walk(os.path.dirname(spec.origin)):
    folders[:] = sorted(set(folders) - {"__pycache__", "include"})
    for path in [os.path.join(folder, name) for name in sorted(names)]:
        stat = os.stat(path)
        content.update(repr((path, stat.st_size, stat.st_mtime_ns)).encode())
facts = {"python_version": platform.python_version(), "content": content.hexdigest()}
if sys.argv[1] == "import":
    import torch
    facts["reports"] = torch.__version__
    facts["git_version"] = getattr(torch.version, "git_version", None)
sys.stdout.flush()
print("\\ntorchskew: " + json.dumps(facts))
"""


class Depth(StrEnum):
    """How closely to look: where torch is, or what it reports when it is imported."""

    LOOK = "look"
    IMPORT = "import"


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFacts:
    """What a Python says of its torch. content: digest of its files; reports, git_version: known once imported."""

    python_version: str
    content: str
    reports: str = ""
    git_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """What a program printed, and its exit code; None when it was killed, which `why` explains."""

    code: int | None
    out: bytes
    err: bytes
    why: str = ""

    @property
    def greeted(self) -> bool:
        return _GREETING in self.out


def probed(python: str, depth: Depth, what: str) -> TorchFacts:
    """What a Python says of its torch.

    Raises:
        ProvisionError: it is no Python, has no torch that can be imported, or doesn't end.
    """
    try:
        output = _run(python, depth)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProvisionError(f"{what}: {python} can't be started: {reason}. {_fix(python)}") from error
    if not output.greeted:
        raise ProvisionError(f"{what}: {python} is no Python: {_behaviour(output)}. {_fix(python)}")
    if output.code is None:
        raise ProvisionError(f"{what}: `import torch` {output.why}. {_by_hand(python)}")
    if output.code:
        last = (output.err.decode(errors="replace").strip().splitlines() or [f"exit {output.code}"])[-1]
        raise ProvisionError(f"{what}: `import torch` fails: {last}. {_by_hand(python)}")
    facts = _facts(output.out, depth)
    if facts is None:
        text = "`import torch` worked, but what Python printed about it can't be read"
        raise ProvisionError(f"{what}: {text}. {_by_hand(python)}")
    return facts


def facts_from(text: str | bytes, depth: Depth) -> TorchFacts | None:
    """Facts from their JSON; None when it is anything else."""
    try:
        facts = TorchFacts(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (facts.python_version, facts.content, facts.reports, facts.git_version or "")
    whole = all(isinstance(each, str) for each in texts) and bool(facts.reports or depth is Depth.LOOK)
    return facts if whole else None


def _facts(out: bytes, depth: Depth) -> TorchFacts | None:
    """The last line that is ours: torch, or what it loads, may print before and after it."""
    lines = [line.removeprefix(_FACTS) for line in out.splitlines() if line.startswith(_FACTS + b"{")]
    return facts_from(lines[-1], depth) if lines else None


def _behaviour(output: _Output) -> str:
    """What a program that is no Python did instead of answering."""
    printed = (output.out.strip() or output.err.strip())[:_SHOWN].decode(errors="replace")
    shown = "".join(char if char.isprintable() else "·" for char in printed)
    words = f"printed {shown!r}" if shown else "printed nothing"
    return f"it {words} and {output.why or f'ended with {_exit(output.code)}'}"


def _exit(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _fix(python: str) -> str:
    return f"Write the path of a Python, like /opt/venv/bin/python, and see that `{python} --version` answers."


def _by_hand(python: str) -> str:
    return f"See it with: {python} -c 'import torch'. Another release, Python or interpreter may work here."


def _run(python: str, depth: Depth) -> _Output:
    command = [python, "-c", _PROBE, depth]
    environ = launch.environ(python, {})
    with (
        subprocess.Popen(
            command, env=environ, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
        _ended(process),
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        for stream in (process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        return _watched(process, selector)


def _watched(process: subprocess.Popen[bytes], selector: selectors.BaseSelector) -> _Output:
    """Read until the program ends, or does what no Python does."""
    assert process.stdout is not None
    out, err = bytearray(), bytearray()
    began = time.monotonic()
    while True:
        over = process.poll() is not None  # asked before the last read, so that nothing is missed
        ready = selector.select(0 if over else 0.05)
        for key, _ in ready:
            chunk = os.read(key.fd, _CHUNK)
            (out if key.fileobj is process.stdout else err).extend(chunk)
            if not chunk:
                selector.unregister(key.fileobj)
        limit = _PATIENCE if _GREETING in out else min(_PATIENCE, _GREETING_PATIENCE)
        if len(out) > _MOST:
            why = f"printed more than {_MOST >> 20} MiB"
        elif over and not ready:
            return _Output(code=process.returncode, out=bytes(out), err=bytes(err))
        elif time.monotonic() - began > limit:
            why = f"took over {limit:g} s"
        else:
            del err[:-_CHUNK]
            continue
        return _Output(code=None, out=bytes(out), err=bytes(err), why=why)


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The program, and what it started, have ended when the block has."""
    try:
        yield
    finally:
        if process.poll() is None:
            for pid in (*processes.descendants(process.pid), process.pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
