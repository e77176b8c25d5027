"""examples/library outside the checkout, with torchskew as an installed wheel: its suite, its gate, a defect in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchskew.model.versions import Environment
from torchskew.runtimes.ownership import cache_folder

from tests.conftest import ROOT
from tests.packaging.test_installed import built, installed

pytestmark = [pytest.mark.slow, pytest.mark.torch]
RELEASE = "one-release.toml"  # a machine of CI has the space for one


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("installed"), built("build_wheel", tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def library(torch_environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example as its author has it; the environments that were made for this folder go with it."""
    del torch_environment  # the same torch, so that nothing is downloaded here
    folder = tmp_path_factory.mktemp("author") / "library"
    shutil.copytree(ROOT / "examples" / "library", folder, ignore=shutil.ignore_patterns("out", "__pycache__", ".*"))
    yield folder
    for lock in (cache_folder() / "envs").glob("*/pylock.toml"):
        if str(folder) in lock.read_text():
            shutil.rmtree(lock.parent)


def ran(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    ours = ("PYTHON", "COVERAGE_", "PYTEST_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_its_suite_passes(python: Path, library: Path) -> None:
    done = ran(library, python, "-m", "pytest", "-q", "-rs", "-o", f"torchskew_declaration={RELEASE}")
    assert done.returncode == 0, done.stdout + done.stderr
    # One release has no boundary; every other test runs.
    assert "25 passed, 1 skipped" in done.stdout


def test_its_gate_is_open_and_a_defect_shuts_it(python: Path, library: Path) -> None:
    # The other name is the same release: one of them starts half as many agents, in the environment of the suite.
    gate = (python, "-m", "torchskew", "gate", "-f", RELEASE, "--against", "2.13.0")
    opened = ran(library, *gate)
    assert opened.returncode == 0, opened.stdout + opened.stderr
    assert opened.stdout.splitlines()[-1].startswith(f"gate open: package -e {library}: all ")
    source = library / "src" / "flock" / "average.py"
    right = source.read_text()
    source.write_text(right.replace("message /= size", "message /= size + 1"))
    try:
        shut = ran(library, *gate)
    finally:
        source.write_text(right)
    assert shut.returncode == 1, shut.stdout + shut.stderr
    assert shut.stdout.splitlines()[-1].startswith(f"gate shut: package -e {library}: 1 regression (flock_average on ")
    assert "the means are [1.0], right is 1.5" in shut.stdout


def test_its_script_runs_as_a_check_of_each_release(python: Path, library: Path) -> None:
    done = ran(library, python, "-m", "torchskew", "check", "script", "-f", RELEASE, "--", "--steps", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(library.glob("progress*"))


MESSAGES = """
import weakref
import torch
import torch.distributed as dist
from flock.average import average_gradients

sent = []
own, dist.all_reduce = dist.all_reduce, lambda message, group=None: (sent.append(weakref.ref(message)), own(message))
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
for size in (3, 1 << 17, 3):
    parameter = torch.nn.Parameter(torch.zeros(size))
    parameter.grad = torch.ones(size)
    average_gradients([parameter])
print([message() is not None for message in sent])
"""


def test_its_messages_outlive_their_all_reduce(torch_environment: Environment, library: Path) -> None:
    """Of a message that nothing else holds, gloo's worker is the last holder, and up to 2.6 that deadlocks the end."""
    done = ran(library / "src", torch_environment.handle, "-c", MESSAGES)
    assert done.stdout == "[True, True, True]\n", done.stderr
