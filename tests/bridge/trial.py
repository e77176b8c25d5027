"""Every ordered group of these interpreters' releases, with the stock store and through a bridge.

    python -m tests.bridge.trial PYTHON PYTHON [PYTHON …] [--times N] [--only-worlds] [--bridge-only]

Prints the table of docs/bridge.md; with several times, how many of them were right.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from torchskew.inside.kit import AT_A_BRIDGE

from tests.patience import PATIENCE

RANK = Path(__file__).with_name("rank.py")
SECONDS = 40.0  # for a group to form and to reduce, once every rank has imported torch
ENDS = 20.0  # for a rank to end after its answer
Rank = subprocess.Popen[bytes]


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def line(rank: Rank, seconds: float) -> str | None:
    """The next line that a rank prints; None when it prints none in that time, empty when it ended."""
    assert rank.stdout is not None
    text = b""
    until = time.monotonic() + seconds
    while not text.endswith(b"\n"):
        if not select.select([rank.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            return None
        more = os.read(rank.stdout.fileno(), 1)
        if not more:
            return ""
        text += more
    return text.decode().strip()


def answer(rank: Rank, seconds: float, ends: float = ENDS) -> str:
    """What a rank printed, or why it printed nothing; what it printed counts even if it doesn't end by itself."""
    text = line(rank, seconds)
    if text is None:
        return "hang"
    try:
        rank.wait(ends)
    except subprocess.TimeoutExpired:
        return f"{text}, but it did not end"
    assert rank.stderr is not None
    return text or (rank.stderr.read().decode(errors="replace").strip().splitlines() or ["nothing"])[-1][:60]


@contextlib.contextmanager
def ranks(pythons: list[str], port: int, settings: dict[str, str], script: Path = RANK) -> Iterator[list[Rank]]:
    """One process a rank; none outlives the block."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **settings}
    environment |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with contextlib.ExitStack() as stack:
        started = []
        for rank, python in enumerate(pythons):
            command = [python, str(script), str(rank), str(len(pythons))]
            started.append(stack.enter_context(subprocess.Popen(command, env=environment, **pipes)))
            stack.callback(started[-1].kill)
        yield started


def answers(group: list[Rank], clock: Callable[[], float] = time.monotonic) -> list[str]:
    """What each rank printed. The time that imports take, minutes on a busy machine, isn't the group's."""
    for rank in group:
        assert line(rank, PATIENCE) == "imported", "a rank can't import torch"
    until = clock() + SECONDS
    for rank in group:
        assert rank.stdin is not None
        rank.stdin.write(b"join\n")
        rank.stdin.flush()
    return [answer(rank, max(0.0, until - clock())) for rank in group]


def stock(pythons: list[str]) -> list[str]:
    """A group with the store of its rank 0."""
    with ranks(pythons, free_port(), {}) as group:
        return answers(group)


def bridged(pythons: list[str]) -> list[str]:
    """The same group through a bridge of its own."""
    port = free_port()
    command = [sys.executable, "-m", "torchskew.bridge", str(port), "127.0.0.1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as bridge:
        assert bridge.stderr is not None
        bridge.stderr.readline()
        try:
            with ranks(pythons, port, AT_A_BRIDGE) as group:
                return answers(group)
        finally:
            bridge.terminate()
            bridge.stderr.read()


def right(answers: list[str]) -> str:
    """`right`, or what the wrong ranks said."""
    wanted = "1" * len(answers)
    wrong = [f"rank {rank}: {answer}" for rank, answer in enumerate(answers) if answer != wanted]
    return "; ".join(wrong) or "right"


def release(python: str) -> str:
    """The torch release of an interpreter."""
    command = [python, "-c", "import importlib.metadata as m; print(m.version('torch'))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def told(results: list[str]) -> str:
    """One cell of the table."""
    counted = Counter(results)
    if len(results) == 1 or (len(counted) == 1 and "right" not in counted):
        return results[0]
    return ", ".join(f"{number} of {len(results)} {result}" for result, number in counted.most_common())


def main() -> int:
    """Try every ordered pair of the interpreters, and one group of all of them in both orders."""
    parser = argparse.ArgumentParser(prog="python -m tests.bridge.trial", description=__doc__)
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="an interpreter with torch")
    parser.add_argument("--times", type=int, default=1, help="how often each group is tried")
    parser.add_argument("--only-worlds", action="store_true", help="only the group of all, in both orders")
    parser.add_argument("--bridge-only", action="store_true", help="leave the stock store out")
    args = parser.parse_args()
    names = {python: release(python) for python in args.pythons}
    groups = [] if args.only_worlds else [list(pair) for pair in itertools.product(args.pythons, repeat=2)]
    if len(args.pythons) > 2 or args.only_worlds:
        groups += [args.pythons, args.pythons[::-1]]
    sys.stdout.write("| ranks | stock store | through the bridge |\n|---|---|---|\n")
    failed = 0
    for pythons in groups:
        by_stock = "not tried" if args.bridge_only else right(stock(pythons))
        through = [right(bridged(pythons)) for _ in range(args.times)]
        failed += any(result != "right" for result in through)
        sys.stdout.write(f"| {', '.join(names[python] for python in pythons)} | {by_stock} | {told(through)} |\n")
        sys.stdout.flush()
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
