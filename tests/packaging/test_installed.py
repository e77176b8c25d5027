"""What an installation brings: the package torchskew and nothing else, also beside a package called harness."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
THEIRS = """
import harness

def test_the_projects_own_package_is_imported(pytestconfig, torchskew_group):
    assert harness.OWNER == "the project"
    assert pytestconfig.pluginmanager.hasplugin("torchskew")
    assert callable(torchskew_group)
"""
TRAIN = """
import sys

import harness
from torch.distributed import init_process_group

print(harness.OWNER, hasattr(init_process_group, "torchskew_guard"), *sys.argv[1:])
"""
# Of torch, what the guard puts itself in front of.
TORCH = """
def init_process_group(backend=None, init_method=None, timeout=None, world_size=-1, rank=-1, store=None):
    pass

def rendezvous(url, rank=-1, world_size=-1, **more):
    pass
"""
BUILD = "import sys; from hatchling.build import {hook} as build; print(build(sys.argv[1]))"


def built(hook: str, folder: Path) -> Path:
    """A wheel of this checkout, made without an index."""
    command = [sys.executable, "-c", BUILD.format(hook=hook), str(folder)]
    return folder / subprocess.check_output(command, text=True, cwd=ROOT).split()[-1]


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("build_wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("build_editable", tmp_path_factory.mktemp("editable"))


@pytest.fixture(scope="module", params=["wheel", "editable"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("installed"), request.getfixturevalue(request.param))


def installed(folder: Path, wheel: Path) -> Path:
    """An interpreter with torchskew installed, and what it depends on linked from here: no index is needed."""
    venv.create(folder, symlinks=True)
    here = Path(sysconfig.get_path("purelib"))
    there = folder / here.relative_to(sys.prefix)
    for each in here.iterdir():
        if "torchskew" not in each.name and not (there / each.name).exists():
            (there / each.name).symlink_to(each)
    (folder / "bin" / "uv").symlink_to(Path(sys.prefix) / "bin" / "uv")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(there)
    return folder / "bin" / "python"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project: a package called harness, and a test that imports it."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text('OWNER = "the project"\n')
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    (tmp_path / "train.py").write_text(TRAIN)
    distributed = tmp_path / "torch" / "distributed"
    distributed.mkdir(parents=True)
    (distributed.parent / "__init__.py").write_text('__version__ = "2.6.0"\n')
    (distributed / "__init__.py").write_text("from torch.distributed.distributed_c10d import *\n")
    (distributed / "distributed_c10d.py").write_text(TORCH)
    return tmp_path


def run(python: Path, folder: Path, *arguments: str) -> str:
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    environment = {**kept, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder)}
    command = [str(python), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


TYPED = """
from torchskew.pytest.runner import Groups

def work(job): ...

def test_it(torchskew_group: Groups) -> None:
    torchskew_group(["2.6.0"], work, timout=3)
    torchskew_group(["2.6.0"], work, timeout="3 s")
    torchskew_group(["2.6.0"], work, timeout=3).rank(0).exit_cod
"""


def test_a_users_type_checker_knows_the_fixture_and_its_keywords(python: Path, tmp_path: Path) -> None:
    (tmp_path / "test_typed.py").write_text(TYPED)
    command = [python, "-m", "mypy", "--no-incremental", "--config-file=", "test_typed.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line.partition(": error: ")[2] for line in done.stdout.splitlines() if ": error: " in line]
    assert [error.partition("  [")[0] for error in errors] == [
        'Unexpected keyword argument "timout" for "__call__" of "Groups"; did you mean "timeout"?',
        'Argument "timeout" to "__call__" of "Groups" has incompatible type "str"; expected "float"',
        '"Rank" has no attribute "exit_cod"; maybe "exit_code"?',
    ]


def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    held = names(wheel)
    roots = {name.partition("/")[0] for name in held}
    assert roots == {"torchskew", wheel.name.partition("-py3")[0] + ".dist-info"}
    assert [name for name in held if "__pycache__" in name or name.endswith(".pyc")] == []


@pytest.mark.parametrize(("folder", "inside"), [("scenarios", "_scenarios"), ("images", "_images")])
def test_a_wheel_holds_every_tracked_file_of_scenarios_and_images(wheel: Path, folder: str, inside: str) -> None:
    tracked = subprocess.check_output(["git", "ls-files", folder], cwd=ROOT, text=True).split()
    assert tracked
    wanted = {f"torchskew/{inside}/{name.partition('/')[2]}" for name in tracked}
    assert wanted - set(names(wheel)) == set()


def test_an_editable_installation_adds_the_source_folder_alone(editable: Path) -> None:
    with zipfile.ZipFile(editable) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".pth")]
        assert archive.read(path).decode().split() == [str(ROOT / "harness")]
    assert [each.name for each in (ROOT / "harness").iterdir() if each.name != "__pycache__"] == ["torchskew"]


def test_pytest_works_in_a_project_with_a_package_called_harness(python: Path, project: Path) -> None:
    said = run(python, project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 passed" in said


def test_each_command_runs_beside_a_package_called_harness(python: Path, project: Path) -> None:
    assert run(python, project, "-m", "torchskew", "--version").startswith("torchskew ")
    assert "all_reduce" in run(python, project, "-m", "torchskew", "scenarios")
    guarded = run(python, project, "-m", "torchskew.guard", "train.py", "--epochs", "3")
    assert guarded == "the project True --epochs 3\n"
