"""What local projects hold decides which environment serves them, and which results are reused."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.errors import ProvisionError
from torchskew.model.versions import Source, SourceKind
from torchskew.runtimes.docker import wheels
from torchskew.runtimes.venv.projects import (
    data_content,
    folder_content,
    imported_content,
    installed_content,
    project_name,
)

from tests.conftest import write_wheel


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "mylib"
    (folder / "src").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "mylib"\nversion = "1.0"\n')
    (folder / "src" / "mylib.py").write_text("X = 1\n")
    return folder


def change(folder: Path) -> None:
    (folder / "src" / "mylib.py").write_text("X = 2\n")


def test_a_projects_name_is_the_one_it_is_installed_by(project: Path) -> None:
    assert project_name(f"-e {project}") == project_name("MyLib==1.0") == "mylib"
    assert project_name("dist/my_lib-1.0-py3-none-any.whl") == "my-lib"
    for text in ("[project]\n", "[tool.other]\n", "no toml", "project = 1\n"):
        (project / "pyproject.toml").write_text(text)
        assert project_name(str(project)) == str(project)
    (project / "pyproject.toml").unlink()
    assert project_name(str(project)) == str(project)


def test_a_projects_sources_decide_what_is_installed(project: Path) -> None:
    before = installed_content([str(project), "numpy"], "v")
    assert imported_content([str(project)]) == ""
    change(project)
    assert installed_content([str(project), "numpy"], "v") != before


def test_an_editable_project_is_installed_once_and_its_sources_decide_the_results(project: Path) -> None:
    editable = f"-e {project}"
    installed, imported = installed_content([editable], "v"), imported_content([editable])
    change(project)
    assert installed_content([editable], "v") == installed
    assert imported_content([editable]) != imported
    (project / "pyproject.toml").write_text('[project]\nname = "mylib"\nversion = "2.0"\n')
    assert installed_content([editable], "v") != installed


@pytest.mark.parametrize("name", ["__pycache__/mylib.pyc", "build/lib.py", ".git/HEAD", "mylib.egg-info/PKG-INFO"])
def test_what_a_build_leaves_behind_is_no_source(project: Path, name: str) -> None:
    before = installed_content([str(project)], "v")
    path = project / name
    path.parent.mkdir()
    path.write_text("x")
    assert installed_content([str(project)], "v") == before


def test_what_a_run_wrote_is_no_source_whatever_its_folder_is_called(project: Path) -> None:
    before = imported_content([f"-e {project}"])
    (project / "part1" / "20261129").mkdir(parents=True)
    (project / "part1" / "20261129" / "report.txt").write_text("green")
    assert imported_content([f"-e {project}"]) != before
    (project / "part1" / "record.sqlite").touch()
    assert imported_content([f"-e {project}"]) == before


def test_a_wheels_content_counts_and_not_its_name(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, name="mylib")
    before = installed_content([str(wheel)], "v")
    write_wheel(tmp_path, name="mylib", source="X = 2\n")
    assert installed_content([str(wheel)], "v") != before


def test_what_is_not_there_is_said_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="no such file. Build the wheel"):
        installed_content([str(tmp_path / "mylib-1.0-py3-none-any.whl")], "v")
    with pytest.raises(ProvisionError, match=r"has no pyproject.toml or setup.py.*\[ranks\] pythonpath"):
        installed_content([str(tmp_path)], "v")
    assert installed_content(["numpy"], "v") == ""


def test_an_image_takes_wheels_and_no_projects(project: Path, tmp_path: Path) -> None:
    source = Source(kind=SourceKind.PIP, value="torch==2.6.0", requires=(str(project),))
    with pytest.raises(ProvisionError, match="which an image can't install. Build a wheel"):
        wheels.inputs(source)
    wheel = write_wheel(tmp_path, name="mylib")
    with_wheel = Source(kind=SourceKind.PIP, value="torch==2.6.0", requires=(str(wheel),))
    before = wheels.inputs(with_wheel)
    write_wheel(tmp_path, name="mylib", source="X = 2\n")
    assert wheels.inputs(with_wheel) != before


def test_folders_that_ranks_import_from_or_read_are_known_by_content(project: Path) -> None:
    sources, data = folder_content(str(project / "src")), data_content(str(project))
    change(project)
    assert folder_content(str(project / "src")) != sources
    assert data_content(str(project)) != data
