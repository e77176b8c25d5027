"""The contract of docs/guard.md: what each mode may do to a job, whatever the guard meets."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import select
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torchskew.guard import exchange, install, joiner, notice, usher
from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.hello import hello_body
from torchskew.guard.host import Host
from torchskew.guard.install import check
from torchskew.guard.pace import pace
from torchskew.guard.roster import pack_roster, roster_of
from torchskew.guard.sockets import claim
from torchskew.guard.wire import GREETING, HELLO, NONCE, frame

from tests.guard.ranks import FAR, PATIENCE, Group, connect, greeted, hello_of
from tests.guard.stub import Stub
from tests.guard.waiting import WaitingClock, put_in_place

SLOW = pytest.mark.slow
# What the contract allows under warn, in seconds of waiting.
MOST = 2.0


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose every client gets this answer, until the block ends."""
    server, over, threads = socket.create_server(("127.0.0.1", 0)), threading.Event(), []

    def handle(conn: socket.socket) -> None:
        with conn:
            try:
                answer(conn)
                over.wait(PATIENCE)
            except OSError:
                return

    def run() -> None:
        while not over.is_set():
            try:
                conn = server.accept()[0]
            except OSError:
                return
            threads.append(threading.Thread(target=handle, args=(conn,), daemon=True))
            threads[-1].start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for each in (thread, *threads):
            each.join(PATIENCE)


def silent(_conn: socket.socket) -> None:
    """Accept and say nothing."""


def half_a_greeting(conn: socket.socket) -> None:
    conn.recv(100)
    conn.sendall(GREETING[:5])


def _greet(conn: socket.socket) -> bytes:
    """Speak as a guard until its roster is due; both nonces."""
    opening = conn.recv(len(HELLO) + NONCE)
    if not opening.startswith(HELLO):
        raise ConnectionResetError
    conn.sendall(GREETING + bytes(NONCE))
    conn.recv(4096)
    return opening[len(HELLO) :] + bytes(NONCE)


def greets_and_waits(conn: socket.socket) -> None:
    _greet(conn)


def half_a_table(conn: socket.socket) -> None:
    _greet(conn)
    conn.sendall(struct.pack("!I", 500) + b"half")


def malformed_table(conn: socket.socket) -> None:
    nonces = _greet(conn)
    conn.sendall(
        frame(b"", nonces, pack_roster({**roster_of([hello_of(0), hello_of(1)], "era"), "knocks": {"x": "y"}}))
    )


def table_without_groups(conn: socket.socket) -> None:
    nonces = _greet(conn)
    conn.sendall(frame(b"", nonces, pack_roster({**roster_of([hello_of(0), hello_of(1)], "era"), "groups": []})))


def wrong_secret(conn: socket.socket) -> None:
    _greet(conn)
    conn.close()


PEERS = [silent, half_a_greeting, greets_and_waits, half_a_table, malformed_table, table_without_groups, wrong_secret]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs count soon, and the deadline is far: what ends the wait is not the deadline."""

    def early(_seconds: float, mode: str) -> Any:
        return pace(2.0, mode)._replace(deadline=time.monotonic() + FAR, end=time.monotonic() + FAR)

    monkeypatch.setattr(exchange, "pace", early)
    monkeypatch.setattr("torchskew.guard.sockets.MID_SENTENCE", 0.2)
    monkeypatch.setattr(joiner, "BUSY", 0.5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WaitingClock:
    clock = WaitingClock()
    put_in_place(clock, monkeypatch)
    return clock


# warn


@SLOW
@pytest.mark.parametrize("peer", PEERS)
def test_warn_adds_two_seconds_at_most_whatever_answers(
    stub: Stub,
    clock: WaitingClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    peer: Callable[[Any], None],
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    install.install()
    with serving(peer) as port:
        stub.dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", dt.timedelta(seconds=60), 2, 1)
        waited = clock.waited
    assert waited <= MOST
    assert stub.calls[0][0] == "init"
    assert len(lines(capsys)) == 1


@SLOW
def test_warn_adds_two_seconds_at_most_where_a_rank_does_not_let_go(
    stub: Stub, where: str, clock: WaitingClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to 2.0 the store holds the interpreter's lock, so rank 0 itself waits until the joiners have closed."""
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    stub.torch.__version__ = "1.13.1"  # type: ignore[attr-defined]
    port, held = int(where.rpartition(":")[2]), []

    def hold() -> None:
        connect(port).close()
        conn, nonces = greeted(port)
        held.append(conn)
        hello = hello_of(1, "1.13.1", world=3, port=port, git="abc")
        conn.sendall(frame(b"", nonces, hello_body(hello, marked=True)))  # type: ignore[arg-type]

    thread, opened = threading.Thread(target=hold, daemon=True), Host.open

    def arrived(host: Host) -> None:
        opened(host)
        while not host.arrivals.peers and thread.is_alive():
            host.serve(0.01)
        clock.waited = 0.0  # the rank's hello may take as long as it likes

    monkeypatch.setattr(Host, "open", arrived)
    thread.start()
    assert check("gloo", where, 60, 3, 0) is None
    thread.join(PATIENCE)
    assert 1.0 < clock.waited <= MOST
    (line,) = lines(capsys)
    assert "rank 2 never said hello" in line
    held[0].close()


@pytest.fixture
def places(where: str, tmp_path: Any) -> dict[str, str]:
    """The init_method by the way that ranks meet."""
    return {"tcp": where, "agent": where, "file": f"file://{tmp_path}/init"}


@SLOW
@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("meeting", [(rank, method) for rank in (0, 1) for method in ("tcp", "agent", "file")])
def test_warn_adds_two_seconds_at_most_where_nobody_comes(
    places: dict[str, str],
    clock: WaitingClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    meeting: tuple[int, str],
) -> None:
    rank, method = meeting
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", str(method == "agent"))
    assert check("gloo", places[method], 60, 2, rank) is None
    assert clock.waited <= MOST
    (line,) = lines(capsys)
    assert line.startswith(f"torchskew guard, rank {rank}: ")
    assert line.endswith("The init goes on without a comparison of the releases.")


@SLOW
def test_warn_adds_two_seconds_at_most_where_the_name_service_is_stuck(
    stub: Stub,
    where: str,
    clock: WaitingClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    stuck, stock = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "master.example":
            if kwargs.get("flags"):
                raise socket.gaierror(socket.EAI_NONAME, "no number")
            stuck.wait(PATIENCE)
        return stock("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    check("gloo", where.replace("127.0.0.1", "master.example"), 60, 2, 1)
    assert clock.waited <= MOST
    stuck.set()
    assert "the name master.example did not resolve within 0.6 s" in lines(capsys)[0]


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("problem", [OSError("x"), MemoryError(), RuntimeError("x"), ValueError("x"), KeyError("x")])
@pytest.mark.parametrize("mode", ["warn", "enforce", "strict"])
def test_whatever_keeps_the_guard_from_its_work_is_one_line_and_only_strict_refuses(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, problem: Exception
) -> None:
    def broken(*_args: Any) -> None:
        raise problem

    monkeypatch.setenv("TORCHSKEW_GUARD", mode)
    monkeypatch.setattr(install, "exchange", broken)
    if mode == "strict":
        with pytest.raises(ProtocolVersionError, match="could not be compared") as refused:
            check("gloo", where, 60, 2, 1)
        assert refused.value.kind == "unverified"
        return
    assert check("gloo", where, 60, 2, 1) is None
    assert len(lines(capsys)) == 1


@pytest.mark.parametrize("name", ["TORCHSKEW_GUARD_PORT", "TORCHSKEW_GUARD_POLICY"])
def test_warn_says_a_misspelt_setting_and_goes_on(
    stub: Stub, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    monkeypatch.setenv(name, "exakt")
    assert check("gloo", where, 60, 2, 1) is None
    assert name in lines(capsys)[0]


def test_a_warning_never_raises_even_where_warnings_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notice.warn(3, "two lines\nof text")
    assert lines(capsys) == ["torchskew guard, rank 3: two lines of text"]


@pytest.mark.parametrize("wrapper", ["functools.py", "torchskew_guard_start.py", "torch/distributed/c10d_logger.py"])
def test_a_warning_points_at_the_users_line(
    stub: Stub, where: str, monkeypatch: pytest.MonkeyPatch, wrapper: str
) -> None:
    """Not at what stands between it and the guard: a decorator of torch's, or the start-up hook."""

    def mismatch(*_args: Any) -> None:
        raise ProtocolVersionError("mixed", kind="version", rank=0)

    monkeypatch.setenv("TORCHSKEW_GUARD", "warn")
    monkeypatch.setattr(install, "exchange", mismatch)
    install.install()
    between: dict[str, Any] = {}
    exec(compile("def call(init, *args): init(*args)", f"/site/{wrapper}", "exec"), between)
    with pytest.warns(RuntimeWarning, match="mixed") as caught:
        between["call"](stub.dist.init_process_group, "gloo", where, 8, 2, 0)
    assert caught[0].filename == __file__


# enforce and strict


@SLOW
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("peer", [half_a_table, malformed_table, table_without_groups, wrong_secret])
def test_enforce_steps_aside_where_the_other_side_can_not_be_understood(
    group: Group, peer: Callable[[Any], None]
) -> None:
    with serving(peer) as port:
        group.port = port
        group.start(1, hello_of(1))
        result = group.join()[1]
    assert isinstance(result, Unverified)
    assert "its guard closed the connection" in str(result)


@SLOW
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("era", "mode", "result"), [
    ("00cef7853c0d7f7f0102", "enforce", Unverified),
    ("00cef7853c0d7f7f0102", "strict", ProtocolVersionError),
    ("030500000000000000696e69742f0100000000000000", "enforce", ProtocolVersionError),
])  # fmt: skip
def test_a_rank_without_the_guard_is_refused_only_where_its_store_era_can_not_work(
    group: Group, era: str, mode: str, result: type
) -> None:
    group.mode = mode
    group.start(0, hello_of(0, world=3))
    group.start(1, hello_of(1, world=3))
    with connect(group.port) as stock:
        stock.sendall(bytes.fromhex(era))
        results = group.join()
    assert [type(results[rank]) for rank in (0, 1)] == [result] * 2


@SLOW
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("mode", ["enforce", "warn"])
def test_stock_clients_reach_the_store_where_rank_0_steps_aside(
    group: Group, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of 2.4 and older do not connect again after a reset."""
    group.mode = mode
    group.start(0, hello_of(0, world=3))
    greeting = bytes.fromhex("00cef7853c04")  # VALIDATE and the opcode of ADD, as releases 2.2 to 2.4 send it
    roster, came = Host.roster, []

    def at_the_last_moment(host: Host) -> Any:
        came.append(connect(group.port))
        return roster(host)

    monkeypatch.setattr(Host, "roster", at_the_last_moment)
    with connect(group.port) as stock:
        stock.sendall(greeting)
        assert isinstance(group.join()[0], Unverified)
        (late,) = came
        store = claim(group.port)
        for waiting in (store, stock, late):
            waiting.settimeout(PATIENCE)
        # Each still waits; a client that was reset is ready at once.
        assert select.select([store, stock, late], [], [], PATIENCE)[0] == [store]
        taken = [store.accept()[0] for _ in range(2)]
        late.sendall(b"late")
        heard = {conn: conn.recv(6) for conn in taken}
        assert sorted(heard.values()) == [greeting, b"late"]
        for conn, data in heard.items():
            conn.sendall(data[::-1])
            conn.close()
        assert [stock.recv(10), late.recv(10)] == [greeting[::-1], b"etal"]
        assert [stock.recv(10), late.recv(10)] == [b"", b""]  # the store's end is the clients' end
        late.close()
        store.close()


@SLOW
def test_a_missing_rank_is_no_accusation_and_ends_with_the_inits_own_timeout(group: Group, clock: WaitingClock) -> None:
    group.seconds = 1.0
    began = time.monotonic()
    for rank in (0, 1):
        group.start(rank, hello_of(rank, world=3))
    errors = group.join()
    assert [errors[rank].kind for rank in (0, 1)] == ["missing"] * 2
    waited = {rank: ended - began for rank, ended in group.ended.items()}
    assert waited[0] == pytest.approx(1.0, abs=0.01)
    assert waited[1] <= 1.0  # rank 0 ends its wait
    assert not any(word in str(errors[0]) for word in ("ncompatible", "without the guard", "stock"))


def test_the_store_waits_only_for_what_the_guard_left_of_the_timeout(
    stub: Stub, where: str, clock: WaitingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def nothing(*_args: Any) -> None:
        clock.wait(3.0)
        raise Unverified("nobody came")

    monkeypatch.setattr(stub.c10d, "rendezvous", lambda *_args, **more: seen.append(more["timeout"]))
    monkeypatch.setattr(install, "exchange", nothing)
    install.install()
    stub.dist.init_process_group("gloo", where, dt.timedelta(seconds=8), 2, 0)
    assert seen == [dt.timedelta(seconds=5)]


@pytest.mark.parametrize("mode", ["enforce", "warn", "strict"])
def test_without_a_free_port_the_job_goes_on_except_under_strict(
    stub: Stub, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    def taken(_port: int) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setenv("TORCHSKEW_GUARD", mode)
    monkeypatch.setattr(exchange, "claim", taken)
    monkeypatch.setattr("torchskew.guard.sockets.bind", taken)
    if mode == "strict":
        with pytest.raises(ProtocolVersionError, match="can't listen for hellos"):
            check("gloo", where, 60, 2, 0)
        return
    assert check("gloo", where, 60, 2, 0) is None
    said = lines(capsys)
    assert len(said) == 1
    assert "rank 0 can't listen for hellos: port" in said[0]


@pytest.mark.parametrize("problem", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_a_thread_the_group_is_still_compared_and_forms(
    group: Group, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise problem

    for rank in range(2):
        group.start(rank, hello_of(rank))
    monkeypatch.setattr(usher.threading, "Thread", NoThread)
    assert [type(result) for result in group.join().values()] == [dict, dict]


@SLOW
def test_a_folder_that_can_not_be_written_ends_nothing(
    stub: Stub, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    (tmp_path / "init.torchskew").write_text("a file where the folder should be")
    assert check("gloo", f"file://{tmp_path}/init", 60, 2, 0) is None
    assert len(lines(capsys)) == 1


def test_a_pipe_in_the_folder_blocks_nobody(group: Group, tmp_path: Any) -> None:
    (tmp_path / "init.torchskew").mkdir()
    for name in ("session", "table", "ab" * 16):
        os.mkfifo(tmp_path / "init.torchskew" / name)
    group.start(1, hello_of(1, method="file"), str(tmp_path / "init"))
    threading.Event().wait(0.2)  # rank 0 removes what an earlier init left
    group.start(0, hello_of(0, method="file"), str(tmp_path / "init"))
    assert [type(result) for result in group.join().values()] == [dict, dict]


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.EMFILE, errno.ENOMEM, errno.EPERM])
def test_an_aborted_connection_in_accept_ends_nothing(group: Group, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    left = [3]

    class Aborting:
        """A server whose first connections end before they are taken."""

        def __init__(self, server: socket.socket) -> None:
            self.server = server

        def __getattr__(self, name: str) -> Any:
            return getattr(self.server, name)

        def accept(self) -> Any:
            if left[0]:
                left[0] -= 1
                raise OSError(code, os.strerror(code))
            return self.server.accept()

    init = Host.__init__

    def patched(host: Host, server: Any, *args: Any) -> None:
        init(host, Aborting(server), *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Host, "__init__", patched)
    opened = Host.open

    def listening(host: Host) -> None:
        opened(host)
        host.selector.unregister(host.server.server)  # type: ignore[attr-defined]
        host.selector.register(host.server, 1)

    monkeypatch.setattr(Host, "open", listening)
    for rank in range(2):
        group.start(rank, hello_of(rank))
    group.threads[0].join(PATIENCE)
    assert isinstance(group.results[0], dict)  # before rank 1, which would wait for it in vain
    assert [type(result) for result in group.join().values()] == [dict, dict]
    assert left == [0]


def test_no_thread_outlives_the_init(stub: Stub, where: str) -> None:
    """The stub's store never listens, so nothing but the end of the init ends the wait for it."""
    install.install()
    results: list[Any] = []

    def join() -> None:
        place = install.locate(where, 2, 1)
        assert place
        results.append(exchange.exchange(place, {**install.own_hello(place, "gloo"), "pid": 1}, 8.0))

    other = threading.Thread(target=join)
    other.start()
    stub.dist.init_process_group("gloo", where, dt.timedelta(seconds=8), 2, 0)
    assert [thread for thread in threading.enumerate() if thread.name == "torchskew-guard"] == []
    other.join(PATIENCE)
    assert json.dumps(results[0]["missing"]) == '""'
