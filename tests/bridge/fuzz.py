"""Mutated conversations of every era, driven into a bridge that serves honest clients meanwhile.

    python -m tests.bridge.fuzz [--minutes 10] [--seed N]

Honest clients of each era must get what they set, nothing may crash, and when all have gone the bridge must hold
nothing but what is stored. Prints what ran; exits with 1 and the seed of the first failure, or where objects are left
alive from bridge to bridge. tests/bridge/test_fuzz.py
runs the same for a moment.
"""

from __future__ import annotations

import argparse
import gc
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Sequence
from random import Random

from torchskew.bridge.eras import FIELDS, OPCODES, STATUS, Era, Field
from torchskew.bridge.limits import Limits
from torchskew.bridge.state import ENTRY

from tests.bridge.conftest import MAGIC, NONCE, Bridge, Peer, key
from tests.patience import PATIENCE

OPENINGS = {
    Era.OLDEST: b"",
    Era.OLD: b"",
    Era.V2_1: b"",
    Era.WATCHER: b"",
    Era.VALIDATING: MAGIC,
    Era.PINGING: MAGIC + b"\x0d" + NONCE,
    Era.STATUS: STATUS,
}
LIMITS = Limits(key=1 << 10, value=1 << 16, keys=100, memory=32 << 20, connections=200)
NAMES = [b"", b"/k", b"/n", b"/q", b"/pg/0//cpu//0/1", b"/pg/0//cpu//0/rank_1", b"//worker/attempt_0/k", b"x" * 1100]


def field(kind: Field, rng: Random) -> bytes:
    """One part of a message, mostly as a client would send it."""
    if kind is Field.KEY:
        return key(rng.choice(NAMES))
    if kind is Field.VALUE:
        return key(rng.choice([b"", b"1", b" -7", b"text", rng.randbytes(rng.choice([136, 170, 178, 5000]))]))
    if kind is Field.NONCE:
        return rng.randbytes(4)
    if kind is Field.INTEGER:
        return struct.pack("<q", rng.choice([0, 1, -1, 2, 3, 1 << 62, -(1 << 63), rng.getrandbits(63)]))
    count = rng.choice([0, 1, 2, 3, 120])
    parts = (field(Field.KEY, rng) + (field(Field.VALUE, rng) if kind is Field.PAIRS else b"") for _ in range(count))
    return struct.pack("<Q", count) + b"".join(parts)


def conversation(era: Era, rng: Random) -> bytes:
    """A client's opening and some operations, then mutated in half of all cases."""
    data = bytearray(OPENINGS[era])
    opcodes = sorted(OPCODES[era])
    for _ in range(rng.randrange(1, 12) if opcodes else 0):
        number = rng.choice(opcodes)
        data.append(number)
        for kind in FIELDS[OPCODES[era][number]]:
            data += field(kind, rng)
    return bytes(data) if rng.random() < 0.5 else mutated(data, rng)


def mutated(data: bytearray, rng: Random) -> bytes:
    """The same bytes, some changed, left out, repeated or added."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(5)
        if how == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif how == 1:
            del data[at:]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.choice([1, 8, 64]))
        elif how == 3:
            data[at:at] = data[at : at + 40]
        else:
            data[at : at + 8] = struct.pack("<Q", rng.choice([0, 1 << 16, (1 << 16) + 1, 1 << 62, (1 << 64) - 1]))
    return bytes(data)


def speak(bridge: Bridge, data: bytes, rng: Random) -> None:
    """Send it in one piece or in several, read or not, and go away in one of three ways."""
    try:
        conn = bridge.raw(data[:1])
        with conn:
            cut = rng.randrange(len(data) + 1) if rng.random() < 0.5 else len(data)
            conn.sendall(data[1:cut])
            conn.sendall(data[max(1, cut) :])
            if rng.random() < 0.3:
                conn.shutdown(socket.SHUT_WR)
            if rng.random() < 0.3:
                conn.settimeout(0.01)
                conn.recv(1 << 16)
            if rng.random() < 0.3:
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    except OSError:
        return  # it was closed, as junk is


def round_of(bridge: Bridge, honest: list[Peer], seed: int) -> Era:
    """One hostile conversation, then every honest client must get what it sets."""
    rng = Random(seed)
    era = rng.choice(list(OPENINGS))
    speak(bridge, conversation(era, rng), rng)
    value = b"%d" % seed
    for number, peer in enumerate(honest):
        peer.set(b"/honest/%d" % number, value)
    for peer in honest:
        assert peer.get(b"/honest/%d" % (seed % len(honest))) == value, "an honest client got another value"
    return era


def holds_nothing_else(bridge: Bridge) -> None:
    """With every client gone, memory is what keys and queues take, and nobody waits."""
    store, until = bridge.server.store, time.monotonic() + PATIENCE
    while bridge.server.connections and time.monotonic() < until:
        time.sleep(0.01)
    assert not bridge.server.connections, "connections are left"
    waits = [*store.waiting, *store.watching, *store.barriers]
    assert not waits, f"clients that have gone still wait for {waits}"
    kept = sum(ENTRY + len(name) + len(value) for name, value in store.values.items())
    for name, queue in store.queues.items():
        kept += ENTRY + len(name) + sum(ENTRY + len(value) for value in queue)
    assert store.size == kept, f"{store.size} bytes are counted, {kept} are kept"


def run(first: int, rounds: int) -> Counter[Era]:
    """So many rounds from this seed on, in a bridge of their own; AssertionError with the seed that failed."""
    bridge = Bridge(LIMITS)
    eras: Counter[Era] = Counter()
    seed = first
    try:
        honest = [bridge.peer(era) for era in ("2.1", "2.2", "2.5")]
        for seed in range(first, first + rounds):
            eras[round_of(bridge, honest, seed)] += 1
        assert bridge.thread.is_alive(), "the bridge has ended"
        for peer in honest:
            peer.conn.close()
        holds_nothing_else(bridge)
    except (AssertionError, OSError) as problem:
        raise AssertionError(f"seed {seed} (a bridge from {first} on): {problem}") from problem
    finally:
        bridge.close()
    return eras


def alive() -> int:
    """How many objects the collector tracks once a bridge has ended."""
    gc.collect()
    return len(gc.get_objects())


def leaks(objects: Sequence[int]) -> bool:
    """Whether every bridge left something: by how many objects were alive after each."""
    return len(objects) > 1 and objects[-1] - objects[0] >= len(objects) - 1


def main() -> int:
    """Run for some minutes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bridge.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    until, seed, eras = time.monotonic() + 60 * args.minutes, args.seed, Counter[Era]()
    memory, objects = [], []
    while time.monotonic() < until:
        try:
            eras += run(seed, 1000)
        except AssertionError as problem:
            sys.stdout.write(f"FAILED: {problem}\n")
            return 1
        seed += 1000
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
        objects.append(alive())
    counted = ", ".join(f"{count} of {era.value}" for era, count in eras.items())
    sys.stdout.write(f"{sum(eras.values())} conversations, no failure: {counted}\n")
    sys.stdout.write(f"most memory after the first thousand {memory[0]} MiB, at the end {memory[-1]} MiB\n")
    sys.stdout.write(f"objects alive after the first bridge {objects[0]}, after the last {objects[-1]}\n")
    return 1 if leaks(objects) else 0


if __name__ == "__main__":
    sys.exit(main())
