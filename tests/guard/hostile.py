"""Hostile peers: mutated bytes and structures driven through both sides of the guard.

    python -m tests.guard.hostile [--minutes 10] [--seed N]

Only the documented errors may come out, no socket and no thread may be left, and honest ranks must be unharmed. Prints
what ran, and exits with 1 and the seed of the first failure. tests/guard/test_hostile.py runs the same for a moment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.exchange import exchange
from torchskew.guard.hello import read_hello
from torchskew.guard.place import Place
from torchskew.guard.refusal import refusal
from torchskew.guard.roster import names, pack_roster, roster_of, unpack_heard, unpack_roster
from torchskew.guard.sockets import reset
from torchskew.guard.verdict import decide, refuses
from torchskew.guard.wire import GREETING, HELLO, MOST_HELLO, NONCE, PEEK, frame, unframe

from tests.guard.ranks import hello_of

DOCUMENTED = (ProtocolVersionError, Unverified)
# Values that stand where others are expected.
JUNK: list[Any] = [
    None, True, False, -1, 0, 1, 2, 1 << 31, 1 << 80, 1.5, float("nan"), float("inf"), "", "x", "0", "1", "0-1", "1-0",
    "0, 1", "0,1", "-", "9" * 30, "9" * 9000, "\n", "\x1b[31m", "\ud800", "٣", "2.5", "2.99", "tcp", "allow:", "era",
    [], {}, [[]], [{}], {"": 0}, {"2.5": "x"}, {"2.5": -1}, {"node0": "0"}, [0] * 300,
]  # fmt: skip


def mutated(value: Any, rng: Random, depth: int = 0) -> Any:
    """The same structure with one thing in it changed, left out or added."""
    if depth < 4 and isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(sorted(value))
        how = rng.random()
        if how < 0.1:
            return {key: each for key, each in value.items() if key != name}
        if how < 0.2:
            return {**value, rng.choice(["more", "heard", "x", ""]): rng.choice(JUNK)}
        return {**value, name: mutated(value[name], rng, depth + 1)}
    if depth < 4 and isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], mutated(value[place], rng, depth + 1), *value[place + 1 :]]
    return rng.choice(JUNK)


def garbled(data: bytes, rng: Random) -> bytes:
    """Bytes cut, flipped, doubled or filled."""
    how = rng.randrange(6)
    place = rng.randrange(len(data) + 1)
    if how == 0:
        return data[:place]
    if how == 1 and data:
        place %= len(data)
        return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
    if how == 2:
        return data[:place] + bytes(rng.randrange(256) for _ in range(rng.randrange(20))) + data[place:]
    if how == 3:
        return data[:place] + data[place:] * 2
    return data if how == 4 else bytes(rng.randrange(256) for _ in range(rng.randrange(200)))


def hello_bytes(rng: Random) -> bytes:
    """A hello that may be anything."""
    hello: Any = hello_of(rng.randrange(3))
    for _ in range(rng.randrange(3)):
        hello = mutated(hello, rng)
    body = json.dumps(hello).encode()
    return garbled(body, rng) if rng.random() < 0.3 else body


def roster_bytes(rng: Random, *, heard: bool = False) -> bytes:
    """A roster that may be anything."""
    releases, world = rng.sample(["2.1.2", "2.2.2", "2.6.0", "2.13.0"], 2), rng.choice([2, 3])
    hellos = [hello_of(rank, release, world) for rank, release in enumerate(releases)]
    roster: Any = roster_of(hellos, "era", {"2.5": 1})  # type: ignore[arg-type]
    roster = {**roster, "heard": ["ab" * NONCE]} if heard else roster
    for _ in range(rng.randrange(4)):
        roster = mutated(roster, rng)
    body = pack_roster(roster) if rng.random() < 0.8 else zlib.compress(garbled(json.dumps(roster).encode(), rng))
    return garbled(body, rng) if rng.random() < 0.2 else body


# Without a socket: what is read, and what is made of it.


def a_hello_is_read(rng: Random) -> None:
    hello = read_hello(hello_bytes(rng))
    if hello is not None:
        roster = roster_of([hello_of(0), hello], "era")  # type: ignore[list-item]
        _follow(unpack_roster(pack_roster(roster)), rng)


def a_roster_is_read(rng: Random) -> None:
    with contextlib.suppress(ValueError):
        _follow(unpack_roster(roster_bytes(rng)), rng)
    with contextlib.suppress(ValueError):
        _follow(unpack_heard(roster_bytes(rng, heard=True))[0], rng)


def a_frame_is_read(rng: Random) -> None:
    with contextlib.suppress(ValueError):
        unframe(b"", bytes(2 * NONCE), garbled(frame(b"", bytes(2 * NONCE), hello_bytes(rng)), rng), MOST_HELLO)


def _follow(roster: Any, rng: Random) -> None:
    """As a joiner does with a roster that was admitted as one."""
    if not names(roster, 1):
        return
    objections = decide(roster)
    refuses(objections, rng.choice(["warn", "enforce", "strict"]), bool(roster["aside"]))
    if objections:
        text = str(refusal(roster, objections, 1))
        assert all(line.isprintable() for line in text.split("\n")), text


# Over sockets and files.


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No socket and no thread more than before, soon after."""
    before = _open_files(), threading.active_count()
    yield
    until = time.monotonic() + 10.0
    while (_open_files() > before[0] or threading.active_count() > before[1]) and time.monotonic() < until:
        time.sleep(0.005)
    assert (_open_files(), threading.active_count()) <= before, "something is left"


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _said(rng: Random) -> bytes:
    """What a hostile client says: a whole conversation, some of it wrong."""
    start = rng.choice([HELLO, HELLO, PEEK, b"", b"\x00\xce\xf7\x85\x3c\x0d", b"GET / HTTP/1.1\r\n"])
    nonces = bytes(NONCE)
    body = hello_bytes(rng)
    talk = start + nonces + rng.choice([frame(b"", nonces * 2, body), struct.pack("!I", rng.randrange(1 << 32)) + body])
    return garbled(talk, rng) if rng.random() < 0.5 else talk


def _attack(port: int, rng: Random, count: int) -> list[socket.socket]:
    """Clients that talk at once and hold on, hang up or reset."""
    held = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            conn = socket.create_connection(("127.0.0.1", port), timeout=1.0)
            held.append(conn)
            if rng.random() < 0.5 and not _answer_greeting(conn, rng):
                conn.sendall(_said(rng))
            how = rng.randrange(3)
            if how == 0:
                conn.close()
            elif how == 1:
                reset(conn)
    return held


def _answer_greeting(conn: socket.socket, rng: Random) -> bool:
    """Say a hello that belongs to this connection, so that its content is read."""
    mine = bytes(NONCE)
    conn.settimeout(0.2)
    conn.sendall(HELLO + mine)
    greeting = conn.recv(len(GREETING) + NONCE)
    if len(greeting) < len(GREETING) + NONCE:
        return False
    conn.sendall(frame(b"", mine + greeting[len(GREETING) :], hello_bytes(rng)))
    return True


def honest_ranks_meet_among_hostile_clients(rng: Random) -> None:
    """With a secret nothing a stranger says may count; without one, only documented errors come out."""
    secret = rng.random() < 0.5
    os.environ["TORCHSKEW_GUARD_SECRET"] = "ours" if secret else ""
    port, results = _free_port(), {}  # type: int, dict[int, Any]

    def run(rank: int) -> None:
        place = Place("tcp", "127.0.0.1", port, "", rank, 2)
        try:
            results[rank] = exchange(place, hello_of(rank, port=port), 4.0)  # type: ignore[arg-type]
        except DOCUMENTED as error:
            results[rank] = error

    with nothing_left():
        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
        threads[0].start()
        _await(port)
        held = _attack(port, rng, rng.randrange(1, 4))
        threads[1].start()
        for thread in threads:
            thread.join(20)
        for conn in held:
            conn.close()
    assert set(results) == {0, 1}, results
    assert not secret or [type(results[rank]) for rank in (0, 1)] == [dict, dict], results


def _await(port: int) -> None:
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        time.sleep(0.002)


def a_joiner_meets_a_hostile_host(rng: Random) -> None:
    """Whatever answers in rank 0's place."""
    os.environ["TORCHSKEW_GUARD_SECRET"] = ""
    with nothing_left():
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(0.05)
        over = threading.Event()
        thread = threading.Thread(target=_hostile_host, args=(server, over, rng))
        thread.start()
        port = server.getsockname()[1]
        place = Place("tcp", "127.0.0.1", port, "", 1, 2)
        with contextlib.suppress(*DOCUMENTED):
            exchange(place, hello_of(1, port=port), 0.2, rng.choice(["warn", "enforce", "strict"]))  # type: ignore[arg-type]
        over.set()
        thread.join(10)
        server.close()


def _hostile_host(server: socket.socket, over: threading.Event, rng: Random) -> None:
    held = []
    while not over.is_set():
        with contextlib.suppress(OSError):
            conn = server.accept()[0]
            held.append(conn)
            conn.settimeout(0.1)
            opening = conn.recv(len(HELLO) + NONCE)
            greeting = GREETING + bytes(NONCE)
            conn.sendall(garbled(greeting, rng) if rng.random() < 0.2 else greeting)
            conn.recv(4096)
            answer = frame(b"", opening[len(HELLO) :] + bytes(NONCE), roster_bytes(rng)) + b"G"
            conn.sendall(garbled(answer, rng) if rng.random() < 0.4 else answer)
            if rng.random() < 0.7:
                conn.close()
    for conn in held:
        conn.close()


def honest_ranks_meet_in_a_littered_folder(rng: Random) -> None:
    """Files of anyone lie in the folder, and more come."""
    os.environ["TORCHSKEW_GUARD_SECRET"] = ""
    results: dict[int, Any] = {}
    with nothing_left(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "init"
        place = Path(folder) / "init.torchskew"
        place.mkdir()
        for name in rng.sample(["session", "table", "ab" * NONCE, "cd" * NONCE, "x"], 3):
            (place / name).write_bytes(garbled(frame(b"", bytes(NONCE), roster_bytes(rng, heard=True)), rng))

        def run(rank: int) -> None:
            try:
                where = Place("file", "", 0, str(path), rank, 2)
                results[rank] = exchange(where, hello_of(rank, method="file"), 8.0)  # type: ignore[arg-type]
            except DOCUMENTED as error:
                results[rank] = error

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        with contextlib.suppress(OSError):
            session = (place / "session").read_bytes()
            body = frame(b"", session + bytes.fromhex("ef" * NONCE), hello_bytes(rng))
            (place / ("ef" * NONCE)).write_bytes(garbled(body, rng) if rng.random() < 0.9 else body)
        for thread in threads:
            thread.join(20)
    assert set(results) == {0, 1}, results


READ: tuple[Callable[[Random], None], ...] = (a_hello_is_read, a_roster_is_read, a_frame_is_read)
MET = (honest_ranks_meet_among_hostile_clients, a_joiner_meets_a_hostile_host, honest_ranks_meet_in_a_littered_folder)


def main() -> int:
    """Run for some minutes; 1 at the first failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, seed, counts = time.monotonic() + 60 * options.minutes, options.seed, dict.fromkeys((*READ, *MET), 0)
    while time.monotonic() < end:
        for drive in (*READ * 3000, *MET):
            seed += 1
            try:
                drive(Random(seed))
            except Exception:  # noqa: BLE001 - each is what this looks for
                traceback.print_exc()
                sys.stdout.write(f"FAILED: {drive.__name__} with seed {seed}\n")
                return 1
            counts[drive] += 1
    sys.stdout.write("".join(f"{count:9} {drive.__name__}\n" for drive, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
