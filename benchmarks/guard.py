"""What the guard costs.

    python -m benchmarks.guard [--version 2.13.0] [--ranks 2 8 64] [--clients 2000]

Prints: milliseconds it adds to a successful init; seconds of a hello exchange alone and rank 0's memory per client.
benchmarks/contrast.py shows when the last rank knew of a mismatch, without the guard and with it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from torchskew.declaration.declare import for_runtime
from torchskew.declaration.fields import Problems
from torchskew.engine.progress import Plain
from torchskew.errors import HarnessError
from torchskew.guard.generate import FILE
from torchskew.guard.hello import FIELDS
from torchskew.guard.host import Host
from torchskew.guard.joiner import Joiner
from torchskew.guard.pace import pace
from torchskew.guard.place import Place
from torchskew.guard.sockets import claim
from torchskew.guard.table import TABLE, era
from torchskew.runtimes import runtime
from torchskew.runtimes.venv import launch
from torchskew.workflows.inputs import read_declaration

from benchmarks.lookups import without_lookups

HERE = Path(__file__).resolve().parent
WORKERS = 8
MOST_ADDED = {2: 15.0, 64: 100.0}  # milliseconds that the guard may add to an init, by number of ranks


def added(python: str, env: dict[str, str], world: int, rounds: int) -> tuple[float, float]:
    """Median seconds of the slowest joiner's init, without and with the guard; name look-ups are answered at once."""
    words = (str(FILE), str(world), str(rounds))
    with tempfile.TemporaryDirectory() as etc:
        launch.write_etc(Path(etc))
        done = subprocess.run(
            without_lookups(python, HERE / "guard_ranks.py", *words),
            env={**os.environ, **env, "TORCHSKEW_ETC": etc}, check=True, stdout=subprocess.PIPE, text=True, timeout=600,
        )  # fmt: skip
    taken: dict[bool, list[float]] = {False: [], True: []}
    for line in done.stdout.splitlines():
        one = json.loads(line)
        taken[one["guard"]].append(one["seconds"])
    return statistics.median(taken[False]), statistics.median(taken[True])


def said(rank: int, world: int, port: int) -> dict[str, object]:
    """A light client's hello."""
    fields = {name: 0 if kind is int else "" for name, (kind, _) in FIELDS.items()}
    eras = {kind: era(kind, "2.13.0") or "" for kind in TABLE}
    more = {"rank": rank, "world": world, "port": port, "pid": rank, "host": f"node{rank // 8}", "torch": "2.13.0"}
    return {**fields, **eras, **more, "serves": "2.2 2.5", "known": 1, "method": "tcp", "order": "little"}


def exchange(clients: int) -> tuple[float, float, float]:
    """Seconds until every client has the table; of rank 0 per client: bytes of memory, seconds of processor."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = clients + 1
    host = Host(claim(port), place(0, world, port), said(0, world, port), b"", "era")
    before, began, busy = resident(), time.monotonic(), time.process_time()
    children = [fork(range(1 + one, world, WORKERS), world, port) for one in range(WORKERS)]
    table = host.gather(pace(60.0))
    memory = (resident() - before) / clients
    host.send(table, goes_on=False, end=time.monotonic() + 2.0)  # there is no store to wait for
    busy = (time.process_time() - busy) / clients
    codes = [os.waitpid(child, 0)[1] for child in children]
    assert codes == [0] * WORKERS, codes
    return time.monotonic() - began, memory, busy


def place(rank: int, world: int, port: int) -> Place:
    """Where they meet."""
    return Place("tcp", "127.0.0.1", port, "", rank, world)


def fork(ranks: range, world: int, port: int) -> int:
    """A process with a thread per light client."""
    child = os.fork()
    if child:
        return child
    # Real ranks share no interpreter lock: without this, each of the threads that wait for it wakes every 5 ms to ask.
    sys.setswitchinterval(1.0)
    tables: list[dict[str, object]] = []

    def one(rank: int) -> None:
        joiner = Joiner(place(rank, world, port), said(rank, world, port), b"")
        tables.append(joiner.ask(pace(60.0)))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0 if len(tables) == len(ranks) else 1)


def resident() -> int:
    """Bytes this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """All of it; the exit code is 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default="2.13.0")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clients", type=int, default=2000)
    options = parser.parse_args()
    missed = False
    seconds, memory, busy = exchange(options.clients)
    missed |= options.clients == 2000 and seconds > 1.0
    print(f"hello exchange, {options.clients} light clients: {seconds:.2f} s (aim for 2000: under 1 s)")
    print(f"rank 0: {memory / 1024:.1f} KiB and {busy * 1e6:.0f} us of its processor per client")
    where = runtime("venv")
    version = for_runtime(
        read_declaration(HERE.parent / "torchskew.toml").versions[options.version], "venv", Problems("")
    )
    try:
        environment = where.provision(version, Plain(sys.stderr))
    except HarnessError as error:
        print(f"INCOMPLETE: what the guard adds to an init was not measured: {error}")
        return 1
    for world in options.ranks:
        rounds = options.rounds if world < 64 else 3
        bare, guarded = added(
            environment.handle, {**environment.env, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}, world, rounds
        )
        aim = f" (aim: at most {MOST_ADDED[world]:.0f} ms)" if world in MOST_ADDED else ""
        missed |= (guarded - bare) * 1e3 > MOST_ADDED.get(world, float("inf"))
        print(f"{world:3} ranks: init {bare * 1e3:.1f} ms, guarded {guarded * 1e3:.1f} ms: "
              f"{(guarded - bare) * 1e3:+.1f} ms{aim}")  # fmt: skip
    where.close()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
