"""What a build between two releases shows of itself: its label doesn't say which side of a border its commit is on."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import os
import subprocess
import sys

from torchskew.guard.greeting import greeting_era
from torchskew.guard.settings import MODES, chosen
from torchskew.guard.table import TABLE, before, era, guessed, parse

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
