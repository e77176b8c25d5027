"""A container's multiplexed stream becomes lines, and its death a story."""

from __future__ import annotations

import socket

import pytest
from torchskew.errors import AgentError, MachineError
from torchskew.runtimes.docker.container import Container
from torchskew.runtimes.docker.daemon import DaemonError


class FakeDaemon:
    """Ends at the signal that `ends_at` names; refuses to remove when told so."""

    def __init__(self, *, ends_at="TERM", state=None, refuses=False):
        self.ends_at = ends_at
        self.told = state or {}
        self.refuses = refuses
        self.calls = []

    def state(self, ident):
        return self.told

    def signal(self, ident, name):
        self.calls.append(name)

    def ended(self, ident, seconds):
        return self.calls[-1] == self.ends_at

    def remove(self, ident):
        if self.refuses:
            raise DaemonError("docker can't remove a container: busy.")
        self.calls.append("remove")


def piece(kind, data):
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@pytest.fixture
def made():
    """A container on one end of a socket pair, and the daemon's end."""
    ours, theirs = socket.socketpair()

    def make(**daemon):
        return Container(FakeDaemon(**daemon), "0123456789abcdef", ours), theirs

    yield make
    ours.close()
    theirs.close()


def test_pieces_become_lines_wherever_docker_cut_them(made):
    container, daemon = made()
    daemon.sendall(piece(1, b'{"a"') + piece(1, b": 1}\n{}\nla") + piece(1, b"st\n"))
    daemon.close()
    assert list(container.lines()) == [b'{"a": 1}', b"{}", b"last"]


def test_a_last_line_without_its_end_is_given_too(made):
    container, daemon = made()
    daemon.sendall(piece(1, b"cut"))
    daemon.close()
    assert list(container.lines()) == [b"cut"]


def test_standard_error_is_kept_apart_and_short(made):
    container, daemon = made()
    daemon.sendall(piece(2, b"".join(b"line %d\n" % number for number in range(40))) + piece(1, b"out\n"))
    daemon.close()
    assert list(container.lines()) == [b"out"]
    assert container.errors().splitlines()[0] == "line 8"
    assert len(container.errors().splitlines()) == 32


def test_a_stream_cut_in_a_piece_ends_the_lines(made):
    container, daemon = made()
    daemon.sendall(piece(1, b"whole\n") + piece(1, b"half\n")[:10])
    daemon.close()
    assert list(container.lines()) == [b"whole", b"ha"]


def test_what_is_sent_arrives(made):
    container, daemon = made()
    container.send(b"line\n")
    assert daemon.recv(10) == b"line\n"


@pytest.mark.parametrize(
    ("state", "story"),
    [
        ({"OOMKilled": True}, "Its container ran out of memory."),
        ({"Running": True}, "Its container still runs."),
        ({"ExitCode": 139, "Error": "bad"}, r"Its container ended with 139 \(bad\). boom"),
    ],
)
def test_writing_to_a_dead_container_tells_what_it_died_of(made, state, story):
    container, daemon = made(state=state)
    daemon.sendall(piece(2, b"boom"))
    daemon.close()
    list(container.lines())
    with pytest.raises(AgentError, match=f"the agent is gone. {story}"):
        container.send(b"x")


def test_writing_before_the_end_was_read_tells_it_too(made):
    container, daemon = made(state={"ExitCode": 1})
    daemon.close()
    with pytest.raises(AgentError, match="the agent can't be written to: Broken pipe. Its container ended with 1"):
        container.send(b"x")


def test_a_story_of_a_silent_daemon_is_the_daemons(made, monkeypatch):
    container, _ = made()

    def silent(ident):
        raise DaemonError("the Docker daemon stopped answering.")

    monkeypatch.setattr(container._daemon, "state", silent)
    assert container.story() == "the Docker daemon stopped answering."


def test_closing_asks_before_it_kills_and_happens_once(made):
    container, _ = made(ends_at="KILL")
    container.close()
    container.close()
    assert container._daemon.calls == ["TERM", "KILL", "remove"]


def test_closing_wakes_who_reads_lines(made):
    container, _ = made()
    container.close()
    assert list(container.lines()) == []


def test_a_container_that_stays_is_reported_with_the_fix(made):
    container, _ = made(refuses=True)
    with pytest.raises(MachineError, match="0123456789ab can't be removed: docker can't remove.*`docker rm -f`"):
        container.close()


def test_a_container_that_outlives_kill_is_reported(made):
    container, _ = made(ends_at="never")
    with pytest.raises(MachineError, match="did not end within 5 s of KILL"):
        container.close()
