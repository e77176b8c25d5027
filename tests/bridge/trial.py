"""`python -m tests.bridge.trial PYTHON PYTHON [WORLD …]`: every ordered group of these interpreters' releases, with the
stock store and through a bridge; prints the table of docs/bridge.md."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

RANK = Path(__file__).with_name("rank.py")
BRIDGED = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def group(pythons: list[str], port: int, settings: dict[str, str]) -> tuple[list[str], float]:
    """What each rank printed, and the seconds that the group took, imports included."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **settings}
    environment |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = time.monotonic()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ranks = [
        subprocess.Popen([python, RANK, str(rank), str(len(pythons))], env=environment, **pipes)
        for rank, python in enumerate(pythons)
    ]
    answers = []
    for process in ranks:
        try:
            out, err = process.communicate(timeout=max(1.0, started + 40 - time.monotonic()))
            answers.append(out.strip() or (err.strip().splitlines() or ["nothing"])[-1][:60])
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            answers.append("hang")
    return answers, time.monotonic() - started


def bridged(pythons: list[str]) -> tuple[list[str], float]:
    """The same group through a bridge of its own."""
    port = free_port()
    command = [sys.executable, "-m", "torchskew.bridge", str(port), "127.0.0.1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as bridge:
        assert bridge.stderr is not None
        bridge.stderr.readline()
        try:
            return group(pythons, port, BRIDGED)
        finally:
            bridge.terminate()
            bridge.stderr.read()


def right(answers: list[str]) -> str:
    """`right`, or what the first wrong rank said."""
    wanted = "1" * len(answers)
    wrong = [f"rank {rank}: {answer}" for rank, answer in enumerate(answers) if answer != wanted]
    return "; ".join(wrong) or "right"


def release(python: str) -> str:
    """The torch release of an interpreter."""
    command = [python, "-c", "import importlib.metadata as m; print(m.version('torch'))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main(arguments: list[str]) -> int:
    """Try every ordered pair of the interpreters, and one group of all of them in both orders."""
    names = {python: release(python) for python in arguments}
    groups = [list(pair) for pair in itertools.product(arguments, repeat=2)]
    if len(arguments) > 2:
        groups += [arguments, arguments[::-1]]
    sys.stdout.write("| ranks | stock store | through the bridge |\n|---|---|---|\n")
    failed = 0
    for pythons in groups:
        stock, through = right(group(pythons, free_port(), {})[0]), right(bridged(pythons)[0])
        failed += through != "right"
        sys.stdout.write(f"| {', '.join(names[python] for python in pythons)} | {stock} | {through} |\n")
        sys.stdout.flush()
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
