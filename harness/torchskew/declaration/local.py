"""Requirements that are files here: a project's folder, `-e` before it for an editable installation, or a wheel."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

_EDITABLE = re.compile(r"(?:-e|--editable)[ =]\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """A requirement that is a file or a folder here. path: as written; text prints it as uv takes it."""

    path: str
    editable: bool = False

    @property
    def is_wheel(self) -> bool:
        """Whether it is a built wheel; else a project's folder."""
        return self.path.endswith(".whl")

    def __str__(self) -> str:
        return f"-e {self.path}" if self.editable else self.path


def local(text: str) -> Local | None:
    """The file or folder that a requirement names; None for one that an index has."""
    flag = _EDITABLE.match(text)
    path = text[flag.end() :].strip() if flag else text.strip()
    is_path = path.startswith((".", "/", "~")) or path.endswith(".whl") or ("/" in path and "@" not in path)
    return Local(path=path, editable=bool(flag)) if flag or is_path else None


def located(text: str, folder: str) -> str:
    """The requirement with its path absolute, if the folder is; one that an index has is left as it is."""
    here = local(text)
    if here is None or here.path.startswith("~"):
        return text
    return str(Local(path=posixpath.normpath(posixpath.join(folder, here.path)), editable=here.editable))


def package_name(text: str) -> str:
    """The normalised name of what a requirement installs; for a project's folder, the folder."""
    here = local(text)
    if here is None:
        return canonicalize_name(Requirement(text).name)
    if not here.is_wheel:
        return here.path
    return parse_wheel_filename(posixpath.basename(here.path))[0]


def check_local(here: Local) -> str | None:
    """What is wrong with how a local requirement is written, or None."""
    if not here.path:
        return "must name a folder after -e, like '-e ../mylib'."
    if not here.is_wheel:
        return None
    if here.editable:
        return f"can't install the wheel {here.path!r} as editable. Leave -e out."
    try:
        parse_wheel_filename(posixpath.basename(here.path))
    except InvalidWheelFilename:
        return f"must be the path of a wheel, name-version-python-abi-platform.whl, got {here.path!r}."
    return None
