"""Speaks the agent's protocol over real pipes, with a torch of a few lines or a real one."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from torchskew.inside import protocol
from torchskew.inside.job import alone, encode
from torchskew.runtimes.venv import launch

from tests.patience import PATIENCE

TORCH = {
    "__init__.py": "import os\n"
    "if os.environ.get('STUB_BROKEN'):\n"
    "    from torch import _C\n"
    "__version__ = '9.9.0'\n"
    "from torch import distributed, version\n"
    "def set_num_threads(number):\n"
    "    print('threads', number)\n",
    "version.py": "git_version = 'abc'\n",
    "distributed.py": "HashStore = dict\n"
    "made = []\n"
    "def is_available(): return True\n"
    "def is_initialized(): return bool(made)\n"
    "def init_process_group(*names, **options): made.append(options)\n"
    "def destroy_process_group(): print('destroyed', made.pop()['world_size'])\n",
}


class Driver:
    """One agent and what it said. `said` holds every event so far, in order.

    change: a part of the agent's source and what it is to be instead.
    """

    def __init__(
        self, folder: Path, python: str = sys.executable, change: tuple[bytes, bytes] = (b"", b""), **env: str
    ) -> None:
        stub = folder / "stub" / "torch"
        stub.mkdir(parents=True, exist_ok=True)
        for name, text in TORCH.items():
            (stub / name).write_text(text)
        command, more = protocol.agent_command(python, "of a test"), {"PYTHONPATH": str(stub.parent)}
        if python != sys.executable:  # a real store makes look-ups: answered at once, as in the venv runtime
            (folder / "etc").mkdir()
            launch.write_etc(folder / "etc")
            more = {"TORCHSKEW_ETC": str(folder / "etc")}
        environment = {**os.environ, **more, "GLOO_SOCKET_IFNAME": "lo", "TMPDIR": str(folder), **env}
        self.errors = folder / "errors"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        self.said: list[dict] = []
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if python != sys.executable:
            self.raw(launch.preparation())
        self.raw(protocol.boot_line().replace(*change))

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def raw(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, op: str, **fields) -> None:
        self.raw(json.dumps({"op": op, **fields}).encode() + b"\n")

    def get(self) -> dict:
        """The next event; the end of the agent's output is an `end`."""
        line = self._lines.get(timeout=PATIENCE)
        event = json.loads(line) if line else {"event": "end"}
        self.said.append(event)
        return event

    def until(self, event: str, **fields) -> dict:
        """The next event of a kind; earlier ones are kept in `said`."""
        while True:
            found = self.get()
            if found["event"] == event and fields.items() <= found.items():
                return found
            assert found["event"] != "end", f"{self.errors.read_text()}\nno {event} among {self.said}"

    def load(self, source: str, name: str = "it", **env: str) -> dict:
        self.send("load", scenario=name, source=source, file=f"{name}.py", env=env)
        return self.until("loaded", scenario=name)

    def run(self, source: str, rank_id: str = "r0", **job) -> None:
        """Load a scenario and start one rank of it; returns when the agent has it."""
        self.load(source)
        self.start(rank_id, "it", **job)

    def start(self, rank_id: str, scenario: str, **job) -> None:
        """Start a rank of a loaded scenario. job: what differs from a world of one."""
        self.send("run", id=rank_id, scenario=scenario, job=encode(replace(alone(10.0), **job)))

    def exited(self, rank_id: str = "r0") -> dict:
        return self.until("exited", id=rank_id)

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stdout.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pid: int) -> bool:
    """Whether a process ends within the patience of a busy machine."""
    until = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)
