"""A folder in which real runs are disturbed: a declaration of one release under several names, and what runs leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from torchskew.model.outcomes import Verdict
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.record.record import Record
from torchskew.runtimes.ownership import OWNER_VARIABLE
from torchskew.runtimes.venv.runtime import VenvRuntime

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
TORCH = "torch==2.13.0"
CELLS = '["rendezvous_tcp", "broadcast", "all_gather", "barrier", "torch_save"]'
CHECKS = """
[checks.quick]
command = ["{python}", "-c", "pass"]
[checks.slow]
command = ["{python}", "-c", "import time; time.sleep(0.3)"]
[checks.fails]
command = ["{python}", "-c", "raise SystemExit(3)"]
"""
LOOK = 0.02  # seconds between two looks at what another process does


class _Silent:
    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""


@cache
def interpreter() -> str:
    """The Python of a real torch in the user's own store, made once on this machine and reused."""
    runtime = VenvRuntime()
    try:
        version = Version(name="real", sources=(Source(kind=SourceKind.PIP, value=TORCH),), torch="2.13.0")
        return runtime.provision(version, _Silent()).handle
    finally:
        runtime.close()


@dataclass(slots=True)
class Desk:
    """One project. started: the ids of every harness that ran here, so that what they leave is told from others'.

    source: where every version comes from, as TOML; out: the folder of results, which may be a disk of its own.
    """

    folder: Path
    names: str = "ab"
    source: str = ""
    runtime: str = "venv"
    more: str = CHECKS
    cells: str = CELLS
    out: str = "out"
    timeout: int = 60
    started: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("tmp", "cache"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        source = self.source or f'{{ interpreter = "{interpreter()}", torch = "2.13.0" }}'
        versions = "\n".join(f"{name} = {source}" for name in self.names)
        matrix = f'[matrix]\nruntime = "{self.runtime}"\nscenarios = {self.cells}\ntimeout = {self.timeout}\n'
        (self.folder / "torchskew.toml").write_text(f"[versions]\n{versions}\n{matrix}{self.more}")
        (self.folder / "baseline.toml").write_text("")

    @property
    def environ(self) -> dict[str, str]:
        """Caches and temporary files of this desk's own."""
        own = {"PYTHONPATH": str(ROOT / "harness"), "XDG_CACHE_HOME": str(self.folder / "cache")}
        return {**os.environ, **own, "TMPDIR": str(self.folder / "tmp"), "NO_COLOR": "1"}

    def start(
        self, words: Sequence[str], env: Mapping[str, str] | None = None, **more: object
    ) -> subprocess.Popen[bytes]:
        """The harness as a process in a session of its own; what it prints goes to a file beside the project."""
        with (self.folder / "said.txt").open("wb") as said:
            streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": subprocess.STDOUT, **more}
            process = subprocess.Popen(
                [sys.executable, "-m", "torchskew", *words], cwd=self.folder, env={**self.environ, **(env or {})},
                start_new_session=True, **streams,  # type: ignore[call-overload]
            )  # fmt: skip
        self.started.append(process.pid)
        return process  # type: ignore[no-any-return]

    def run(self, words: Sequence[str], env: Mapping[str, str] | None = None) -> int:
        """A command to its end; its exit code. What it never ends is killed, and the code is -9."""
        process = self.start(words, env)
        with killed_at_the_end(process), suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        return process.wait()

    @property
    def said(self) -> str:
        """What the latest command printed."""
        return (self.folder / "said.txt").read_text(errors="replace")

    @property
    def record_path(self) -> Path:
        """The record's file."""
        return self.folder / self.out / "record.sqlite"

    def finished(self) -> frozenset[str]:
        """The cells of the latest run that are in the record."""
        if not self.record_path.exists():
            return frozenset()
        with Record.open(self.record_path) as record:
            return frozenset(map(str, record.finished("latest"))) if record.runs() else frozenset()

    def verdicts(self) -> dict[str, tuple[Verdict, tuple[str, ...]]]:
        """Verdict and outcomes of every cell of the latest run."""
        with Record.open(self.record_path) as record:
            return {str(each.cell.id): (each.verdict, tuple(each.outcomes)) for each in record.results()}

    def twice(self) -> list[str]:
        """Cells that the latest run has more than one final result of."""
        with Record.open(self.record_path) as record:
            sql = """SELECT cell_id FROM result WHERE run_id = ? AND verdict IN ('PASS', 'FAIL', 'UNSUPPORTED')
             GROUP BY cell_id, repeat HAVING count(*) > 1"""
            return [str(row[0]) for row in record._database.rows(sql, record.resolve("latest"))]

    def processes(self) -> set[int]:
        """What any harness of this desk started and what still runs; the harness itself not counted."""
        return {pid for pid, owner in owned() if owner in self.started}

    def left_behind(self) -> list[str]:
        """Processes, files and folders that no run of this desk should leave; they have a while to go."""
        return _lasting(lambda: [*self._left()])

    def outliving(self) -> list[str]:
        """Processes that outlive a harness that was killed; they have a while to go."""
        return _lasting(lambda: [f"process {pid}" for pid in sorted(self.processes())])

    def _left(self) -> Iterator[str]:
        yield from (f"process {pid}" for pid in sorted(self.processes()))
        yield from (f"file {path}" for path in (self.folder / "tmp").iterdir())
        yield from (f"folder {path}" for path in (self.folder / "cache" / "torchskew" / "runs").glob("*"))
        if self.runtime == "docker":
            yield from containers(self.started)


def _lasting(look: Callable[[], list[str]]) -> list[str]:
    until = time.monotonic() + PATIENCE / 10
    while (left := look()) and time.monotonic() < until:
        time.sleep(LOOK)
    return left


def owned() -> Iterator[tuple[int, int]]:
    """Every process that carries a run's mark, with the id of the harness that owns it."""
    mark = f"{OWNER_VARIABLE}=".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environ = (folder / "environ").read_bytes().split(b"\0")
            owner = next((each[len(mark) :] for each in environ if each.startswith(mark)), b"")
            if owner and (folder / "exe").exists():
                yield int(folder.name), int(owner.partition(b":")[0])


def containers(owners: Iterable[int]) -> Iterator[str]:
    """Containers and networks that these harnesses made and that are still there."""
    import docker

    client = docker.from_env()
    try:
        marked = {"label": "torchskew.owner"}
        things = [*client.containers.list(all=True, filters=marked), *client.networks.list(filters=marked)]
        ids = {str(pid) for pid in owners}
        for thing in things:
            labels = thing.attrs.get("Labels") or thing.attrs.get("Config", {}).get("Labels") or {}
            if labels.get("torchskew.owner", "").partition(":")[0] in ids:
                yield f"container or network {thing.name}"
    finally:
        client.close()


@contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A harness that still runs when the block ends is killed; what it started ends with it."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
