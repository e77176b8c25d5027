"""A folder of results that can't be written is refused before anything is made, with the option's name."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.errors import ConfigError, RecordError
from torchskew.record.folder import DATABASE, check_record, check_writable


def refusing(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """As for a user without the right, whoever runs the tests."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in paths and access(path, mode))


def test_a_folder_that_can_be_written_passes_and_is_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable(Path("out"))
    refusing(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=r"^--out out: "):
        check_writable(Path("out"))


@pytest.mark.parametrize("below", ["", "not/yet"])
def test_a_folder_without_the_right_to_write_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    refusing(monkeypatch, tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_writable(tmp_path / below)
    assert str(caught.value) == (
        f"--out {tmp_path / below}: {tmp_path} can't be written by this user. "
        "Give a folder that can be written: --out DIR."
    )


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match=r"/out/below: .*/out is no folder"):
        check_writable(tmp_path / "out" / "below")


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="/out is no folder"):
        check_writable(tmp_path / "out")


def test_a_record_that_can_only_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("")
    refusing(monkeypatch, tmp_path / DATABASE)
    with pytest.raises(ConfigError, match=rf"{DATABASE} can't be written by this user"):
        check_writable(tmp_path)


def test_a_disk_that_can_only_be_read_is_named_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing(monkeypatch, tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(ConfigError, match="is on a read-only disk"):
        check_writable(tmp_path / "out")


def test_a_folder_without_a_record_passes_and_gets_none(tmp_path: Path) -> None:
    check_record(tmp_path / "not" / "yet")
    check_record(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("no record\n" * 100)
    with pytest.raises(RecordError, match=DATABASE):
        check_record(tmp_path)
