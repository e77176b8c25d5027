"""A bridge as a process of its own, as a job has it, and what the kernel says of its memory."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bridge.trial import free_port


class Process:
    """A bridge that listens on a port of loopback."""

    def __init__(self, process: subprocess.Popen[str], port: int, first: str) -> None:
        self.process, self.port, self.first = process, port, first

    def memory(self, kind: str = "VmRSS") -> int:
        """Its memory in MiB: VmRSS now, VmHWM the most it ever had."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(kind):
                return int(line.split()[1]) >> 10
        raise AssertionError(f"no {kind}")

    def descriptors(self) -> int:
        """How many files it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextlib.contextmanager
def bridge_process() -> Iterator[Process]:
    """Started, listening, ended with the block."""
    port = free_port()
    command = [sys.executable, "-m", "torchskew.bridge", str(port), "127.0.0.1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield Process(process, port, process.stderr.readline())
        finally:
            process.terminate()
            process.stderr.read()
