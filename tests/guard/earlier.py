"""A peer whose guard is of torchskew 0.1: what it says, and what it takes for a hello and for a roster."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torchskew.guard.roster import roster_of
from torchskew.guard.sockets import dial, read_greeting, receive, reset
from torchskew.guard.wire import GREETING, HELLO, MAC, MOST_HELLO, NONCE, OPENING, frame, unframe

from tests.guard.ranks import PATIENCE, hello_of

# Written out: what 0.1 sends and takes must not follow the table of fields.
PERSONAL = {"rank", "host", "pid"}
FIELDS = PERSONAL | {"world", "port", "torch", "git", "python", "backend", "method", "job", "order", "nccl", "store",
                     "gloo", "keys", "agent", "serves", "settings", "known", "last"}  # fmt: skip
ROSTER = {"world", "policy", "groups", "more", "missing", "twice", "outside", "knocks", "where"}


def hello_of_0_1(rank: int, release: str, **more: Any) -> dict[str, Any]:
    """The hello of a rank."""
    return {name: value for name, value in hello_of(rank, release, **more).items() if name in FIELDS}


def read(body: bytes | None) -> dict[str, Any] | None:
    """A hello in bytes; 0.1 takes exactly its own fields."""
    fields = json.loads(body or b"{}")
    return fields if set(fields) == FIELDS else None


def packed(hellos: Iterable[dict[str, Any]], **more: Any) -> bytes:
    """A roster as rank 0 sends it."""
    whole = [{**hello_of(hello["rank"]), **hello} for hello in hellos]
    roster = {name: value for name, value in roster_of(whole, "era").items() if name in ROSTER}  # type: ignore[arg-type]
    facts = (FIELDS - PERSONAL) | {"ranks", "hosts"}
    groups = [{name: each[name] for name in facts} for each in roster["groups"]]  # type: ignore[attr-defined]
    return zlib.compress(json.dumps({**roster, "groups": groups, **more}).encode())


def unpacked(body: bytes | None) -> dict[str, Any]:
    """A roster with at least the fields that 0.1 knows."""
    roster = json.loads(zlib.decompress(body or b""))
    assert set(roster) >= ROSTER
    assert all(set(group) >= (FIELDS - PERSONAL) | {"ranks", "hosts"} for group in roster["groups"])
    return dict(roster)


class Earlier:
    """One rank of two with the guard of 0.1, as a thread; roster: what it decides from."""

    def __init__(self, rank: int, release: str, port: int, path: Path | None = None) -> None:
        self.mine = hello_of_0_1(rank, release, method="file" if path else "tcp", port=0 if path else port)
        self.port, self.folder, self.roster = port, Path(f"{path}.torchskew"), {}  # type: int, Path, dict[str, Any]
        works = (self.join, self.host) if path is None else (self.answer, self.gather)
        self.thread = threading.Thread(target=works[rank == 0], daemon=True)
        self.thread.start()

    def result(self) -> dict[str, Any]:
        """The roster of both ranks."""
        self.thread.join(PATIENCE)
        return self.roster

    def host(self) -> None:
        """Rank 0: hang up on whatever is no hello, until one is."""
        until = time.monotonic() + PATIENCE
        with socket.create_server(("127.0.0.1", self.port)) as server:
            while not self.roster:
                conn = server.accept()[0]
                opening = receive(conn, OPENING, until)
                if not opening.startswith(HELLO):
                    reset(conn)
                    continue
                nonces = opening[len(HELLO) :] + os.urandom(NONCE)
                conn.sendall(GREETING + nonces[NONCE:])
                head = receive(conn, 4 + MAC, until)
                data = head + receive(conn, struct.unpack("!I", head[:4])[0], until)
                hello = read(unframe(b"", nonces, data, MOST_HELLO))
                if hello is None:
                    reset(conn)
                    continue
                body = packed([self.mine, hello])
                self.roster = unpacked(body)
                conn.sendall(frame(b"", nonces, body) + b"G")
                with contextlib.suppress(OSError):
                    conn.recv(1)  # the joiner closes first
                reset(conn)

    def join(self) -> None:
        """Any other rank by address."""
        until = time.monotonic() + PATIENCE
        while not self.roster:
            try:
                conn, nonce = dial("127.0.0.1", self.port, HELLO, PATIENCE)
            except ConnectionRefusedError:
                threading.Event().wait(0.01)
                continue
            with conn:
                nonces = nonce + read_greeting(conn, PATIENCE)
                conn.sendall(frame(b"", nonces, json.dumps(self.mine).encode()))
                head = receive(conn, 4 + MAC, until)
                data = head + receive(conn, struct.unpack("!I", head[:4])[0], until)
                self.roster = unpacked(unframe(b"", nonces, data, 1 << 20))
                receive(conn, 1, until)

    def gather(self) -> None:
        """Rank 0 by file."""
        self.folder.mkdir()
        session, heard = os.urandom(NONCE), {}  # type: bytes, dict[str, dict[str, Any]]
        self.put("session", session)
        for _ in self.polls():
            for file in self.folder.glob("?" * 2 * NONCE):
                nonces = session + bytes.fromhex(file.name)
                hello = read(unframe(b"", nonces, file.read_bytes(), MOST_HELLO))
                heard.update({file.name: hello} if hello else {})
            if heard:
                body = packed([self.mine, *heard.values()], heard=sorted(heard))
                self.roster = unpacked(body)
                self.put("table", frame(b"", session, body))
                return

    def answer(self) -> None:
        """Any other rank by file."""
        nonce = os.urandom(NONCE)
        for _ in self.polls():
            if not (self.folder / "session").exists():
                continue
            session = (self.folder / "session").read_bytes()
            if not (self.folder / nonce.hex()).exists():
                self.put(nonce.hex(), frame(b"", session + nonce, json.dumps(self.mine).encode()))
            if (self.folder / "table").exists():
                roster = unpacked(unframe(b"", session, (self.folder / "table").read_bytes(), 1 << 20))
                assert roster["heard"] == [nonce.hex()]
                self.roster = roster
                (self.folder / nonce.hex()).unlink()
                return

    def put(self, name: str, data: bytes) -> None:
        """A whole file or none."""
        (self.folder / "part").write_bytes(data)
        (self.folder / "part").replace(self.folder / name)

    def polls(self) -> Iterable[None]:
        """Until PATIENCE is over."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            yield
            threading.Event().wait(0.005)
