"""Folders of work under way are removed with the work, or swept when their owner is dead, and nobody else's."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest
from torchskew.errors import MachineError
from torchskew.runtimes import ownership


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def dead(folder, host=None):
    """A folder whose owner is not alive: process 1 did not begin at tick 1."""
    path = folder / f"torchskew-work+{host or socket.gethostname()}+1+1+x"
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    return path


def test_a_ownership_is_gone_with_its_block(temporary):
    with ownership.working() as folder:
        assert folder.parent == temporary
        assert ownership.sweep() == ()
    assert not folder.exists()


def test_a_dead_owners_folder_is_swept_wherever_it_was_made(temporary):
    folders = [dead(temporary), dead(temporary / "sites")]
    assert set(ownership.sweep(temporary / "sites")) == {f"folder {folder}" for folder in folders}
    assert not any(folder.exists() for folder in folders)


def test_another_hosts_folder_and_other_names_stay(temporary):
    dead(temporary, host="elsewhere")
    (temporary / "torchskew-work+odd").mkdir()
    assert ownership.sweep() == ()


def test_another_users_folder_stays(temporary, monkeypatch):
    dead(temporary)
    monkeypatch.setattr(ownership.os, "geteuid", lambda: 12345)
    assert ownership.sweep() == ()


def test_a_folder_with_something_mounted_in_it_is_never_deleted(temporary, monkeypatch):
    folder = dead(temporary)
    mounts = Path(temporary / "mountinfo")
    mounts.write_text(f"1 2 0:1 / {folder}/proc rw - proc proc rw\n")
    monkeypatch.setattr(ownership, "_MOUNTS", mounts)
    with pytest.raises(MachineError, match="can't be removed: something is mounted in it"):
        ownership.sweep()
    assert (folder / "file").exists()


def test_what_cannot_be_removed_is_reported(temporary, monkeypatch):
    folder = dead(temporary)

    def refuse(path, onerror):
        error = PermissionError(13, "Permission denied")
        onerror(None, path, (type(error), error, None))

    monkeypatch.setattr(ownership.shutil, "rmtree", refuse)
    told = f"{folder.name} can't be removed: .*: Permission denied. Remove it by hand"
    with pytest.raises(MachineError, match=told.replace("+", r"\+")):
        ownership.sweep()
