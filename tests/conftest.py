"""What every test gets: nothing may be left behind, and what it needs is there or it says so."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from torchskew.errors import ProvisionError
from torchskew.model.versions import Environment, Source, SourceKind, Version
from torchskew.planning.scenario import Scenario
from torchskew.runtimes import ownership
from torchskew.runtimes.base import Runtime
from torchskew.runtimes.choice import Chosen, Wanted
from torchskew.workflows import cell_steps, matrix
from torchskew.workflows.gate import request as gate_request

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"

AnyRuntime = TypeVar("AnyRuntime", bound=Runtime)


class Silent:
    """A progress that only remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[tuple[str, str]] = []

    def step(self, version: str, text: str, done: int = 0, total: int = 0) -> None:
        del done, total
        self.steps.append((version, text))

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def progress() -> Silent:
    return Silent()


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Temporary files of this session go to a folder of its own, so whatever is left there is ours."""
    folder = tmp_path_factory.mktemp("temporary")
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None
    yield folder
    tempfile.tempdir = None
    if before is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest, own_temporary_folder: Path) -> Iterator[None]:
    """Fail a test that leaves a container, a process, a file or an environment variable."""
    looks: list[Callable[[], set[str]]] = [_variables, _children, _run_folders, lambda: _files(own_temporary_folder)]
    if request.node.get_closest_marker("docker"):
        looks.append(_containers)
    before = [look() for look in looks]
    yield
    deadline = time.monotonic() + PATIENCE / 5  # a leak of every test must not cost hours
    for look, first in zip(looks, before, strict=True):
        while (left := look() - first) and time.monotonic() < deadline:
            time.sleep(0.02)
        if left:
            pytest.fail(f"left behind: {', '.join(sorted(left))}")


def _variables() -> set[str]:
    return {f"variable {name}" for name in os.environ if name != "PYTEST_CURRENT_TEST"}


def _children() -> set[str]:
    """Processes that this one started, less the dead and what Python itself keeps."""
    found = set()
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in _text(children).split():
            state = _text(Path("/proc", pid, "stat")).rpartition(")")[2].split()[:1]
            command = _text(Path("/proc", pid, "cmdline")).replace("\0", " ")
            if state and state[0] not in "ZX" and "multiprocessing" not in command:
                found.add(f"process {pid} ({command[:60]})")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _run_folders() -> set[str]:
    folder = Path(os.path.expanduser("~/.cache")) / "torchskew" / "runs"
    mine = f"{ownership.owner()} "
    found = set()
    for path in folder.glob("*/owner"):
        try:
            if path.read_text().startswith(mine):
                found.add(f"folder {path.parent}")
        except OSError:
            continue
    return found


def _files(folder: Path) -> set[str]:
    ours = (".pytest_cache", ".coverage", ".hypothesis", ".ruff_cache", ".mypy_cache", "out")
    return {f"file {path}" for each in (folder, ROOT) for path in each.iterdir() if not path.name.startswith(ours)}


def _containers() -> set[str]:
    import docker

    client = docker.from_env()
    try:
        mine = {"label": f"torchskew.owner={ownership.owner()}"}
        things = [*client.containers.list(all=True, filters=mine), *client.networks.list(filters=mine)]
        things += client.volumes.list(filters=mine)
        return {f"container, network or volume {thing.name}" for thing in things}
    finally:
        client.close()


def faked(monkeypatch: pytest.MonkeyPatch, runtime: AnyRuntime) -> AnyRuntime:
    """Every run takes this runtime, whatever is asked for, and says who decided."""

    def chosen(asked: str, versions: Wanted, decided_by: str) -> Chosen:
        del asked, versions
        return Chosen(runtime=runtime, why=decided_by)

    monkeypatch.setattr(cell_steps, "choose", chosen)
    return runtime


def only_scenarios(monkeypatch: pytest.MonkeyPatch, scenarios: Mapping[str, Scenario]) -> None:
    """Every workflow knows these scenarios and no others."""
    for workflow in (matrix, gate_request):
        monkeypatch.setattr(workflow, "read_scenarios", lambda: scenarios)


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C, and so would everything that the tests start from one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a marker asks for is there, or the test is skipped at a desk and an error under CI."""
    if item.get_closest_marker("docker"):
        _wants(_docker_problem())
    if item.get_closest_marker("browser"):
        _wants(None if browser() else "no Chromium is installed")
    if item.get_closest_marker("gpu"):
        pytest.skip("asked for with -m gpu on a machine that has one")


def _wants(problem: str | None) -> None:
    if problem and os.environ.get("CI"):
        pytest.fail(f"CI must have it: {problem}", pytrace=False)
    if problem:
        pytest.skip(problem)


_ANSWER: list[str | None] = []


def _docker_problem() -> str | None:
    if not _ANSWER:
        from torchskew.runtimes.docker.runtime import DockerRuntime

        problem = DockerRuntime().answers()
        _ANSWER.append(f"no Docker engine answers: {problem}" if problem else None)
    return _ANSWER[0]


def browser() -> str | None:
    """Path of a Chromium, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def torch_environment() -> Iterator[Environment]:
    """A real torch in the user's own store, made once on this machine and reused."""
    from torchskew.runtimes.venv.runtime import VenvRuntime

    runtime = VenvRuntime()
    version = Version(name="real", sources=(Source(kind=SourceKind.PIP, value=TORCH),), torch="2.13.0")
    try:
        yield runtime.provision(version, Silent())
    except ProvisionError as error:
        _wants(str(error))
    finally:
        runtime.close()


def write_wheel(
    folder: Path, version: str = "9.9.0", tag: str = "py3-none-any", name: str = "torch", source: str = "", **files: str
) -> Path:
    """A small wheel, by default named torch: what uv does with it is real, what it holds is not."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}/__init__.py": source or f"__version__ = {version!r}\nfrom {name} import version\n",
        f"{name}/version.py": "git_version = 'abc'\n",
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*content, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for each, text in content.items():
            wheel.writestr(each, text)
    return path


@pytest.fixture
def python() -> str:
    """The interpreter that runs the tests."""
    return sys.executable
