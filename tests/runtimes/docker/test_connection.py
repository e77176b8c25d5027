"""Refusals and silences of the daemon become errors that say what, why and the fix."""

from __future__ import annotations

import socket

import pytest
from torchskew.runtimes.docker import runtime as runtime_module
from torchskew.runtimes.docker.connection import Connection, Engine
from torchskew.runtimes.docker.daemon import DaemonError, DaemonGoneError
from torchskew.runtimes.docker.runtime import Daemon, DockerRuntime


class RefusedError(Exception):
    def __init__(self, status_code, explanation):
        super().__init__(explanation)
        self.status_code, self.explanation = status_code, explanation


class Api:
    """A client whose every call raises one thing, or answers another."""

    def __init__(self, outcome):
        self.outcome = outcome

    def __getattr__(self, name):
        def call(*arguments, **settings):
            if isinstance(self.outcome, Exception):
                raise self.outcome
            return self.outcome

        return call


def daemon(outcome):
    connection = Connection(api=Api(outcome), refusal=RefusedError, silences=(OSError,))
    return Daemon(lambda: connection, "unix:///d.sock")


def test_a_refusal_says_what_was_asked_and_the_daemons_words():
    with pytest.raises(DaemonError, match=r"network n: no address pool left\. Remove unused networks") as caught:
        daemon(RefusedError(500, "no address pool left")).make_network("n", {})
    assert caught.value.reason == "no address pool left"


def test_a_silence_says_where_the_daemon_was_and_the_fix():
    with pytest.raises(
        DaemonGoneError, match=r"unix:///d.sock stopped answering \(create.*Broken pipe.*--runtime venv"
    ):
        daemon(BrokenPipeError(32, "Broken pipe")).make_volume("v", 1, {})


def test_a_daemon_that_never_answered_says_the_innermost_reason():
    def connect():
        try:
            open("/nowhere/docker.sock").close()
        except FileNotFoundError as error:
            raise RuntimeError("Error while fetching server API version") from error

    with pytest.raises(
        DaemonGoneError, match=r"no Docker daemon answers at unix:///d.sock: No such file or directory\."
    ):
        Daemon(connect, "unix:///d.sock").engine()


def test_what_is_gone_already_need_not_be_removed():
    gone = daemon(RefusedError(404, "no such thing"))
    gone.remove("c")
    gone.remove_network("n")
    gone.remove_volume("v")
    gone.signal("c", "TERM")
    assert gone.ended("c", 1.0)
    assert gone.local("debian:trixie-slim") is None


def test_a_container_that_has_not_ended_in_time_has_not_ended():
    assert not daemon(TimeoutError("60 s")).ended("c", 0.1)


def test_an_error_in_a_stream_of_events_is_reported_with_the_last_words():
    events = [{"stream": "Get:1\nE: disk full\n"}, {"stream": "other"}, {"error": "returned a non-zero code: 100."}]
    with pytest.raises(DaemonError, match="^returned a non-zero code: 100; E: disk full$"):
        daemon(events).build(iter([b""]), "t:1", {}, {})


def test_a_registrys_overload_in_a_stream_may_be_tried_again():
    with pytest.raises(DaemonError) as caught:
        daemon([{"error": "received unexpected HTTP status: 503"}]).pull("a/b", lambda *_: None)
    assert caught.value.transient


@pytest.mark.parametrize("url", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "nonsense://x", "ssh://nobody@x"])
def test_no_daemon_is_an_answer_and_never_an_error(monkeypatch, url):
    monkeypatch.setenv("DOCKER_HOST", url)
    problem = DockerRuntime().answers()
    assert problem is not None
    assert problem.startswith(f"no Docker daemon answers at {url}: ")


def test_a_daemon_of_windows_containers_is_no_use(monkeypatch):
    runtime = DockerRuntime()
    monkeypatch.setattr(Daemon, "engine", lambda _: Engine(version="27.1", machine="x86_64", system="windows"))
    assert "Switch it to Linux containers" in runtime.answers()


@pytest.mark.slow
def test_a_daemon_that_accepts_and_says_nothing_is_asked_with_little_patience(tmp_path, monkeypatch):
    path = str(tmp_path / "d.sock")
    connect, allowed = runtime_module._connect, []

    def recording(seconds):
        allowed.append(seconds)
        return connect(seconds)

    monkeypatch.setattr(runtime_module, "_connect", recording)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        problem = DockerRuntime().answers()
    assert "timed out" in problem
    assert allowed == [runtime_module._GLANCE]
    assert runtime_module._GLANCE * 30 <= runtime_module._PATIENCE


class Shelf:
    """Two images of ours, the newer one in use."""

    def __init__(self):
        self.asked = []

    def images(self, filters):
        assert filters == {"label": ["torchskew.recipe"]}
        base = {"Id": "sha256:0123456789abcdef", "Created": 1, "RepoTags": None}
        return [base, {"Id": "sha256:b", "Created": 2, "RepoTags": ["torchskew/pip:1"]}]

    def remove_image(self, image):
        self.asked.append(image)
        if image == "sha256:b":
            raise RefusedError(409, "in use by a container")


def test_clearing_removes_images_made_here_the_built_ones_first_and_none_in_use(monkeypatch):
    runtime, shelf = DockerRuntime(), Shelf()
    connection = Connection(api=shelf, refusal=RefusedError, silences=(OSError,))
    monkeypatch.setattr(runtime, "daemon", Daemon(lambda: connection, "unix:///d.sock"))
    assert runtime.clear() == ("image 0123456789ab",)
    assert shelf.asked == ["sha256:b", "sha256:0123456789abcdef"]
