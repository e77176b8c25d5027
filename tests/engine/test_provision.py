"""Versions side by side; what can't be made is an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest
from torchskew.engine.provision import provision_all
from torchskew.engine.session import Session
from torchskew.errors import MachineError, ProvisionError
from torchskew.model.versions import Environment, Version
from torchskew.runtimes.choice import Chosen

from tests.conftest import Silent
from tests.patience import PATIENCE


class Scripted:
    """A runtime that answers by name."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers

    def provision(self, version: Version, progress: Silent) -> Environment:
        progress.step(version.name, "asked")
        answer = self.answers.get(version.name)
        if callable(answer):
            answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Environment) else empty(version.name)


def empty(name: str, **more: str) -> Environment:
    return Environment(version=name, runtime="fake", identity="1", handle="", **more)


def versions(*names: str) -> list[Version]:
    return [Version(name=name, sources=()) for name in names]


def test_every_version_gets_its_environment_in_the_declared_order(progress) -> None:
    made = provision_all(Scripted(), versions("c", "a", "b"), progress)
    assert [(name, made[name].version) for name in made] == [("c", "c"), ("a", "a"), ("b", "b")]


def test_a_version_that_can_not_be_made_harms_no_other(progress) -> None:
    made = provision_all(Scripted(a=ProvisionError("why and fix")), versions("a", "b"), progress)
    assert str(made["a"]) == "why and fix"
    assert made["b"].version == "b"


def test_the_machines_fault_is_reported_as_the_versions(progress) -> None:
    made = provision_all(Scripted(a=MachineError("daemon gone")), versions("a"), progress)
    assert isinstance(made["a"], ProvisionError)
    assert str(made["a"]) == 'versions."a": daemon gone'


def test_they_are_made_at_the_same_time(progress) -> None:
    meeting = threading.Barrier(2, timeout=PATIENCE)
    runtime = Scripted(a=meeting.wait, b=meeting.wait)
    assert len(provision_all(runtime, versions("a", "b"), progress)) == 2


def test_no_more_than_the_bound_at_once(progress) -> None:
    here, most, lock = [], [0], threading.Lock()

    def busy() -> None:
        with lock:
            here.append(1)
            most[0] = max(most[0], len(here))
        with lock:
            here.pop()

    provision_all(Scripted(a=busy, b=busy, c=busy), versions("a", "b", "c"), progress, workers=1)
    assert most == [1]


def test_an_interrupt_ends_it_before_the_rest_begins(progress) -> None:
    with pytest.raises(KeyboardInterrupt):
        provision_all(Scripted(a=KeyboardInterrupt()), versions("a", "b", "c"), progress, workers=1)
    assert progress.steps == [("a", "asked")]


def test_an_interrupt_ends_what_is_under_way(progress) -> None:
    """Python waits for its threads: a build of minutes would hold the locks of a run that said its last word."""
    under_way, ended = threading.Event(), threading.Event()

    class Building(Scripted):
        def provision(self, version: Version, progress: Silent) -> Environment:
            if version.name == "a":
                under_way.wait(PATIENCE)
                raise KeyboardInterrupt
            try:
                until = time.monotonic() + PATIENCE
                while time.monotonic() < until:
                    progress.step(version.name, "building")
                    under_way.set()
            except ProvisionError:
                ended.set()
                raise
            return empty(version.name)

    with pytest.raises(KeyboardInterrupt):
        provision_all(Building(), versions("a", "b"), progress)
    assert ended.wait(PATIENCE / 2)


def test_nothing_asked_nothing_made(progress) -> None:
    assert provision_all(Scripted(), [], progress) == {}


class Provisioning:
    """A machine on which versions get these environments, and nothing runs."""

    def __init__(self, **environments: Environment) -> None:
        self._environments = environments

    def provision(self, versions: list[Version], progress: Silent) -> Mapping[str, Environment | ProvisionError]:
        return provision_all(Scripted(**self._environments), versions, progress)

    def release(self) -> None:
        """Nothing was made."""


def test_a_session_knows_what_an_environment_has_in_it(progress) -> None:
    made = Provisioning(a=empty("a", reports="2.6.0+debian", python="3.13.5", numpy="2.2.4"), b=empty("b"))
    asked = [Version(name="a", sources=()), Version(name="b", sources=(), torch="2.13.0", known_python="3.11")]
    with Session(Chosen(runtime=Scripted(), why=""), progress, machines=made) as session:
        known = session.provision(asked).versions
    assert (known["a"].torch, known["a"].python, known["a"].numpy) == ("2.6.0", "3.13.5", "2.2.4")
    assert (known["b"].torch, known["b"].python, known["b"].numpy) == ("2.13.0", "3.11", "")
