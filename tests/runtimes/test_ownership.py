"""Who owns a run, and what a sweep may call dead."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from torchskew.errors import MachineError
from torchskew.runtimes import ownership, processes

from tests.patience import PATIENCE


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "short").mkdir()
    monkeypatch.setattr(ownership, "_SHORT_PARENT", tmp_path / "short")
    return tmp_path / "torchskew"


def test_this_process_is_alive() -> None:
    assert ownership.alive(ownership.owner())


def test_a_process_that_ended_is_dead_even_before_it_is_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    running = processes.look_up(process.pid)
    assert running is not None
    name = f"{process.pid}:{running.start}"
    assert process.stdout is not None
    process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not ownership.alive(name)
    process.communicate()
    assert not ownership.alive(name)


def test_a_later_process_with_the_same_id_is_not_the_owner() -> None:
    assert not ownership.alive(f"{os.getpid()}:1")


@pytest.mark.parametrize("text", ["", "12", "x:1", "1:x", "-1:5"])
def test_a_text_that_names_no_process_is_dead(text: str) -> None:
    assert not ownership.alive(text)


def test_without_a_start_time_the_id_alone_has_to_do() -> None:
    assert ownership.alive(f"{os.getpid()}:0")
    assert ownership.alive("1:0")
    assert not ownership.alive("4194999:0")


def test_the_folder_lives_as_long_as_its_block(cache: Path) -> None:
    with ownership.opened("r1") as opened:
        folder = Path(opened.folder)
        assert folder == cache / "runs" / "r1"
        assert opened.owner_pid == os.getpid()
        (folder / "share").mkdir()
        assert ownership.dead_folders() == ()
    assert list((cache / "runs").iterdir()) == []


def test_the_folder_goes_when_the_block_raises(cache: Path) -> None:
    with pytest.raises(ZeroDivisionError), ownership.opened("r1"):
        raise ZeroDivisionError
    assert list((cache / "runs").iterdir()) == []


def test_a_folder_of_a_dead_owner_is_found_and_no_other(cache: Path) -> None:
    program = "import os\nfrom torchskew.runtimes.ownership import opened\n"
    program += "run = opened('dead'); run.__enter__(); os._exit(9)"
    subprocess.run([sys.executable, "-c", program], check=False, timeout=PATIENCE)
    (cache / "runs" / "of somebody else").mkdir()
    half = cache / "runs" / f"torchskew-work+{socket.gethostname()}+4194999+12+x"
    half.mkdir()
    (cache / "runs" / "torchskew-work+another-host+4194999+12+x").mkdir()
    assert ownership.dead_folders() == (cache / "runs" / "dead", half)
    with ownership.opened("dead") as resumed:
        assert sorted(path.name for path in (cache / "runs").iterdir()) == [
            "dead",
            "of somebody else",
            "torchskew-work+another-host+4194999+12+x",
        ]
        assert ownership.dead_folders() == ()
        assert resumed.run_id == "dead"


def test_a_folder_of_another_host_is_left_alone(cache: Path) -> None:
    folder = cache / "runs" / "far"
    folder.mkdir(parents=True)
    (folder / "owner").write_text("4194999:12 another-host\n")
    assert ownership.dead_folders() == ()


def test_without_any_run_nothing_is_dead(cache: Path) -> None:
    assert ownership.dead_folders() == ()


def test_a_cache_that_is_no_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="XDG_CACHE_HOME"), ownership.opened("r1"):
        pass
    assert ownership.dead_folders() == ()


def test_a_run_that_is_going_on_is_not_begun_again(cache: Path) -> None:
    with ownership.opened("r1"):
        with pytest.raises(MachineError, match="run r1 is going on already"), ownership.opened("r1"):
            pass
        assert [path.name for path in (cache / "runs").iterdir()] == ["r1"]


def test_a_folder_for_sockets_has_a_short_path_and_goes_with_its_block() -> None:
    with ownership.short_folder() as folder:
        assert len(str(folder)) <= 20
        assert folder not in ownership.dead_folders()
    assert not folder.exists()


def test_a_folder_for_sockets_of_a_dead_owner_is_found(cache: Path) -> None:
    folder = cache.parent / "short" / "tsk-gone"
    folder.mkdir()
    assert ownership.dead_folders() == ()  # it does not say yet whose it is
    (folder / "owner").write_text(f"4194999:12 {ownership.place()}\n")
    (cache.parent / "short" / "else").mkdir()
    assert ownership.dead_folders() == (folder,)
    with ownership.opened("next"):
        assert not folder.exists()
