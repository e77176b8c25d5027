"""A benchmark that lacks a part says so and is red: its ratio would look as if nothing were missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.errors import ProvisionError
from torchskew.runtimes.fake import FakeRuntime, ended

import benchmarks.__main__ as every
from benchmarks import cells, guard, matrix
from tests.conftest import faked

DECLARED = """
[versions]
a = { pip = "torch==2.6.0" }
b = { pip = "torch==2.13.0" }
[matrix]
runtime = "venv"
scenarios = ["rendezvous_tcp"]
timeout = 1
"""
REPORTS = {"a": "2.6.0", "b": "2.13.0"}


def honest(version: str, job: object) -> object:
    del job
    return ended(REPORTS[version], finished=True, payload={}, phase="done")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchskew.toml").write_text(DECLARED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["matrix"])


@pytest.mark.usefixtures("project")
def test_a_whole_matrix_gives_its_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    faked(monkeypatch, FakeRuntime(honest))  # type: ignore[arg-type]
    assert matrix.main() == 0
    said = capsys.readouterr().out
    assert "4 cells, 4 of them run" in said
    assert "wall time against the longest cell" in said
    assert "INCOMPLETE" not in said


@pytest.mark.usefixtures("project")
def test_a_matrix_without_a_release_is_called_incomplete_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, FakeRuntime(honest, broken=("b",)))  # type: ignore[arg-type]
    assert matrix.main() == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("INCOMPLETE: 3 of 4 cells could not be run")
    assert said[-1].startswith("  3 cells: no environment for b: b is broken by the test")


@pytest.mark.usefixtures("project")
def test_a_matrix_without_any_release_is_incomplete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, FakeRuntime(honest, broken=("a", "b")))  # type: ignore[arg-type]
    assert matrix.main() == 1
    assert "INCOMPLETE: 4 of 4 cells could not be run" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_a_matrix_that_could_not_begin_is_red(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["matrix", "--versions", "9.*"])
    faked(monkeypatch, FakeRuntime(honest))  # type: ignore[arg-type]
    assert matrix.main() == 1
    assert "nothing was measured: torchskew matrix ended with exit code 4" in capsys.readouterr().out


class NotMade:
    """A runtime that can make nothing."""

    def provision(self, *asked: object) -> None:
        raise ProvisionError(f"the disk is full {asked[:0]}")


def test_cells_without_an_environment_are_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "runtime_named", lambda _: NotMade())
    monkeypatch.setattr(sys, "argv", ["cells"])
    with pytest.raises(SystemExit, match="INCOMPLETE: nothing was measured: the disk is full"):
        cells.main()


def test_a_guard_that_could_not_be_timed_is_red(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "runtime", lambda _: NotMade())
    monkeypatch.setattr(guard, "exchange", lambda clients: (0.1, 1.0, 1e-6))
    monkeypatch.setattr(sys, "argv", ["guard"])
    assert guard.main() == 1
    assert "INCOMPLETE: what the guard adds to an init was not measured: the disk is full" in capsys.readouterr().out


def test_the_last_line_of_all_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {"benchmarks.start": 0, "benchmarks.matrix": 1}
    monkeypatch.setattr(subprocess, "run", lambda command, check: SimpleNamespace(returncode=codes[command[2]]))
    monkeypatch.setattr(every, "runtime", lambda _: SimpleNamespace(answers=lambda: "nobody there."))
    assert every.main(["start"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "== complete"
    assert every.main(["start", "matrix", "cells-docker"]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "== INCOMPLETE",
        "matrix lacks a part or missed an aim (exit code 1, see above)",
        "cells-docker was left out: nobody there.",
    ]
