"""The gate of a library: the user's own scenarios over the declared releases, with the library in each environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torchskew.engine.progress import Plain
from torchskew.errors import ConfigError
from torchskew.model.versions import Environment, Version
from torchskew.runtimes.fake import FakeRuntime
from torchskew.workflows.gate.request import Request
from torchskew.workflows.gate.workflow import run_gate
from torchskew.workflows.merge import merge

from tests.workflows.gate.test_workflow import DECLARED, Desk, only_with

OWN = '''"""Ours."""
AFTER = ("meet",)

def rank(job):
    return {}

def judge(reports, world):
    return {}
'''


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(tmp_path, monkeypatch)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "ours.py").write_text(OWN)
    (tmp_path / "torchskew.toml").write_text(f'{DECLARED}[scenarios]\npath = "own"\n')
    return made


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Version]:
    """The versions that were made."""
    versions: list[Version] = []
    provision = FakeRuntime.provision

    def noted(self: FakeRuntime, version: Version, progress: Any) -> Environment:
        versions.append(version)
        return provision(self, version, progress)

    monkeypatch.setattr(FakeRuntime, "provision", noted)
    return versions


def library(desk: Desk, script: Any = None, *, package: str = "mylib==1.0", **options: Any) -> int:
    desk.runtime(*([script] if script else []))
    return run_gate(Request(package=package, **options.pop("asked", {})), desk.options(**options), Plain(desk.said))


def last(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_every_declared_pair_runs_the_librarys_own_scenarios_and_what_they_need(
    desk: Desk, made: list[Version], capsys: pytest.CaptureFixture[str]
) -> None:
    assert library(desk) == 0
    assert last(capsys) == "gate open: package mylib==1.0: all 8 cells are as expected"
    assert {version.name: version.sources[0].requires for version in made} == dict.fromkeys(
        ("2.13.0", "2.14.1"), ("mylib==1.0",)
    )
    assert {cell["scenario"] for cell in desk.results()["cells"]} == {"meet", "ours"}
    assert "--candidate-package mylib==1.0" in desk.results()["cells"][0]["rerun"]


@pytest.mark.parametrize("package", ["mylib==1.0", "dist/mylib-1.0-py3-none-any.whl", "mylib"])
def test_the_candidate_is_installed_instead_of_the_editable_project_that_the_tests_use(
    desk: Desk, made: list[Version], package: str
) -> None:
    """Beside it, uv would refuse a wheel, and take the project for the release of that number."""
    (desk.folder / "pyproject.toml").write_text('[project]\nname = "MyLib"\nversion = "1.0"\n')
    declared = DECLARED.replace('==2.13.0"', '==2.13.0", requires = ["-e .", "numpy"]')
    (desk.folder / "torchskew.toml").write_text(f'{declared}[scenarios]\npath = "own"\n')
    assert library(desk, package=package) == 0
    requires = {version.name: [each.rpartition("/")[2] for each in version.sources[0].requires] for version in made}
    assert requires["2.13.0"] == ["numpy", package.rpartition("/")[2]]


def test_a_failure_is_the_librarys_and_shuts_the_gate(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """In the gate of a torch a cell without the candidate is a control, which blames nobody."""
    assert library(desk, only_with("2.13.0", "2.14.1")) == 1
    assert last(capsys) == "gate shut: package mylib==1.0: 1 regression (meet on 2.13.0, 2.14.1)"


def test_a_failure_on_one_release_alone_is_the_librarys_as_well(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert library(desk, only_with("2.13.0", "2.13.0")) == 1
    assert last(capsys) == "gate shut: package mylib==1.0: 1 regression (meet on 2.13.0, 2.13.0)"


def test_a_baseline_knows_a_failure_of_the_library(desk: Desk) -> None:
    (desk.folder / "baseline.toml").write_text('[[expect]]\ncells = "meet/2.13.0,2.14.1/*"\nreason = "r"\n')
    assert library(desk, only_with("2.13.0", "2.14.1")) == 0
    assert library(desk, cache=False) == 1


def test_only_runs_of_the_same_package_are_compared(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert library(desk) == 0
    capsys.readouterr()
    assert library(desk, package="mylib==1.1") == 0
    assert "is the same as the accepted run" in capsys.readouterr().out
    assert library(desk, package="other==1.0") == 0
    assert "accepted run" not in capsys.readouterr().out


def test_parts_of_a_librarys_gate_merge_into_the_same_decision(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [desk.folder / f"part{index}" for index in (1, 2)]
    for index, folder in enumerate(folders, start=1):
        assert library(desk, only_with("2.13.0", "2.14.1"), asked={"shard": f"{index}/2"}, out=folder) == 0
        assert last(capsys) == f"part {index} of 2 ran; `torchskew merge` decides"
    assert merge(folders, desk.options()) == 1
    assert last(capsys) == "gate shut: package mylib==1.0: 1 regression (meet on 2.13.0, 2.14.1)"


@pytest.mark.parametrize(
    ("declared", "asked", "problem"),
    [
        ("", {}, "has no scenarios of its own to be held against"),
        ('[scenarios]\npath = "gone"\n', {}, "scenarios.path names .*/gone, which is no folder"),
        ('[scenarios]\npath = "own"\n', {"base": "pip:torch==2.14.1"}, "--base is about a candidate torch"),
        ('[scenarios]\npath = "own"\n', {"package": "mylib=1"}, "--candidate-package must be a requirement"),
        ('[scenarios]\npath = "own"\n[ranks]\npythonpath = ["gone"]\n', {}, "ranks.pythonpath names .*/gone"),
    ],
)
def test_what_cannot_be_decided_is_refused(desk: Desk, declared: str, asked: dict[str, str], problem: str) -> None:
    (desk.folder / "torchskew.toml").write_text(DECLARED + declared)
    given = {"package": "mylib==1.0", **asked}
    desk.runtime()
    with pytest.raises(ConfigError, match=problem):
        run_gate(Request(**given), desk.options(), Plain(desk.said))


def test_an_own_scenario_may_not_take_the_name_of_one_that_ships(desk: Desk) -> None:
    (desk.folder / "own" / "meet.py").write_text(OWN.replace('AFTER = ("meet",)', ""))
    with pytest.raises(ConfigError, match=r"own/meet.py: 'meet' is the name of a scenario that comes with torchskew"):
        library(desk)


def test_a_change_in_a_folder_that_ranks_import_from_runs_the_cells_again(desk: Desk) -> None:
    (desk.folder / "lib").mkdir()
    (desk.folder / "lib" / "helper.py").write_text("X = 1\n")
    toml = desk.folder / "torchskew.toml"
    toml.write_text(toml.read_text() + '[ranks]\npythonpath = ["lib"]\n')

    def fresh() -> set[str]:
        return {cell["scenario"] for cell in desk.results()["cells"] if not cell["cached"]}

    library(desk)
    library(desk)
    assert fresh() == set()
    (desk.folder / "lib" / "helper.py").write_text("X = 2\n")
    library(desk)
    assert fresh() == {"ours"}
