"""Whatever program is declared as an interpreter: facts about its torch, or an error of that version."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from torchskew.errors import ProvisionError
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.runtimes.venv import probe
from torchskew.runtimes.venv.probe import Depth, facts_from, probed
from torchskew.runtimes.venv.runtime import VenvRuntime

from tests.conftest import Silent

WHAT = 'versions."here" (x)'


@pytest.fixture
def program(tmp_path: Path):
    """A script that anybody may run."""

    def written(text: str, name: str = "python") -> str:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    return written


def refused(python: str, depth: Depth = Depth.LOOK) -> str:
    with pytest.raises(ProvisionError) as caught:
        probed(python, depth, WHAT)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exit 0", "is no Python: it printed nothing and ended with exit code 0."),
        ("exit 3", "is no Python: it printed nothing and ended with exit code 3."),
        ("kill -9 $$", "is no Python: it printed nothing and ended with signal 9."),
        ("echo hello", "is no Python: it printed 'hello' and ended with exit code 0."),
        ("echo oops >&2; exit 1", "is no Python: it printed 'oops' and ended with exit code 1."),
        ('echo \'{"reports": "2.6.0"}\'', """is no Python: it printed '{"reports": "2.6.0"}' and ended"""),
        ("printf '\\001\\377\\000binary\\033[31m'", "is no Python: it printed '·�·binary·[31m' and ended"),
        ('echo "$@"', "is no Python: it printed '-c"),
        ("echo 'torchskew: {}'", "is no Python: it printed 'torchskew: {}' and ended"),
        ("yes", "is no Python: it printed 'y·y·y"),
    ],
)
def test_a_program_that_is_no_python_is_called_so_with_what_it_did(program, body: str, words: str) -> None:
    python = program(f"#!/bin/sh\n{body}\n")
    error = refused(python)
    assert error.startswith(f"{WHAT}: {python} ")
    assert words in error
    assert f"Write the path of a Python, like /opt/venv/bin/python, and see that `{python} --version` answers." in error


def test_megabytes_are_neither_kept_nor_waited_for(program) -> None:
    error = refused(program("#!/bin/sh\nyes\n"))
    assert "and printed more than 1 MiB" in error
    assert len(error) < 1000


def test_a_program_that_never_ends_is_given_up_with_all_that_it_started(
    program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_GREETING_PATIENCE", 0.3)
    error = refused(program("#!/bin/sh\nsleep 600\nsleep 600\n"))  # a test that leaves a process fails
    assert "is no Python: it printed nothing and took over 0.3 s." in error


def test_a_program_that_leaves_another_with_its_output_open_is_not_waited_for(program, tmp_path: Path) -> None:
    error = refused(program(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/left\nexit 0\n"))
    assert "ended with exit code 0" in error
    left = int((tmp_path / "left").read_text())
    os.kill(left, signal.SIGKILL)  # it is its own, as any daemon's


@pytest.mark.parametrize("text", ["", "neither a script nor a program\0"])
def test_a_file_that_can_t_be_executed_is_an_error_of_the_version(program, text: str) -> None:
    error = refused(program(text))
    assert "can't be started: Exec format error." in error or "is no Python" in error


def torch_in(tmp_path: Path, source: str) -> None:
    folder = tmp_path / "lib" / "torch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(source)


def with_torch(program, tmp_path: Path, source: str) -> str:
    """A Python whose torch is this source."""
    torch_in(tmp_path, source)
    return program(f'#!/bin/sh\nPYTHONPATH={tmp_path}/lib exec {sys.executable} "$@"\n')


GOOD = "import types\n__version__ = '9.9.0'\nversion = types.SimpleNamespace(git_version='abc')\n"


def test_a_python_tells_its_torch(program, tmp_path: Path) -> None:
    python = with_torch(program, tmp_path, GOOD)
    seen, known = probed(python, Depth.LOOK, WHAT), probed(python, Depth.IMPORT, WHAT)
    assert (seen.reports, seen.git_version) == ("", None)
    assert (known.reports, known.git_version) == ("9.9.0", "abc")
    assert seen.content == known.content
    assert seen.python_version.startswith("3.")


@pytest.mark.parametrize(
    "noise",
    [
        "print('a banner')",
        "print('no end of line', end='')",
        "print('torchskew: {not ours}')",
        "import atexit; atexit.register(print, 'goodbye')",
        "import os; os.write(2, b'warning ' * 20000)",
    ],
)
def test_what_torch_prints_beside_changes_nothing(program, tmp_path: Path, noise: str) -> None:
    assert probed(with_torch(program, tmp_path, GOOD + noise), Depth.IMPORT, WHAT).reports == "9.9.0"


@pytest.mark.parametrize("version", ["7", "None", "''"])
def test_a_torch_without_a_version_is_an_error(program, tmp_path: Path, version: str) -> None:
    error = refused(with_torch(program, tmp_path, f"{GOOD}__version__ = {version}"), Depth.IMPORT)
    assert "what Python printed about it can't be read" in error


def test_a_torch_that_ends_python_at_once_is_an_error(program, tmp_path: Path) -> None:
    error = refused(with_torch(program, tmp_path, "import os; os._exit(0)"), Depth.IMPORT)
    assert "what Python printed about it can't be read" in error


@pytest.mark.parametrize("text", ["", "null", "[]", "7", '{"reports": "2"}', '{"odd": 1}', "[" * 100_000, "\0"])
def test_noted_facts_that_are_none_are_asked_for_again(text: str) -> None:
    assert facts_from(text, Depth.IMPORT) is None


def test_a_program_that_is_no_python_is_the_error_of_its_version_alone(tmp_path: Path) -> None:
    runtime = VenvRuntime(tmp_path / "store")
    version = Version(name="here", sources=(Source(kind=SourceKind.INTERPRETER, value="/bin/true"),))
    with pytest.raises(ProvisionError, match=r'versions."here" \(/bin/true\): /bin/true is no Python'):
        runtime.provision(version, Silent())
    runtime.close()
