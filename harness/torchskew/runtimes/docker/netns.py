"""Commands in the network of a started container, with the rights that the container itself does not have."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from torchskew.errors import MachineError
from torchskew.runtimes.base import Channel

_SECONDS = 10.0
_TOOLS = ("nsenter", "unshare")
# The exit code by which a tool says that it does not understand us, before it asks the kernel.
_GRAMMAR = {"tc": 1, "iptables": 2}


def why_not(command: Sequence[str]) -> str | None:
    """None when the command works in a fresh network of this machine, else why not; changes nothing outside it."""
    if os.geteuid() != 0:
        return "entering a node's network needs root on the machine of the Docker daemon"
    missing = [tool for tool in (*_TOOLS, command[0]) if shutil.which(tool) is None]
    if missing:
        return f"this machine lacks {', '.join(missing)}"
    code, output = _run(["unshare", "--net", *command])
    if code == 0:
        return None
    who = f"{command[0]} does not know" if code == _GRAMMAR.get(command[0]) else "kernel refuses"
    return f"this machine's {who} `{' '.join(command)}`: {_first(output)}"


def enter(channel: Channel, command: Sequence[str]) -> str:
    """Run a command in the network of a started container; its output.

    Raises:
        MachineError: the channel is no container of this machine, or the command failed.
    """
    code, output = _run(["nsenter", f"--net=/proc/{_pid(channel)}/ns/net", *command])
    if code != 0:
        raise MachineError(f"`{' '.join(command)}` in the network of {channel.host} failed: {_first(output)}")
    return output


def _pid(channel: Channel) -> int:
    """A process of the container: the one of lowest number whose control group names it."""
    ident = str(getattr(channel, "id", ""))
    for pid in sorted(int(folder.name) for folder in Path("/proc").glob("[0-9]*")):
        try:
            if ident and ident in Path(f"/proc/{pid}/cgroup").read_text():
                return pid
        except OSError:
            continue  # it ended meanwhile
    raise MachineError(f"no process of the container at {channel.host} is on this machine: is its daemon elsewhere?")


def _run(command: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout + done.stderr


def _first(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "it said nothing"
