"""The status page over the bridge's own port: told apart from every store client, and harmless to a real store."""

from __future__ import annotations

import socket
import threading

import pytest
from torchskew.bridge import ask
from torchskew.bridge.eras import OPCODES, STATUS, VALIDATE, Era, era_of_first_byte
from torchskew.bridge.serve import main
from torchskew.cli import main as torchskew
from torchskew.model.versions import Environment

from tests.bridge import compare
from tests.bridge.conftest import Bridge
from tests.patience import PATIENCE

Output = pytest.CaptureFixture[str]


def test_a_running_bridge_tells_its_status(bridge: Bridge, capsys: Output) -> None:
    bridge.peer("2.5").set(b"/a", b"1")
    bridge.peer("2.2")
    assert torchskew(["bridge", "--status", "--bind", "127.0.0.1", "--port", str(bridge.port)]) == 0
    page = capsys.readouterr().out
    assert page.startswith("status: 3 connections, 2 keys")
    assert "1 of 2.5 or later\n" in page
    assert "1 of 2.2 to 2.4\n" in page
    assert main(["--status", str(bridge.port), "127.0.0.1"]) == 0


def test_no_client_of_a_store_begins_as_the_question_does() -> None:
    assert STATUS[0] != VALIDATE
    assert era_of_first_byte(STATUS[0]) is Era.UNKNOWN
    assert all(STATUS[0] not in opcodes for opcodes in OPCODES.values())


@pytest.mark.parametrize("cut", [1, 10])
def test_something_that_begins_like_the_question_is_closed(bridge: Bridge, cut: int) -> None:
    with bridge.raw(STATUS[:cut] + b"\0" * len(STATUS)) as conn:
        assert bridge.peer("2.5").get(b"/x") == b""
        assert _rest(conn) == b""


def test_where_nothing_listens_it_says_so(capsys: Output) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert ask.status(None, port) == 1
    assert f"no status from 127.0.0.1 port {port}: nothing listens there." in capsys.readouterr().err


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_is_no_bridge_is_called_none(answer: bytes, capsys: Output) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answers_once, args=(server, answer))
        thread.start()
        assert ask.status(None, server.getsockname()[1]) == 1
        thread.join(PATIENCE)
    assert "what listens there is no bridge" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("libuv", [False, True])
def test_a_real_store_is_unharmed_by_the_question(
    torch_environment: Environment, capsys: Output, monkeypatch: pytest.MonkeyPatch, *, libuv: bool
) -> None:
    monkeypatch.setattr(ask, "PATIENCE", 0.3)  # a store with libuv never answers
    with compare.peer(torch_environment.handle, PATIENCE) as peer, compare.stock(peer, libuv=libuv) as port:
        assert port is not None
        assert [ask.status(None, port) for _ in range(3)] == [1] * 3
        asked = ["number of keys at first", "add to nothing", "add again", "get a number"]
        answers = peer.ask(port, PATIENCE, asked)
    assert "is no bridge" in capsys.readouterr().err
    assert answers == dict(zip(asked, [0, 5, -2, "-2"], strict=True))


def _rest(conn: socket.socket) -> bytes:
    try:
        return conn.recv(99)
    except ConnectionResetError:
        return b""


def _answers_once(server: socket.socket, answer: bytes) -> None:
    conn, _ = server.accept()
    with conn:
        conn.recv(len(STATUS))
        conn.sendall(answer)
