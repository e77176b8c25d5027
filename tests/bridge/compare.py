"""Sends every operation of the real clients to the real stores and to the bridge, and names each difference.

    python -m tests.bridge.compare PYTHON [PYTHON …] [--across]

Each interpreter's release serves its own stock store (both back ends where it has two) and asks it through its own
client; the same client asks the bridge. With --across each client asks the stock stores of the other releases as well.
The exit code is 1 where the bridge answers otherwise than every stock store of the client's own release, unless NAMED,
and so docs/bridge.md, says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bridge.trial import free_port, release
from tests.patience import PATIENCE

CLIENT = Path(__file__).with_name("store_client.py")
LONG = 6.0  # seconds: legacy stores never answer some operations
JOINS = 20.0  # seconds for a client and a stock store: some that can't talk hang for ever
NAMED = frozenset({"wait, compare_set by another"})  # legacy stores let the waiting client time out
Answers = dict[str, Any]


def tell_line(text: str) -> None:
    """Print at once: a comparison takes minutes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass
class Peer:
    """One release that serves and asks."""

    name: str
    process: subprocess.Popen[bytes]
    buffer: bytes = b""
    backends: dict[str, bool | None] = field(default_factory=dict)

    def hears(self, seconds: float = PATIENCE) -> Answers | None:
        """Its next line."""
        assert self.process.stdout is not None
        while b"\n" not in self.buffer:
            if not select.select([self.process.stdout], [], [], seconds)[0]:
                return None
            more = self.process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            assert more, f"the client of {self.name} ended"
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        heard: Answers = json.loads(line)
        return heard

    def tell(self, **request: object) -> None:
        """Send a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        """End what it serves and asks."""
        self.tell(do="stop")
        while "stopped" not in (self.hears() or {}):
            continue

    def ask(self, port: int, seconds: float, only: Sequence[str] = ()) -> Answers | None:
        """The answers of a store to this release's client; None where it can't join."""
        self.tell(do="ask", port=port, only=only)
        answers = self.hears(seconds)
        self.stop()
        if answers is None or set(answers) == {"error"}:
            tell_line(f"  {self.name} as client can't join: {answers or f'no answer in {seconds:.0f} s'}")
            return None
        return answers


@contextlib.contextmanager
def peer(python: str, long: float = LONG) -> Iterator[Peer]:
    """A release, imported once. long: seconds until its client calls an answer missing that must come."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    env = {**os.environ, "STORE_CLIENT_LONG": str(long)}
    with subprocess.Popen([python, str(CLIENT)], env=env, **pipes) as process:  # type: ignore[call-overload]
        one = Peer(release(python), process)
        imported = one.hears()
        assert imported is not None
        one.backends = imported["backends"]
        yield one
        process.stdin.close()


@contextlib.contextmanager
def stock(server: Peer, libuv: bool | None) -> Iterator[int | None]:
    """The port of a release's own store; None where the release lacks that back end."""
    port = free_port()
    server.tell(do="serve", port=port, libuv=libuv)
    yield port if (server.hears() or {}).get("serves") else None
    server.stop()


@contextlib.contextmanager
def bridge() -> Iterator[int]:
    """The port of a new bridge."""
    port = free_port()
    command = [sys.executable, "-m", "torchskew.bridge", str(port), "127.0.0.1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        try:
            yield port
        finally:
            process.terminate()
            process.stderr.read()


def differences(bridged: Answers, stocks: dict[str, Answers]) -> Iterator[str]:
    """Operations that the bridge and these stores don't all answer alike."""
    for name, answer in bridged.items():
        given = {store: answers.get(name) for store, answers in stocks.items()}
        if any(each != answer for each in given.values()):
            others: dict[str, list[str]] = {}
            for store, each in given.items():
                others.setdefault(json.dumps(each), []).append(store)
            mark = "as some" if answer in given.values() else "named" if name in NAMED else "OTHERWISE"
            told = "; ".join(f"{', '.join(stores)}: {each}" for each, stores in others.items())
            yield f"  {mark} · {name} · bridge: {json.dumps(answer)}; {told}"


def asked(client: Peer, servers: list[Peer]) -> dict[str, Answers]:
    """What the stock stores answer to one client, by store."""
    found = {}
    for server in servers:
        for backend, libuv in server.backends.items():
            with stock(server, libuv) as port:
                answers = None if port is None else client.ask(port, JOINS if server is not client else PATIENCE)
            if answers is not None:
                found[f"{server.name} {backend}"] = answers
    return found


def main() -> int:
    """Compare, print, and say by the exit code whether every answer of the bridge is one of a stock store's."""
    parser = argparse.ArgumentParser(prog="python -m tests.bridge.compare", description=__doc__)
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="an interpreter with torch")
    parser.add_argument("--across", action="store_true", help="ask the stores of the other releases as well")
    args = parser.parse_args()
    other = 0
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer(python)) for python in args.pythons]
        for client in peers:
            stocks = asked(client, peers if args.across else [client])
            with bridge() as port:
                bridged = client.ask(port, PATIENCE)
            assert bridged is not None, f"the client of {client.name} can't join the bridge"
            found = list(differences(bridged, stocks))
            other += sum(line.startswith("  OTHERWISE") for line in found)
            tell_line(f"client {client.name}: {len(bridged)} operations; stores {', '.join(stocks) or 'none'}")
            tell_line("\n".join(found or ["  no difference"]))
    return int(bool(other))


if __name__ == "__main__":
    sys.exit(main())
