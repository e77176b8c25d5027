"""Puts the guard and its start-up hook into a Python's environment, and takes them out: `torchskew guard --into`.

Not part of the one file that jobs copy. The .pth file is written last and removed first, so that no Python meets half
of it; it is also the sign that the other files are ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from torchskew.guard.generate import FILE
from torchskew.guard.start import MARK, START, start_text

PTH = "torchskew_guard.pth"
OLDEST = (3, 8)
_ASK = """
import json, sys, sysconfig
print(json.dumps([sys.version_info[:2], sysconfig.get_path("purelib"), "%s" in sys.modules]))
""" % START  # fmt: skip
_BESIDE = '__import__("os").path.join(__import__("os").path.dirname(__file__), %r)'


class Site(NamedTuple):
    """A Python, where its packages are, and whether it has loaded the hook."""

    python: str
    folder: Path
    guarded: bool


def into(python: str) -> str:
    """Put the guard into this Python's environment; the sentence that says so.

    ValueError where this is no Python of ours to change, OSError where its folder can't be written.
    """
    site = _site(python)
    texts = _texts()
    ours = _is_ours(site.folder / PTH)
    for name in texts:
        path = site.folder / name
        if path.exists() and not (ours and _is_ours(path)):
            raise ValueError(f"{path} is there, and was not put there by `torchskew guard --into`. Move it away.")
    for name, text in texts.items():
        _write(site.folder / name, text)
    _compile(site, [name for name in texts if name != PTH])
    if not _site(python).guarded:
        _take_out(site)
        raise ValueError(f"{site.python} does not load {site.folder / PTH} when it starts: use another environment.")
    return (
        f"{site.folder} has the guard: each Python of this environment is guarded from its start. "
        f"TORCHSKEW_GUARD=off switches it off; `torchskew guard --remove {python}` takes it out."
    )


def remove(python: str) -> str:
    """Take out what into() put there; ValueError and OSError as there."""
    site = _site(python)
    if not (site.folder / PTH).exists():
        return f"{site.folder} has no guard that `torchskew guard --into` put there: nothing to remove."
    foreign = [path for path in map(site.folder.joinpath, _texts()) if path.exists() and not _is_ours(path)]
    if foreign:
        raise ValueError(f"{foreign[0]} was not written by torchskew, so it stays. Remove it by hand.")
    _take_out(site)
    return f"The guard is out of {site.folder}."


def _texts() -> dict[str, str]:
    """Each file's text by name, in the order in which they are written."""
    return {
        FILE.name: FILE.read_text(encoding="utf-8"),
        f"{START}.py": start_text(FILE.stem, _BESIDE % FILE.name),
        PTH: f"{MARK}\nimport {START}\n",
    }


def _site(python: str) -> Site:
    """A Python by its path, its name, or its environment's folder."""
    found = shutil.which(python)
    if os.path.isdir(python):
        inside = (os.path.join(python, "bin", "python"), os.path.join(python, "Scripts", "python.exe"))
        found = next(filter(os.path.exists, inside), None)
    if not found:
        raise ValueError(f"--into, --remove: {python} is no Python. Give the path of one, or of its environment.")
    env = {name: value for name, value in os.environ.items() if name != "TORCHSKEW_GUARD"}
    done = subprocess.run([found, "-I", "-c", _ASK], capture_output=True, text=True, check=False, env=env, timeout=60)
    try:
        version, folder, guarded = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise ValueError(f"--into, --remove: {found} does not run as a Python: {last}") from None
    if tuple(version) < OLDEST:
        raise ValueError(f"{found} is Python {version[0]}.{version[1]}; the guard needs 3.8 or later.")
    return Site(found, Path(folder), guarded)


def _is_ours(path: Path) -> bool:
    """Whether torchskew wrote this file."""
    with contextlib.suppress(OSError, UnicodeError):
        head = path.read_text(encoding="utf-8")[:2000]
        return MARK in head or "# Generated from torchskew " in head
    return False


def _write(path: Path, text: str) -> None:
    """The whole file, or none of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _compile(site: Site, names: list[str]) -> None:
    """Bytecode beside the files, where that can be written: jobs may not be allowed to write it themselves."""
    command = [site.python, "-I", "-m", "compileall", "-q", *(str(site.folder / name) for name in names)]
    subprocess.run(command, capture_output=True, check=False, timeout=60)


def _take_out(site: Site) -> None:
    """Remove the files, the .pth first, and their bytecode."""
    for name in reversed(_texts()):
        (site.folder / name).unlink(missing_ok=True)
        for bytecode in (site.folder / "__pycache__").glob(f"{Path(name).stem}.*.pyc"):
            bytecode.unlink(missing_ok=True)
