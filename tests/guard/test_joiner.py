"""A joiner waits for rank 0, and says where it waited when nothing came."""

from __future__ import annotations

import socket
import threading

import pytest
from torchskew.guard.errors import ProtocolVersionError
from torchskew.guard.joiner import Joiner
from torchskew.guard.pace import pace
from torchskew.guard.place import Place

from tests.guard.ranks import Group, connect, hello_of

SLOW = pytest.mark.slow


def test_a_joiner_waits_for_a_late_host(group: Group) -> None:
    group.start(1, hello_of(1))
    threading.Event().wait(0.2)
    group.start(0, hello_of(0))
    assert [type(result) for result in group.join().values()] == [dict, dict]


@SLOW
def test_a_joiner_that_finds_nobody_says_where_it_waited(group: Group) -> None:
    group.seconds = 0.5
    group.start(1, hello_of(1))
    assert f"rank 0 never answered at 127.0.0.1:{group.port}: nothing listened" in str(group.join()[1])


@SLOW
def test_a_joiner_at_a_port_that_keeps_silent_ends_at_its_deadline(group: Group) -> None:
    group.seconds = 1.0
    with socket.create_server(("127.0.0.1", group.port)):
        group.start(1, hello_of(1))
        assert "no guard answered" in str(group.join()[1])


def test_a_group_on_the_neighbouring_port_is_not_joined(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job's guard listens where this one's second port would be."""
    group.seconds = 1.0
    monkeypatch.setenv("TORCHSKEW_GUARD_PORT", str(group.port))
    group.start(0, hello_of(0))
    connect(group.port).close()
    place = Place("tcp", "127.0.0.1", group.port + 1, "", 1, 2)
    with pytest.raises(ProtocolVersionError, match="never answered"):
        Joiner(place, {**hello_of(1, "1.7.0"), "port": place.port}, b"").ask(pace(0.4))
    assert group.join()[0].kind == "missing"
