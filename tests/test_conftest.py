"""The check that nothing is left behind catches each kind of thing, and a missing engine is an error under CI."""

from __future__ import annotations

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

HEAD = "import os, subprocess, sys, tempfile\nimport pytest\n"
LEAKS = {
    "variable": "os.environ['LEFT'] = '1'",
    "file": "tempfile.mkdtemp()",
    "process": "subprocess.Popen(['sleep', '30'])",
    "folder": "from torchskew.runtimes.ownership import opened\n    run = opened('left'); run.__enter__()\n"
    "    globals()['keep'] = run",
}


def outcome(tmp_path: Path, body: str, **environ: str) -> str:
    """What pytest says about a test with this body; what it left ends with it."""
    path = tmp_path / "test_it.py"
    path.write_text(f"{HEAD}\n{body}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(path)]
    command += ["--basetemp", str(tmp_path / "base")]
    settings = ["--rootdir", str(tmp_path), "-W", "ignore", "-o", f"pythonpath={ROOT}", "-o", "markers=docker"]
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    home = {"HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT}/harness", "TORCHSKEW_TEST_PATIENCE": "0.1"}
    done = subprocess.run(
        [*command, *settings], capture_output=True, text=True, check=False, cwd=tmp_path, env=env | home | environ
    )
    return done.stdout


@pytest.mark.parametrize(("kind", "leak"), LEAKS.items(), ids=list(LEAKS))
def test_what_a_test_leaves_behind_fails_it(tmp_path, kind, leak) -> None:
    end = "\n\ndef test_end():\n    pass\n"
    if kind == "process":
        leak = f"globals()['keep'] = {leak}"
        end = "\n\ndef test_end():\n    keep.kill(); keep.wait()\n"
    if kind == "folder":
        end = "\n\ndef test_end():\n    keep.__exit__(None, None, None)\n"
    said = outcome(tmp_path, f"def test_it():\n    {leak}{end}", XDG_CACHE_HOME="")
    assert f"left behind: {kind}" in said, said


def test_a_tidy_test_passes(tmp_path) -> None:
    body = "def test_it(tmp_path, monkeypatch):\n    monkeypatch.setenv('X', '1'); (tmp_path / 'y').write_text('')"
    assert "1 passed" in outcome(tmp_path, body)


DOCKER = "@pytest.mark.docker\ndef test_it():\n    pass"


def test_without_an_engine_a_test_is_skipped_with_the_reason_at_a_desk(tmp_path) -> None:
    said = outcome(tmp_path, DOCKER, DOCKER_HOST="unix:///nowhere.sock")
    assert "1 skipped" in said


def test_without_an_engine_a_test_is_an_error_under_ci(tmp_path) -> None:
    said = outcome(tmp_path, DOCKER, DOCKER_HOST="unix:///nowhere.sock", CI="true")
    assert "CI must have it: no Docker engine answers" in said


def test_no_folder_of_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    ignored = pytestconfig.getini("norecursedirs")
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    assert [f for f in folders if any(fnmatch(part, pattern) for part in f.parts for pattern in ignored)] == []
