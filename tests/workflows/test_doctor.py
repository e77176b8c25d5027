"""Each check is OK or names its fix."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.model.runtimes import RUNTIMES
from torchskew.workflows import doctor
from torchskew.workflows.doctor import Check, Health


class Answering:
    """A runtime that answers, or says why not."""

    def __init__(self, problem: str | None = None) -> None:
        self.problem = problem

    def answers(self) -> str | None:
        return self.problem

    def describe(self) -> str:
        return "here it is"


def test_all_checks_are_made_in_a_fixed_order() -> None:
    checks = doctor.examine({name: Answering() for name in RUNTIMES}, lambda: None)
    names = ["Python", "uv", "Docker engine", "bootstrap", "indexes", "disk", "memory", "ports", "look-ups"]
    assert [check.name for check in checks] == [*names, "leftovers"]
    assert all(check.detail for check in checks)
    assert all(check.fix for check in checks if check.health is not Health.OK)


def test_no_engine_is_missing_but_no_uv_is_broken() -> None:
    engine = doctor.engine(RUNTIMES["docker"], Answering("no socket"))
    uv = doctor.engine(RUNTIMES["venv"], Answering("no uv"))
    assert (engine.health, engine.detail) == (Health.MISSING, "no socket")
    assert "--runtime venv" in engine.fix
    assert (uv.health, uv.fix) == (Health.BROKEN, "Install it: pip install uv")


def test_an_index_that_does_not_answer_is_missing_with_its_words() -> None:
    check = doctor.indexes(lambda: "can't be reached")
    assert (check.health, check.detail) == (Health.MISSING, "can't be reached")


def test_base_images_need_a_tool(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: "/usr/bin/debootstrap" if tool == "debootstrap" else None)
    assert doctor.bootstrap().detail == "/usr/bin/debootstrap"
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert doctor.bootstrap().fix.startswith("Install mmdebstrap")


def test_a_disk_with_little_room_is_missing_and_one_that_is_shut_broken(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    check = doctor.disk()
    assert (check.health, check.detail) == (Health.MISSING, f"1.0 GB free at {tmp_path}")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert doctor.disk().health is Health.BROKEN


def test_little_memory_is_missing(monkeypatch) -> None:
    assert doctor.memory().detail.endswith("GB available")
    monkeypatch.setattr(doctor, "_MEMORY", 1 << 60)
    assert "-j 2" in doctor.memory().fix


def test_a_system_that_does_not_tell_its_memory_is_trusted(monkeypatch) -> None:
    def refused(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", refused)
    assert doctor.memory().health is Health.OK


def test_no_ports_are_broken(monkeypatch) -> None:
    def refused(*words: object) -> None:
        raise OSError("no loopback")

    monkeypatch.setattr(socket, "create_server", refused)
    check = doctor.ports()
    assert (check.health, check.detail) == (Health.BROKEN, "no loopback")


def test_a_slow_or_failing_look_up_is_said(monkeypatch) -> None:
    assert doctor.slow_look_up(limit=60.0) is None
    assert doctor.slow_look_up(limit=0.0).startswith("one took ")
    monkeypatch.setattr(doctor, "slow_look_up", lambda: "one took 5.00 s")
    assert doctor.look_ups().health is Health.MISSING


def test_a_look_up_that_fails_is_said(monkeypatch) -> None:
    def failing(*words: object) -> None:
        raise OSError("no name service")

    monkeypatch.setattr(socket, "getnameinfo", failing)
    assert doctor.slow_look_up() == "no name service"


def test_what_killed_runs_left_is_counted(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "dead_folders", lambda: (Path("a"), Path("b")))
    check = doctor.leftovers()
    assert (check.detail, check.fix) == ("2 killed runs", "torchskew clean")


@pytest.mark.parametrize(
    ("healths", "sentence", "code"),
    [
        ((Health.OK, Health.OK), "torchskew runs here", 0),
        ((Health.OK, Health.MISSING), "torchskew runs here; missing: b", 0),
        ((Health.BROKEN, Health.MISSING), "torchskew can't run here: fix a", 1),
    ],
)
def test_the_last_line_is_the_answer(healths, sentence, code) -> None:
    checks = [
        Check(name=name, health=health, detail="x", fix="" if health is Health.OK else "do this")
        for name, health in zip("ab", healths, strict=True)
    ]
    lines = doctor.text(checks).splitlines()
    assert lines[-1] == sentence
    assert doctor.exit_code(checks) == code
    assert sum("do this" in line for line in lines) == sum(health is not Health.OK for health in healths)
