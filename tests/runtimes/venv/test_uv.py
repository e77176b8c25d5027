"""uv's words become what failed, why, and the fix."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torchskew.runtimes.processes import look_up
from torchskew.runtimes.venv import uv as uv_module
from torchskew.runtimes.venv.uv import Uv, UvError, condensed

from tests.patience import happens

STORE = Path("/store")
SAYS = {
    "the disk is full": "error: Failed to install: x.whl\n  cause: No space left on device (os error 28)",
    "the index refused access": "error: Failed to fetch: `https://h/simple/`\n  cause: HTTP status client error (403)",
    "the index can't be reached": "error: Request failed after 3 retries\n  cause: dns error",
    "no wheel fits any Python on this machine": "error: No solution found when resolving dependencies\n  cause: "
    "Because "
    "torch==1.7.1 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require torch==1.7.1, we can "
    "conclude that your requirements are unsatisfiable.",
    "that Python is not installed": "error: No interpreter found for Python 3.6 in virtual environments",
    "that release does not exist in the configured indexes": "error: x\n  cause: Because there is no "
    "version of torch==9.9",
    "no index knows that name": "error: Because torchh was not found in the package registry",
    "there is no such file": "error: Distribution not found at: file:///x.whl",
    "it is not a wheel": "error: Failed to extract archive: x.whl\n  cause: Invalid zip file structure",
    "the store is not writable": "error: failed to create directory `/store/uv`\n  cause: Permission denied",
    "uv failed": "error: something new",
}


@pytest.mark.parametrize(("why", "text"), SAYS.items(), ids=[each.replace(" ", "-") for each in SAYS])
def test_each_known_failure_has_its_reason_and_fix(why, text) -> None:
    said = str(UvError(condensed(text)).explained('versions."a" (torch==9.9)', STORE, "3.6"))
    assert said.startswith(f'versions."a" (torch==9.9): {why}. ')
    assert "uv says: " in said
    assert "\n" not in said


def test_the_missing_python_is_named_in_the_fix() -> None:
    text = SAYS["that Python is not installed"]
    assert "`uv python install 3.6`" in str(UvError(condensed(text)).explained("a", STORE, "3.6"))


def test_conclusions_warnings_and_repetitions_are_left_out() -> None:
    text = "warning: x\nerror: No solution found when resolving dependencies\n"
    text += "  cause: Because there is no version of a==1 and you require a==1, we can conclude that x.\n"
    text += "hint: Other\nhint: Other\n"
    assert condensed(text) == "there is no version of a==1; Other"


def test_a_long_story_is_cut() -> None:
    assert len(condensed("error: " + "x" * 1000)) == 402


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """uv replaced by a shell script."""

    def make(script: str) -> Uv:
        path = tmp_path / "uv"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(uv_module, "binary", lambda: str(path))
        return Uv(tmp_path / "cache")

    return make


def test_input_output_and_settings_go_through(scripted, monkeypatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/wrong")
    uv = scripted('cat; echo "$1 $EXTRA $UV_CACHE_DIR ${VIRTUAL_ENV:-unset}"; echo err >&2')
    out, err = uv.call("word", stdin="in\n", extra={"EXTRA": "more"})
    assert out == f"in\nword more {uv.cache} unset\n"
    assert err == "err\n"


def test_a_failure_is_an_error_with_its_words(scripted) -> None:
    with pytest.raises(UvError, match="^it broke$"):
        scripted("echo 'error: it broke' >&2; exit 2").call("x")


@pytest.mark.slow
def test_a_call_that_takes_too_long_is_ended(scripted) -> None:
    with pytest.raises(UvError, match="timed out after 0 s"):
        scripted("exec sleep 60").call("x", limit=0.2)


@pytest.mark.slow
def test_bytes_written_so_far_are_reported_while_it_runs(scripted) -> None:
    told = []
    scripted("head -c 100000 /dev/zero > big; sleep 0.7").call("x", written=told.append)
    assert told


def test_an_interrupt_ends_it(scripted) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scripted("exec sleep 60").call("x", written=interrupt)


WAITS = """
import sys, threading
from pathlib import Path
from torchskew.runtimes.venv import uv
uv.binary = lambda: sys.argv[1]
threading.Thread(target=uv.Uv(Path(sys.argv[2])).call, args=("x",)).start()
"""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="without util-linux nothing ends with its parent")
def test_it_ends_with_us_when_we_are_killed(scripted, tmp_path) -> None:
    """As when somebody presses Ctrl-C twice, or the machine runs out of memory, while it downloads."""
    cache = scripted(f"echo $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 600").cache
    with subprocess.Popen([sys.executable, "-c", WAITS, str(tmp_path / "uv"), str(cache)]) as torchskew:
        assert happens((tmp_path / "pid").exists)
        torchskew.kill()
    pid = int((tmp_path / "pid").read_text())
    assert happens(lambda: look_up(pid) is None)


def test_interpreters_are_one_for_each_minor_version_newest_first(scripted) -> None:
    rows = [("3.11.2", "cpython"), ("3.11.1", "cpython"), ("3.13.0", "cpython"), ("3.10.0", "pypy")]
    listed = ",".join(
        json.dumps(
            {
                "version_parts": {"major": 3, "minor": int(version.split(".")[1])},
                "implementation": kind,
                "variant": "default",
                "path": f"/{version}",
            }
        )
        for version, kind in rows
    )
    assert scripted(f"echo '[{listed}]'").interpreters() == (((3, 13), "/3.13.0"), ((3, 11), "/3.11.2"))


def test_a_cache_of_the_users_own_is_not_ours_to_empty(scripted, monkeypatch) -> None:
    uv = scripted("echo $UV_CACHE_DIR")
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    assert uv.owns_cache
    monkeypatch.setenv("UV_CACHE_DIR", "/shared")
    assert not uv.owns_cache
    assert uv.call()[0] == "/shared\n"


def test_it_waits_for_another_uv_as_long_as_a_large_wheel_takes(scripted, monkeypatch) -> None:
    # uv gives up after 300 s: "Timeout (300s) when waiting for lock" ended a version that another run was downloading.
    uv = scripted("echo $UV_LOCK_TIMEOUT")
    monkeypatch.delenv("UV_LOCK_TIMEOUT", raising=False)
    assert int(uv.call()[0]) >= 3600
    monkeypatch.setenv("UV_LOCK_TIMEOUT", "7")
    assert uv.call()[0] == "7\n"
