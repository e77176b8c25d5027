"""A rank that comes during rank 0's stock init is answered at once, where rank 0's guard has a port of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from torchskew.guard import exchange, pace, usher
from torchskew.guard.errors import ProtocolVersionError, Unverified
from torchskew.guard.place import Place
from torchskew.guard.settings import spare_ports

from tests.guard.ranks import FAR, PATIENCE, Group, hello_of


@pytest.fixture
def waiting(group: Group, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Group]:
    """Two workers of three under torchrun, whose guards have waited in vain for the others; or what the parameter says.

    That is how many they are, and their release.
    """
    world, release = getattr(request, "param", (3, "2.6.0"))
    monkeypatch.setattr(pace, "MOST_APART", 0.3)
    usher.expect()
    for rank in (0, 1):
        group.start(rank, hello_of(rank, release, world=world, method="agent"))
    assert [type(each) for each in group.join().values()] == [Unverified] * 2
    monkeypatch.setattr(pace, "MOST_APART", FAR)
    yield group
    usher.dismiss()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("waiting", "release", "result"),
    [
        ((3, "2.6.0"), "2.6.0", dict),
        ((3, "2.6.0"), "2.1.2", ProtocolVersionError),
        ((4, "2.6.0"), "2.6.0", Unverified),
        ((4, "2.6.0"), "2.1.2", ProtocolVersionError),
        ((3, "2.0.1"), "2.0.1", dict),  # whose TCPStore holds the GIL, but not as a client of the agent's
        ((3, "1.13.1"), "2.2.2", ProtocolVersionError),
    ],
    indirect=["waiting"],
)
def test_a_late_rank_is_compared_with_those_that_wait_in_their_stock_init(
    waiting: Group, release: str, result: type, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four, one is still missing then, and the late rank is not refused for that."""
    world, _ = request.node.callspec.params["waiting"]
    waiting.start(2, hello_of(2, release, world=world, method="agent"))
    late = waiting.join()[2]
    assert isinstance(late, result)
    refused = result is ProtocolVersionError
    assert ("gloo era differs" in str(late)) == refused
    assert ("a rank came late that can't join: gloo era differs" in capsys.readouterr().err) == refused


@pytest.mark.slow
def test_after_the_init_nobody_listens_and_no_thread_is_left(waiting: Group) -> None:
    usher.dismiss()
    for thread in threading.enumerate():
        if thread.name == "torchskew-guard":
            thread.join(PATIENCE)
    for port in spare_ports(waiting.port):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()


@pytest.mark.slow
def test_without_an_init_that_ends_it_no_thread_stays(monkeypatch: pytest.MonkeyPatch, group: Group) -> None:
    """check() alone is followed by an init that the guard does not see end."""
    monkeypatch.setattr(pace, "MOST_APART", 0.3)
    place = Place("agent", "127.0.0.1", group.port, "", 0, 2)
    with pytest.raises(Unverified):
        exchange.exchange(place, {**hello_of(0, method="agent"), "port": place.port}, FAR)  # type: ignore[arg-type]
    assert [thread for thread in threading.enumerate() if thread.name == "torchskew-guard"] == []
