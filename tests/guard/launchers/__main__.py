"""`python -m tests.guard.launchers [NAME...]`: a table of what each launcher does under the guard.

Nodes are processes on this machine. One run has one release on every node, another 2.1.2 on the last node and 2.2.2 on
the others. --hook uses the start-up hook of `torchskew guard --into` in place of the wrapper, --bare nothing. --match
and --mismatch name other releases. Not part of CI: the environments take 20 GB, and the runs minutes.

The exit code is 1 where a rank did not train, or a mismatch was not clear on every node; without the guard, a mismatch
may end in any way.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torchskew.guard.environment import into, remove
from torchskew.guard.generate import FILE
from torchskew.runtimes.ownership import OWNER_VARIABLE, RUN_VARIABLE, owner
from torchskew.runtimes.venv.process import ended, of_run

from tests.guard.launchers.commands import LAUNCHERS, Launcher, Node
from tests.guard.launchers.environments import installed, python_of

LIMIT = 400.0  # seconds for one run: whoever is there then hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run came to: of its nodes how many ended clearly, of its ranks how many trained and were guarded."""

    ranks: int
    trained: int
    guarded: int
    nodes: int
    clear: int
    hung: int
    seconds: float
    text: str

    def right(self, kind: str, silent: int, *, guarded: bool) -> bool:
        """Whether every rank trained, guarded where it should be; of a mismatch, every node that speaks is clear."""
        if kind == "match":
            return self.trained == self.ranks and self.guarded == (self.ranks if guarded else 0)
        return not guarded or (not self.trained and not self.hung and self.clear == self.nodes - silent)

    def __str__(self) -> str:
        time_taken = f"{self.seconds:.0f} s"
        if self.trained:
            return f"{self.trained} of {self.ranks} ranks trained, {self.guarded} guarded, {time_taken}"
        hung = f", {self.hung} hung" if self.hung else ""
        return f"clear on {self.clear} of {self.nodes} nodes{hung}, {time_taken}"


def run(launcher: Launcher, releases: tuple[str, ...], *, wrapped: bool, folder: Path) -> Outcome:
    """Start a job's nodes, each with its release, and wait for all of them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    began, started, mark = time.monotonic(), [], f"launcher-{os.getpid()}-{port}"
    wrapper = (str(FILE),) if wrapped else ()
    prefixes = tuple((python_of(release), *wrapper) for release in releases)
    nodes = prefixes[:1] if launcher.alone else prefixes
    for number, (python, *_) in enumerate(nodes):
        node = Node(prefixes=prefixes, number=number, port=port)
        # Text is in a file: a rank that outlives its node would hold a pipe.
        with (folder / f"{port}.{number}").open("wb") as out:
            started.append(subprocess.Popen(launcher.command(node), stdout=out, stderr=subprocess.STDOUT, cwd=folder,
                                            env=_environ(python, folder, mark) | launcher.env(node),
                                            start_new_session=True))  # fmt: skip
    hung = _wait(started, began + LIMIT, mark)
    texts = [(folder / f"{port}.{number}").read_text(errors="replace") for number in range(len(nodes))]
    trained = re.findall(r"trained rank (\d+) of .* (guarded|unguarded)\b", "\n".join(texts), re.MULTILINE)
    return Outcome(
        ranks=launcher.ranks * len(releases), trained=len({rank for rank, _ in trained}), nodes=len(nodes),
        guarded=len({rank for rank, what in trained if what == "guarded"}), hung=hung, text="\n".join(texts),
        clear=sum("Incompatible PyTorch releases" in text for text in texts), seconds=time.monotonic() - began,
    )  # fmt: skip


def _environ(python: str, folder: Path, mark: str) -> dict[str, str]:
    """A small environment, so that nothing of this one counts; it marks what the launchers start."""
    path = os.pathsep.join((str(Path(python).parent), os.environ["PATH"]))
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "",
            RUN_VARIABLE: mark, OWNER_VARIABLE: owner(), "ACCELERATE_USE_CPU": "true",
            "PYTHONUNBUFFERED": "1"}  # fmt: skip


def _wait(started: list[subprocess.Popen[bytes]], deadline: float, mark: str) -> int:
    """How many had to be ended; what they started ends with them."""
    hung = 0
    for each in started:
        try:
            each.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            hung += 1
    for each in started:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(each.pid, signum)
                time.sleep(0.5)
            except ProcessLookupError:
                break
        each.wait()
    ended(of_run(mark))  # Ray's have sessions of their own
    return hung


@contextmanager
def hooked(releases: set[str], *, wanted: bool) -> Iterator[None]:
    """The start-up hook in these environments, while this lasts."""
    pythons = [python_of(release) for release in sorted(releases)] if wanted else []
    try:
        for python in pythons:
            into(python)
        yield
    finally:
        for python in pythons:
            remove(python)


def main(arguments: list[str]) -> int:
    """Print the table, a line as soon as it is known; 1 if one is not as it should be."""
    parser = argparse.ArgumentParser(
        "python -m tests.guard.launchers", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("names", nargs="*", help=f"one or more of: {', '.join(LAUNCHERS)}")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--hook", action="store_true", help="guard by the start-up hook, not by the wrapper")
    ways.add_argument("--bare", action="store_true", help="no guard: what stock PyTorch does")
    parser.add_argument("--match", default="2.13.0", help="the release on every node")
    parser.add_argument("--mismatch", nargs=2, default=("2.2.2", "2.1.2"), help="the others' and the last node's")
    parser.add_argument("--only", choices=("match", "mismatch"), help="one of the two runs")
    parser.add_argument("--show", action="store_true", help="print what the nodes printed")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in LAUNCHERS]
    if unknown:
        parser.error(f"no such launcher: {', '.join(unknown)}")
    wrong = 0
    how = "start-up hook" if asked.hook else "no guard" if asked.bare else "wrapper"
    sys.stdout.write(f"| launcher | {how}, {asked.match} | {how}, {' with '.join(asked.mismatch)} |\n|---|---|---|\n")
    with tempfile.TemporaryDirectory() as folder, hooked({asked.match, *asked.mismatch}, wanted=asked.hook):
        for name in asked.names or LAUNCHERS:
            launcher = LAUNCHERS[name]
            cells = []
            for kind, releases in _runs(launcher, asked.match, *asked.mismatch):
                if asked.only in (None, kind):
                    outcome = run(launcher, releases, wrapped=how == "wrapper", folder=Path(folder))
                    cells.append(str(outcome))
                    wrong += not outcome.right(kind, launcher.silent, guarded=not asked.bare)
                    sys.stderr.write(outcome.text if asked.show else "")
            version = "" if launcher.package == "torch" else f" {installed(python_of(asked.match))[launcher.package]}"
            sys.stdout.write(f"| {name}{version} | {' | '.join(cells)} |\n")
            sys.stdout.flush()
    return 1 if wrong else 0


def _runs(launcher: Launcher, match: str, most: str, last: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The runs of a launcher: the releases of its nodes."""
    yield "match", (match,) * launcher.nodes
    if launcher.nodes > 1:
        yield "mismatch", (*(most,) * (launcher.nodes - 1), last)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
