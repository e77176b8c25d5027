"""The lock files of images: what was built here from what, and what a checkout commits, so that sites can compare."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from torchskew.errors import ConfigError
from torchskew.runtimes import locks
from torchskew.runtimes.docker.catalogue import images_folder
from torchskew.runtimes.ownership import cache_folder

_HEAD = "# What each image was made from. Written by torchskew images --lock; do not edit.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One image. made: which way; recipe: digest of the inputs; digest: of all packages; packages: the telling ones.

    date: ISO 8601; torch, git_version, python: what the image itself reports.
    """

    image: str
    recipe: str
    made: str
    date: str
    python: str
    digest: str
    torch: str | None = None
    git_version: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


class Standing(StrEnum):
    """How an image that was built here compares with the committed lock."""

    SAME = "the same packages as committed"
    OTHER = "other packages than committed"
    NEW = "not committed"


def built_path() -> Path:
    """What was built here, in the user's cache."""
    return cache_folder() / "images.lock.toml"


def committed_path() -> Path:
    """What a checkout commits; an installed package brings a copy."""
    return images_folder() / "lock.toml"


def standing(name: str, entry: Entry, committed: Mapping[str, Entry]) -> Standing:
    """Compares the packages: the id of an image differs at every site."""
    if name not in committed:
        return Standing.NEW
    return Standing.SAME if committed[name].digest == entry.digest else Standing.OTHER


def commit(names: Sequence[str] = ()) -> tuple[str, ...]:
    """Write what was built here into the checkout's lock: these images, or those that it has already.

    Returns:
        The names whose entries were written.

    Raises:
        ConfigError: an image that was not built here, or no checkout.
    """
    path, built = committed_path(), read(built_path())
    if path.parent.name != "images" or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{path} can't be written. Lock images in a checkout of torchskew.")
    if unknown := [name for name in names if name not in built]:
        known = ", ".join(built) or "none"
        raise ConfigError(f"not built here: {', '.join(unknown)}. Built here: {known}. Run them with --runtime docker.")
    chosen = tuple(names or (name for name in read(path) if name in built))
    for name in chosen:
        add(path, name, built[name])
    return chosen


def read(path: Path) -> dict[str, Entry]:
    """Every entry by its name; an unreadable file counts as empty, because it can be made again."""
    try:
        tables = tomllib.loads(path.read_text())
        return {name: Entry(**fields) for name, fields in tables.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError):
        return {}


def add(path: Path, name: str, entry: Entry) -> None:
    """Write one entry; several processes may do so at once."""
    with held(path.name):
        entries = read(path) | {name: entry}
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".lock-", delete=False) as fresh:
            fresh.write(_HEAD + "".join(_table(each, entries[each]) for each in sorted(entries)))
        os.chmod(fresh.name, 0o644)
        os.replace(fresh.name, path)


@contextmanager
def held(name: str) -> Iterator[None]:
    """One process and thread at a time for what `name` names; the others wait for it."""
    with locks.alone(cache_folder() / "locks" / name):
        yield


def _table(name: str, entry: Entry) -> str:
    fields = asdict(entry)
    packages = fields.pop("packages")
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items() if value is not None]
    lines += ["packages = { " + ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in packages.items()) + " }"]
    return f"\n[{json.dumps(name)}]\n" + "\n".join(lines) + "\n"
