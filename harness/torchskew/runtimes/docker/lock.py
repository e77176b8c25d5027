"""The lock file of images: what was built from what, with digests, so that two sites can compare."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torchskew.runtimes import locks
from torchskew.runtimes.docker.catalogue import images_folder
from torchskew.runtimes.ownership import cache_folder

_HEAD = "# What each image was made from. Written by provisioning; do not edit.\n"


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


def lock_path() -> Path:
    """In a checkout that can be written `images/lock.toml`, else a file in the user's cache."""
    folder = images_folder()
    if folder.name == "images" and os.access(folder, os.W_OK):
        return folder / "lock.toml"
    return cache_folder() / "images.lock.toml"


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
