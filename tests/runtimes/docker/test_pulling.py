"""A pull is tried again only after what can pass by itself, and a few times at most."""

from __future__ import annotations

import pytest
from torchskew.errors import ProvisionError
from torchskew.runtimes.docker import pulling
from torchskew.runtimes.docker.daemon import DaemonError, DaemonGoneError, is_transient


class Registry:
    """Answers from a list; the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def pull(self, reference, report):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "fine":
            return "sha256:1"
        raise DaemonError(answer, transient=is_transient(answer))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for name in ("_FIRST", "_LONGEST", "_JITTER"):
        monkeypatch.setattr(pulling, name, 0.0)


def quiet(text, done=0, total=0):
    del text, done, total


@pytest.mark.parametrize(
    "text",
    [
        "net/http: TLS handshake timeout",
        "received unexpected HTTP status: 503 Service Unavailable",
        "toomanyrequests: rate exceeded",
        "read tcp: connection reset by peer",
        "unexpected EOF",
    ],
)
def test_what_passes_by_itself_is_tried_again(text):
    registry = Registry(text, text, "fine")
    assert pulling.pull(registry, "a/b:1", quiet) == "sha256:1"
    assert registry.asked == 3


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("pull access denied for a/b, repository does not exist", "docker login"),
        ("unauthorized: authentication required", "docker login"),
        ("manifest for a/b:1 not found: manifest unknown", "name, tag and digest exist"),
        ("dial tcp: lookup registry on 10.0.0.1:53: no such host", "check its network, DNS and proxy"),
        ("x509: certificate signed by unknown authority", "trust the registry's certificate"),
        ("write /var/lib/docker: no space left on device", "docker system df"),
        ("something else", "Try `docker pull`"),
    ],
)
def test_an_error_that_stays_is_reported_at_once_with_its_fix(text, fix):
    registry = Registry(text)
    with pytest.raises(ProvisionError, match=fix):
        pulling.pull(registry, "a/b:1", quiet)
    assert registry.asked == 1


def test_attempts_are_bounded_counted_and_shown():
    registry = Registry("i/o timeout")
    said = []
    with pytest.raises(ProvisionError, match="a/b:1 can't be pulled in 4 attempts: i/o timeout"):
        pulling.pull(registry, "a/b:1", lambda text, done=0, total=0: said.append(text))
    assert registry.asked == 4
    assert said[-1] == "pulling a/b:1 again, attempt 4 of 4"


def test_a_daemon_that_is_gone_is_not_a_registrys_fault(monkeypatch):
    registry = Registry("fine")

    def gone(*_):
        raise DaemonGoneError("stopped answering")

    monkeypatch.setattr(registry, "pull", gone)
    with pytest.raises(DaemonGoneError):
        pulling.pull(registry, "a/b:1", quiet)


def test_a_timeout_of_name_service_is_not_mistaken_for_a_missing_name():
    assert is_transient("lookup registry: i/o timeout")
    assert not is_transient("lookup registry: no such host: timeout")
