"""A guard that can't do its work, on a machine that is overloaded or beside one of another kind, ends no job."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from torchskew.guard import exchange
from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.folder import Folder
from torchskew.guard.pace import Pace
from torchskew.guard.place import Place
from torchskew.guard.roster import roster_of
from torchskew.guard.sockets import deliver, reset
from torchskew.guard.verdict import decide, refuses

from tests.guard.ranks import FAR, PATIENCE, Group, hello_of
from tests.guard.test_contract import wrong_secret
from tests.guard.waiting import WaitingClock, put_in_place

SLOW = pytest.mark.slow


def soon(seconds: float, mode: str = "enforce") -> Pace:
    """Signs count soon, and the deadline is far."""
    now = time.monotonic()
    return Pace(now + FAR, now + 0.3, 0.06, now + FAR, mode)


def test_a_roster_is_sent_to_each_rank_however_late_rank_0_is() -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    deliver([(ours, b"the roster") for ours, _ in pairs], time.monotonic() - 1.0)
    for ours, theirs in pairs:
        ours.close()  # so that what was not sent is not waited for
        assert theirs.recv(100) == b"the roster"
        theirs.close()


@SLOW
@pytest.mark.parametrize(("mode", "result"), [("enforce", Unverified), ("strict", ProtocolVersionError)])
def test_a_guard_that_hung_up_and_is_gone_is_no_missing_rank(
    group: Group, monkeypatch: pytest.MonkeyPatch, mode: str, result: type
) -> None:
    """As where rank 0 had no time to send this rank its roster, and has gone on to its store."""
    deadline = FAR if mode == "enforce" else 1.0
    monkeypatch.setattr(exchange, "pace", lambda *_: soon(0, mode)._replace(deadline=time.monotonic() + deadline))
    group.mode = mode
    with socket.create_server(("127.0.0.1", group.port)) as server:
        group.start(1, hello_of(1))
        conn = server.accept()[0]
        wrong_secret(conn)
        reset(conn)
    refused = group.join()[1]
    assert isinstance(refused, result)
    assert "its guard closed the connection" in str(refused)


@SLOW
def test_a_rank_0_that_is_started_again_after_a_long_wait_is_asked_again(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for late ranks says nothing against the guard: only what follows its end counts."""
    monkeypatch.setattr(exchange, "pace", lambda *_: soon(0)._replace(settle=1.0))
    with socket.create_server(("127.0.0.1", group.port)) as server:
        group.start(1, hello_of(1))
        conn = server.accept()[0]
        wrong_secret(conn.dup())
    group.start(0, hello_of(0))
    threading.Event().wait(1.5)  # longer than a sign must hold
    reset(conn)
    assert [type(result) for result in group.join().values()] == [dict, dict]


@SLOW
@pytest.mark.parametrize(("mode", "result"), [("enforce", Unverified), ("strict", ProtocolVersionError)])
def test_a_port_that_keeps_silent_leaves_the_stock_init_a_share_of_the_timeout(
    group: Group, monkeypatch: pytest.MonkeyPatch, mode: str, result: type
) -> None:
    clock = WaitingClock()
    put_in_place(clock, monkeypatch)
    group.mode, group.seconds = mode, 1.5
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", group.port)):
        group.start(1, hello_of(1))
        assert isinstance(group.join()[1], result)
    waited = group.ended[1] - began  # on a clock that counts vain waits alone
    assert (mode == "enforce") == (waited < group.seconds)


@SLOW
@pytest.mark.parametrize("odd", [0, 1])
def test_a_file_that_can_not_be_read_is_no_missing_rank(tmp_path: Path, odd: int) -> None:
    """Of a guard with another secret, or a later one that takes other fields."""
    results: dict[int, Any] = {}

    def run(rank: int, secret: bytes) -> None:
        place = Place("file", "", 0, str(tmp_path / "init"), rank, 2)
        try:
            results[rank] = Folder(place, hello_of(rank, method="file"), secret, "era").exchange(soon(0))  # type: ignore[arg-type]
        except Unverified as problem:
            results[rank] = problem

    threads = [threading.Thread(target=run, args=(each, b"ours" if each == odd else b"")) for each in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (results[0]["missing"], results[0]["aside"]) == ("1", 1)
    assert not refuses(decide(results[0]), "enforce", aside=True)
    assert "left no roster for this rank" in str(results[1])


def test_builds_that_a_roster_has_no_room_for_are_no_proof() -> None:
    roster = {**roster_of([hello_of(0), hello_of(1)], "era"), "more": 3}  # type: ignore[list-item]
    assert [(each.kind, each.proof) for each in decide(roster)] == [("group", False)]  # type: ignore[arg-type]
