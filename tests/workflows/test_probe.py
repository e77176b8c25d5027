"""The probe tells every store era, a guard and anything else apart, by whole messages only."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from torchskew import cli
from torchskew.errors import ConfigError
from torchskew.guard.host import Host
from torchskew.guard.pace import pace
from torchskew.guard.place import Place
from torchskew.guard.sockets import claim, reset
from torchskew.workflows.probe import ask, parse, probe

from tests.guard.ranks import hello_of
from tests.patience import PATIENCE

Server = Callable[[socket.socket], None]
MAGIC = b"\x00\xce\xf7\x85\x3c"
HALF: list[str] = []  # what an emulated store was left waiting for


def need(conn: socket.socket, size: int) -> bytes:
    """Exactly size bytes, as a legacy store reads them; remembers a message that stopped half-way."""
    data = b""
    while len(data) < size:
        more = conn.recv(size - len(data))
        if not more:
            if data:
                HALF.append(f"{len(data)} of {size} bytes")
            raise ConnectionResetError
        data += more
    return data


def old(conn: socket.socket, opcodes: dict[int, str]) -> None:
    """A store up to 2.1: answers whole requests over no keys; absurd lengths and unknown opcodes close."""
    while True:
        op = opcodes.get(need(conn, 1)[0])
        if op == "count":
            conn.sendall(struct.pack("<q", 3))
        elif op in ("wait", "check", "set"):
            if struct.unpack("<Q", need(conn, 8))[0]:
                raise ConnectionResetError
            conn.sendall(b"\x00")
        else:
            raise ConnectionResetError


def before_1_9(conn: socket.socket) -> None:
    old(conn, {0: "set", 3: "check", 4: "wait", 5: "count"})


def before_2_2(conn: socket.socket) -> None:
    old(conn, {0: "set", 4: "check", 5: "wait", 6: "count"})


def validating(*, pings: bool, silent: bool) -> Server:
    """A store since 2.2; libuv keeps silent towards whoever does not begin with VALIDATE."""

    def serve(conn: socket.socket) -> None:
        if conn.recv(5) != MAGIC:
            if silent:
                conn.recv(1000)
                conn.recv(1)
            raise ConnectionResetError
        while True:
            op = need(conn, 1)[0]
            if op == 7:
                conn.sendall(struct.pack("<q", 3))
            elif op == 13 and pings:
                conn.sendall(need(conn, 4))
            else:
                raise ConnectionResetError

    return serve


def web(conn: socket.socket) -> None:
    conn.recv(1000)
    conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100)


def mute(conn: socket.socket) -> None:
    while conn.recv(1000):
        pass


@pytest.fixture
def listen() -> Iterator[Callable[[Server], int]]:
    """Serve every connection this way; returns the port."""
    servers, threads = [], []

    def serve(server: socket.socket, behave: Server) -> None:
        while True:
            try:
                conn = server.accept()[0]
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(conn, behave)))
            threads[-1].start()

    def one(conn: socket.socket, behave: Server) -> None:
        try:
            behave(conn)
        except OSError:
            reset(conn)
        finally:
            conn.close()

    def start(behave: Server) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threads.append(threading.Thread(target=serve, args=(server, behave)))
        threads[-1].start()
        return int(server.getsockname()[1])

    HALF.clear()
    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("behave", "era", "backend"),
    [
        (before_1_9, "1.7", "legacy"),
        (before_2_2, "1.9", "legacy"),
        (validating(pings=False, silent=False), "2.2", "legacy"),
        (validating(pings=False, silent=True), "2.2", "libuv"),
        (validating(pings=True, silent=False), "2.5", "legacy"),
        (validating(pings=True, silent=True), "2.5", "libuv"),
    ],
    ids=["1.7", "1.9", "2.2", "2.2-libuv", "2.5", "2.5-libuv"],
)
def test_every_era_and_back_end_is_reported(
    listen: Callable[[Server], int], behave: Server, era: str, backend: str
) -> None:
    found = ask("127.0.0.1", listen(behave), patience=0.1)
    assert (found.what, found.era, found.backend) == ("store", era, backend)


@pytest.mark.parametrize(
    "behave", [before_2_2, validating(pings=False, silent=False), validating(pings=True, silent=False)]
)
def test_no_store_from_1_9_on_is_left_with_half_a_message(listen: Callable[[Server], int], behave: Server) -> None:
    """Half a message freezes a legacy store for all its clients."""
    ask("127.0.0.1", listen(behave), patience=0.1)
    assert HALF == []


def busy_at_ping(conn: socket.socket) -> None:
    """A store since 2.5 on a machine that stalls at this moment."""
    if conn.recv(5) == MAGIC:
        need(conn, 4)
        conn.sendall(struct.pack("<4q", 3, 3, 3, 3))
    mute(conn)


def test_a_store_that_is_too_busy_for_ping_is_not_taken_for_an_older_one(listen: Callable[[Server], int]) -> None:
    """From 2.5 on a client can't use an older store: a guard would refuse a job for a stall."""
    assert ask("127.0.0.1", listen(busy_at_ping), patience=0.05).what == "other"


@pytest.mark.parametrize("behave", [web, mute])
def test_what_is_no_store_is_not_called_one(listen: Callable[[Server], int], behave: Server) -> None:
    assert ask("127.0.0.1", listen(behave), patience=0.05).what == "other"


def test_a_closed_port_is_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    text, code = probe(f"127.0.0.1:{port}")
    assert (text, code) == (f"127.0.0.1:{port}: nothing listens there", 1)


def test_a_name_without_an_address_is_not_called_a_silent_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    text, code = probe("nosuch.invalid:80")
    assert (text, code) == ("nosuch.invalid:80: the name nosuch.invalid does not resolve on this machine", 1)
    assert json.loads(probe("nosuch.invalid:80", as_json=True)[0])["what"] == "unresolved"


def test_a_guard_shows_its_table_of_ranks_and_is_not_disturbed() -> None:
    server = claim(0)
    port = server.getsockname()[1]
    place = Place("tcp", "127.0.0.1", port, "", 0, 3)
    mine = hello_of(0, "2.1.2", 3, host="nodea", port=port)
    host = Host(server, place, mine, b"", "era")
    gathering = threading.Thread(target=host.gather, args=(pace(1.0),))
    gathering.start()
    text, code = probe(f"127.0.0.1:{port}")
    as_json = json.loads(probe(f"127.0.0.1:{port}", as_json=True)[0])
    gathering.join()
    host.send(host.roster(), goes_on=False, end=time.monotonic() + 1.0)
    assert code == 0
    assert "a guard collects a group of 3" in text
    assert "ranks 0: torch 2.1.2 on nodea" in text
    assert "still missing: 1-2" in text
    assert as_json["what"] == "guard"
    assert as_json["table"]["knocks"] == {}


def test_json_has_every_field(listen: Callable[[Server], int]) -> None:
    port = listen(before_2_2)
    text, code = probe(f"127.0.0.1:{port}", as_json=True)
    assert code == 0
    assert json.loads(text) == {
        "schema": "1.0",
        "target": f"127.0.0.1:{port}",
        "what": "store",
        "era": "1.9",
        "releases": "1.9 to 2.1",
        "backend": "legacy",
        "table": None,
    }


@pytest.mark.parametrize(
    ("target", "place"),
    [("host:29500", ("host", 29500)), ("[::1]:1", ("::1", 1)), ("10.0.0.1:65535", ("10.0.0.1", 65535))],
)
def test_a_target_is_host_and_port(target: str, place: tuple[str, int]) -> None:
    assert parse(target) == place


@pytest.mark.parametrize(
    "target", ["", "host", ":1", "[]:1", "host:", "host:0", "host:65536", "host:99999", "host:x", "a..b:80"]
)
def test_a_wrong_target_says_how_to_write_it(target: str) -> None:
    with pytest.raises(ConfigError, match=r"HOST:PORT, got .* Write for example 127\.0\.0\.1:29500"):
        parse(target)


@pytest.mark.parametrize(
    ("target", "reason"),
    [("host:99999", "'host:99999': a port is 1 to 65535."), ("a..b:80", "'a..b:80': 'a..b' can't be a host name.")],
)
def test_a_wrong_port_or_name_is_a_usage_error_with_its_reason(
    target: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["probe", target]) == 4
    assert reason in capsys.readouterr().err


def test_the_probe_is_a_command_with_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = f"127.0.0.1:{closed.getsockname()[1]}"
    assert cli.main(["probe", target, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["what"] == "nothing"
    assert cli.main(["probe", "nowhere"]) == 4
    assert "a target is HOST:PORT" in capsys.readouterr().err
