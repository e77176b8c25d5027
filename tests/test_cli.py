"""The command line teaches, answers bad input with one clear text, and starts quickly."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from torchskew.cli import main
from torchskew.model.outcomes import Verdict
from torchskew.record.record import Record
from torchskew.runtimes.choice import Chosen
from torchskew.runtimes.fake import FakeRuntime, ended, right
from torchskew.workflows import cell_steps

from tests.conftest import faked

DECLARATION = """
[versions]
a = { pip = "torch==2.6.0" }
b = { pip = "torch==2.13.0" }
[matrix]
runtime = "venv"
scenarios = ["rendezvous_*"]
timeout = 1
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "torchskew.toml").write_text(DECLARATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


REPORTS = {"a": "2.6.0", "b": "2.13.0"}


def honest(version: str, job: object) -> object:
    return ended(REPORTS[version], finished=True, payload=payload(job), phase="done")


def payload(job: object) -> dict[str, object]:
    del job
    return {}


def test_the_help_teaches_and_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("matrix", "gate", "rehearse", "probe", "doctor", "exit codes"))


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["matrix", "--nope"], 4, "unrecognized arguments"),
        (["matrix", "-j", "0"], 4, "must be from 1 to 256"),
        (["matrix", "--timeout", "0"], 4, "must be over 0"),
        (["matrix", "--world-size", "1"], 4, "must be from 2 to 64"),
        (["matrix", "-f", "none.toml"], 4, "there is no such file"),
        (["matrix", "--versions", "9.*"], 4, "version pattern '9.*' matches nothing"),
        (["matrix", "--scenarios", "al_reduce"], 4, "scenario pattern 'al_reduce' matches nothing"),
        (["matrix", "--only", "x/*"], 5, "--only 'x/*' matches none of"),
        (["report"], 1, "record"),
    ],
)
def test_bad_input_is_answered_with_what_and_the_fix(
    project: Path, monkeypatch: pytest.MonkeyPatch, line: list[str], code: int, words: str
) -> None:
    monkeypatch.setattr(sys, "stderr", said := io.StringIO())
    faked(monkeypatch, FakeRuntime())
    assert project.is_dir()
    assert main(line) == code
    assert words in said.getvalue()
    assert "Traceback" not in said.getvalue()


def test_a_bug_of_ours_is_exit_three_with_how_to_report_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del project

    def broken(*asked: object) -> Chosen:
        raise ZeroDivisionError(asked)

    monkeypatch.setattr(cell_steps, "choose", broken)
    assert main(["matrix"]) == 3
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "this is a bug of torchskew. Report it" in said


def test_a_dry_run_prints_the_plan_and_starts_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = faked(monkeypatch, FakeRuntime())
    assert main(["matrix", "--dry-run"]) == 0
    assert "rendezvous_tcp/a,b/guard-off/venv   predicted OK,OK" in capsys.readouterr().out
    assert runtime.started == 0
    assert not (project / "out").exists()


UNKNOWN_RELEASES = """
[versions]
a = { interpreter = "/opt/a/bin/python" }
b = { interpreter = "/opt/b/bin/python" }
[matrix]
runtime = "venv"
scenarios = ["rendezvous_tcp"]
timeout = 1
"""


def test_a_release_that_only_provisioning_tells_is_predicted_before_the_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "torchskew.toml").write_text(UNKNOWN_RELEASES)
    faked(monkeypatch, FakeRuntime(honest, reports={"a": "2.1.2", "b": "2.13.0+cpu"}))  # type: ignore[arg-type]
    assert main(["matrix", "--dry-run"]) == 0
    line = "rendezvous_tcp/a,b/guard-off/venv   predicted once its versions are provisioned"
    assert line in capsys.readouterr().out
    main(["matrix"])
    [results] = (project / "out").glob("*/results.json")
    cells = {cell["id"]: cell["predicted"] for cell in json.loads(results.read_text())["cells"]}
    assert cells["rendezvous_tcp/a,a/guard-off/venv"] == ["OK", "OK"]
    assert cells["rendezvous_tcp/a,b/guard-off/venv"] == ["TIMEOUT", "TIMEOUT"]


def test_a_broken_version_leaves_its_cells_unknown_and_the_others_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, FakeRuntime(honest, broken=("b",)))  # type: ignore[arg-type]
    assert main(["matrix"]) == 1
    assert "b is broken by the test" in capsys.readouterr().out
    with Record.open(project / "out" / "record.sqlite") as record:
        verdicts = {result.cell.id: result.verdict for result in record.load().results}
    assert verdicts["rendezvous_tcp/a,b/guard-off/venv"] is Verdict.UNKNOWN
    assert verdicts["rendezvous_tcp/a,a/guard-off/venv"] is not Verdict.UNKNOWN


def test_what_did_not_change_comes_from_the_cache_and_the_run_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del project
    runtime = faked(monkeypatch, FakeRuntime(honest))  # type: ignore[arg-type]
    first = main(["matrix"])
    started = runtime.started
    capsys.readouterr()
    assert main(["matrix"]) == first
    assert runtime.started == started
    assert "cache      every cell unchanged" in capsys.readouterr().err
    assert main(["matrix", "--no-cache"]) == first
    assert runtime.started > started


def test_resume_runs_just_the_rest(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del project
    done: list[str] = []

    def stops(version: str, job: object) -> object:
        if len(done) == 6:
            raise KeyboardInterrupt
        done.append(version)
        return honest(version, job)

    faked(monkeypatch, FakeRuntime(stops))  # type: ignore[arg-type]
    assert main(["matrix", "-j", "1"]) == 2
    assert "`torchskew matrix --resume` runs the rest" in capsys.readouterr().err
    resumed = faked(monkeypatch, FakeRuntime(right))
    main(["matrix", "--resume"])
    assert resumed.started > 0
    assert "cells were done" in capsys.readouterr().err
