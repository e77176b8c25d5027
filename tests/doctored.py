"""Copies of an installed release by symbolic links, one thing broken: what a gate must not let through."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Change = Callable[[str], str]
VERSION = "2.13.1+doctored"


def doctored(python: str, folder: Path, changes: Mapping[str, Change], label: str = VERSION) -> str:
    """Path of a new interpreter whose site-packages are those of `python`, but for the changed files.

    changes: path below site-packages -> what becomes of its text. label: the release that the copy says it is.
    """
    origin = next(Path(python).parent.parent.glob("lib/python3*/site-packages"))
    home = folder / "bin"
    home.mkdir(parents=True)
    (home / "python").symlink_to(Path(python).resolve())
    base = Path(python).resolve().parent
    numbers = ".".join(str(number) for number in sys.version_info[:3])
    (folder / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\nversion = {numbers}\n")
    place = folder / "lib" / origin.parent.name / "site-packages"
    place.parent.mkdir(parents=True)
    place.symlink_to(origin)
    for name, change in {"torch/version.py": _labelled(label), **changes}.items():
        _own(place, Path(name).parent)
        target = place / name
        text = (origin / name).read_text()
        made = change(text)
        assert made != text, f"nothing changed in {name}"
        target.unlink()
        target.write_text(made)
    return str(home / "python")


def _own(place: Path, parent: Path) -> None:
    """Make every folder down to parent a real one whose entries are links; compiled files are copied, never shared."""
    for folder in [place, *(place / each for each in reversed([parent, *parent.parents][:-1]))]:
        if not folder.is_symlink():
            continue
        origin = folder.resolve()
        folder.unlink()
        folder.mkdir()
        for entry in origin.iterdir():
            if entry.name == "__pycache__":
                shutil.copytree(entry, folder / entry.name)
            else:
                (folder / entry.name).symlink_to(entry)


def _labelled(label: str) -> Change:
    def change(text: str) -> str:
        old = next(line for line in text.splitlines() if line.startswith("__version__"))
        return text.replace(old, f"__version__ = {label!r}")

    return change


def replaced(old: str, new: str) -> Change:
    """Every `old` becomes `new`."""
    return lambda text: text.replace(old, new)


def added(code: str) -> Change:
    """Code at the end of a module."""
    return lambda text: f"{text}\n{code}"
