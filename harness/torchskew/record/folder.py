"""The folder of results: whether it can be written and its record read, asked before anything is made."""

from __future__ import annotations

import os
from pathlib import Path

from torchskew.errors import ConfigError
from torchskew.record.database import Database

DATABASE = "record.sqlite"


def check_writable(folder: Path, option: str = "--out") -> None:
    """Refuse a folder of results that can't be written; makes nothing.

    Raises:
        ConfigError: names the option, the place that is in the way, and why.
    """
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists() or each.is_symlink())
    existing = [place, *(path for path in (folder / DATABASE,) if path.exists())]
    for path in existing:
        if reason := _obstacle(path):
            raise ConfigError(f"{option} {folder}: {reason}. Give a folder that can be written: {option} DIR.")


def check_record(folder: Path) -> None:
    """Refuse a record that this version can't read; a folder without one passes, and nothing is made there.

    Raises:
        RecordError: names the file and the versions, or what is damaged.
    """
    path = folder / DATABASE
    if path.exists():
        Database.open(path, create=False).close()


def _obstacle(path: Path) -> str | None:
    if path.name != DATABASE and not path.is_dir():
        return f"{path} is no folder"
    rights = os.W_OK if path.name == DATABASE else os.W_OK | os.X_OK
    if os.access(path, rights):
        return None
    return f"{path} is on a read-only disk" if _read_only_disk(path) else f"{path} can't be written by this user"


def _read_only_disk(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
