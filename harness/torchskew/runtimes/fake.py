"""The fake runtime, for tests: scripted versions in this process that obey the agent's protocol."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torchskew.errors import AgentError, ProvisionError
from torchskew.inside.job import decode
from torchskew.inside.protocol import PROTOCOL
from torchskew.model.versions import Environment, Version
from torchskew.runtimes.base import NO_FOLDERS, Folders, Progress, Scope

Script = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
# Keys a script may answer with, besides those of an `exited` event: what a real rank does on its own.
STACKS = """Thread 0x1 (most recent call first):
  File "/python/threading.py", line 7 in run

Current thread 0x2 (most recent call first):
  File "/torch/store.py", line 3 in wait
  File "/torch/group.py", line 2 in _store_based_barrier
  File "scripted.py", line 1 in rank
"""
HANG, REFUSE, DIE = "hang", "refuse", "die"


def right(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
    """The script of a rank that finishes with an empty payload."""
    del job
    return ended(version, finished=True, payload={}, phase="done")


def ended(version: str, *, exit_code: int = 0, signal: str | None = None, **report: Any) -> Mapping[str, Any]:
    """An `exited` event's fields; report: what the rank reported, nothing when it sent none."""
    facts = (
        {"torch": version, "python": "3.11.7", "phase": "run", "phases": {"run": 0.01}, **report} if report else None
    )
    return {"exit": exit_code, "signal": signal, "seconds": 0.01, "report": facts, "log": "", "stacks": ""}


@dataclass(slots=True)
class FakeChannel:
    """One scripted agent. imported: what it was asked to import ahead of its ranks; forgot: see `_op_forget_made`."""

    version: str
    script: Script
    lacks: Mapping[str, str]
    host: str = "127.0.0.1"
    share: str = "/nowhere"
    rank_env: Mapping[str, str] = field(default_factory=dict)
    imported: list[str] = field(default_factory=list)
    forgot: int = 0
    _out: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    _hanging: set[str] = field(default_factory=set)
    _gone: bool = False

    def send(self, line: bytes) -> None:
        """Obey one request at once."""
        if self._gone:
            raise AgentError(f"{self.version} is gone")
        message = json.loads(line)
        getattr(self, f"_op_{message['op']}")(message)

    def lines(self) -> Iterator[bytes]:
        """What the agent wrote, until it ends."""
        while (line := self._out.get()) is not None:
            yield line

    def errors(self) -> str:
        """It writes nothing there."""
        return ""

    def look_inside(self, pid: int) -> str:
        """There is nothing to see."""
        return f"look at {pid}"

    def close(self) -> None:
        """End."""
        self._gone = True
        self._out.put(None)

    def _say(self, event: str, **fields: object) -> None:
        self._out.put(json.dumps({"event": event, **fields}).encode())

    def _op_boot(self, message: Mapping[str, Any]) -> None:
        self.imported += message["imports"]
        self._say("ready", protocol=PROTOCOL, torch=self.version, git_version="0", python="3.11.7", host="here", pid=1)

    def _op_import(self, message: Mapping[str, Any]) -> None:
        self.imported += message["modules"]
        self._say("imported", modules=message["modules"])

    def _op_load(self, message: Mapping[str, Any]) -> None:
        self._say("loaded", scenario=message["scenario"], lacks=dict(self.lacks))

    def _op_run(self, message: Mapping[str, Any]) -> None:
        decode(message["job"])
        answer = dict(self.script(self.version, message["job"]))
        if DIE in answer:
            self.close()
        elif REFUSE in answer:
            self._say("refused", id=message["id"], why=answer[REFUSE])
        else:
            self._say("started", id=message["id"], pid=1)
            self._say("phase", id=message["id"], phase="rendezvous", at=0.0)
            if HANG in answer:
                self._hanging.add(message["id"])
            else:
                self._say("exited", id=message["id"], **answer)

    def _op_hold(self, message: Mapping[str, Any]) -> None:
        if message["id"] in self._hanging:
            fields = {**ended(self.version), "exit": None, "stacks": STACKS}
            self._say("held", id=message["id"], **fields)

    def _op_stacks(self, _: Mapping[str, Any]) -> None:
        """The stacks come with the end."""

    def _op_forget(self, _: Mapping[str, Any]) -> None:
        """Nothing was shared."""

    def _op_forget_made(self, _: Mapping[str, Any]) -> None:
        """Its ranks make nothing; it counts how often it was told to forget that."""
        self.forgot += 1

    def _op_signal(self, message: Mapping[str, Any]) -> None:
        if message["id"] in self._hanging:
            self._hanging.discard(message["id"])
            fields = {**ended(self.version, signal="SIGKILL"), "stacks": STACKS}
            self._say("exited", id=message["id"], **fields)


class FakeRuntime:
    """Versions that are only words.

    script: what each rank does. lacks: what every version lacks, case pattern -> why; lacks_of: what one version lacks
    besides. broken: versions that can't be provisioned.
    """

    name = "venv"  # cells carry the name of a runtime that a declaration knows
    replicas = False
    sees_files = True

    def __init__(
        self,
        script: Script = right,
        lacks: Mapping[str, str] | None = None,
        *,
        lacks_of: Mapping[str, Mapping[str, str]] | None = None,
        broken: tuple[str, ...] = (),
        reports: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing is contacted, here or later. reports: what torch says of itself, by declared name."""
        self.script, self.lacks, self.broken, self.reports = script, lacks or {}, broken, reports or {}
        self.lacks_of = lacks_of or {}
        self.started = 0
        self.open_channels: list[FakeChannel] = []
        self._lock = threading.Lock()

    def answers(self) -> str | None:
        """It always does."""
        return None

    def describe(self) -> str:
        """Name it for what it is."""
        return "fake"

    def provision(self, version: Version, progress: Progress) -> Environment:
        """Every version but the broken ones is there."""
        progress.step(version.name, "made of words")
        if version.name in self.broken:
            raise ProvisionError(f"{version.name} is broken by the test")
        identity, reports = f"fake-{version.name}", self.reports.get(version.name)
        return Environment(version=version.name, runtime=self.name, identity=identity, handle="", reports=reports)

    def open(self, scope: Scope) -> None:
        """Nothing is shared."""

    def start(self, environment: Environment, replica: int, folders: Folders = NO_FOLDERS) -> FakeChannel:
        """A new scripted agent."""
        del replica, folders
        lacks = {**self.lacks, **self.lacks_of.get(environment.version, {})}
        channel = FakeChannel(environment.version, self.script, lacks)
        with self._lock:
            self.started += 1
            self.open_channels.append(channel)
        return channel

    def close(self) -> None:
        """Nothing was made."""

    def sweep(self) -> tuple[str, ...]:
        """Nothing can be left."""
        return ()

    def clear(self) -> tuple[str, ...]:
        """Nothing is kept."""
        return ()

    def room(self, versions: Sequence[Version]) -> None:
        """Words take none."""
        del versions
