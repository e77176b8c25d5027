"""The content of local projects and wheels, so that an environment is never used for another content than it has."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from torchskew.declaration.local import Local, local, package_name
from torchskew.errors import ProvisionError
from torchskew.runtimes.digest import digest

# What a project's folder holds besides its sources.
_NOT_SOURCES = frozenset({"__pycache__", "build", "dist", "node_modules", "out", "venv"})
# A folder with this file is the --out of an earlier run: it may have any name, and grows with every run.
_RECORD = "record.sqlite"
# What decides how an editable project is installed; its sources are read where they are.
_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


def locals_of(requires: Sequence[str]) -> tuple[Local, ...]:
    """The requirements that are files here."""
    return tuple(here for here in map(local, requires) if here is not None)


def project_name(text: str) -> str:
    """The name of what a requirement installs; of a project that says none in its pyproject.toml, the folder."""
    here = local(text)
    if here is None or here.is_wheel:
        return package_name(text)
    try:
        project = tomllib.loads((Path(here.path).expanduser() / _BUILD_FILES[0]).read_text("utf-8")).get("project")
    except (OSError, ValueError):  # what is wrong with it is said when it is installed
        project = None
    name = project.get("name") if isinstance(project, dict) else None
    return canonicalize_name(name) if isinstance(name, str) else package_name(text)


def installed_content(requires: Sequence[str], what: str) -> str:
    """A digest of what an installation takes from local files; empty where it takes nothing.

    Raises:
        ProvisionError: a file or folder that is not there.
    """
    found = [_checked(here, what) for here in locals_of(requires)]
    parts = [part for here in found for part in (str(here), *_installed(here))]
    return digest(*parts) if parts else ""


def imported_content(requires: Sequence[str]) -> str:
    """A digest of the sources of editable projects, which ranks import where they are; empty without any."""
    parts = [part for here in locals_of(requires) if here.editable for part in (here.path, *_hashes(_sources(here)))]
    return digest(*parts) if parts else ""


def folder_content(folder: str) -> str:
    """A digest of the sources in a folder that ranks import from."""
    return digest(folder, *_hashes(_sources(Local(path=folder))))


def data_content(folder: str) -> str:
    """A digest of what a folder of data holds, by names, sizes and times: data may be large."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return digest(folder, *(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sorted(files)))


def _checked(here: Local, what: str) -> Local:
    path = Path(here.path).expanduser()
    if here.is_wheel and not path.is_file():
        raise ProvisionError(f"{what}: requires names {path}, and there is no such file. Build the wheel.")
    if not here.is_wheel and not any((path / name).is_file() for name in _BUILD_FILES):
        fix = "Name a project's folder, or put folders without one in [ranks] pythonpath."
        raise ProvisionError(f"{what}: requires names {path}, which has no {' or '.join(_BUILD_FILES[:2])}. {fix}")
    return here


def _installed(here: Local) -> Iterator[str]:
    path = Path(here.path).expanduser()
    if here.is_wheel:
        return _hashes([path])
    if here.editable:
        return _hashes([path / name for name in _BUILD_FILES if (path / name).is_file()])
    return _hashes(_sources(here))


def _sources(here: Local) -> Iterator[Path]:
    for root, folders, names in os.walk(Path(here.path).expanduser()):
        folders[:] = sorted(each for each in folders if each not in _NOT_SOURCES and not each.startswith("."))
        folders[:] = [
            each for each in folders if not each.endswith(".egg-info") and not Path(root, each, _RECORD).exists()
        ]
        yield from (Path(root, name) for name in sorted(names) if not name.endswith(".pyc"))


def _hashes(paths: Sequence[Path] | Iterator[Path]) -> Iterator[str]:
    for path in paths:
        with path.open("rb") as file:
            yield f"{path} {hashlib.file_digest(file, 'sha256').hexdigest()}"
