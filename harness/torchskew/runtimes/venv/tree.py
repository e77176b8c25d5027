"""A tree of PyTorch's Python files without a build: what runs beside it, and what it says of itself."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from torchskew.errors import ProvisionError
from torchskew.inside.tree import RELEASE, TREE, python_files
from torchskew.model.versions import Source, SourceKind
from torchskew.runtimes.digest import digest

# What `import torch` needs of other packages before it comes to its compiled part (from its own metadata, 2.15).
_BESIDE = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy")
_FIRST = "typing-extensions"
NO_TORCH = "none"  # what the environment beside a tree reports


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree of Python files. release: what it says it is, "unknown" where it says nothing; content: of its files."""

    release: str
    content: str


def settings(source: Source, release: str) -> dict[str, str]:
    """The settings by which an agent knows that there is a tree, and no torch to import; none for other sources."""
    return {TREE: str(_folder(source)), RELEASE: release} if source.kind is SourceKind.SOURCE else {}


def installed_beside(source: Source) -> Source:
    """What is installed for a tree; any other source as it is."""
    if source.kind is not SourceKind.SOURCE:
        return source
    return replace(source, kind=SourceKind.PIP, value=_FIRST, requires=(*_BESIDE, *source.requires))


def read_tree(source: Source, what: str) -> Tree:
    """The tree that a source names.

    Raises:
        ProvisionError: there is none at that path, or it holds no package torch.
    """
    folder = _folder(source)
    if not (folder / "torch" / "__init__.py").is_file():
        seen = "holds no torch/__init__.py" if folder.is_dir() else "is no folder"
        fix = "Write the path of a checkout of PyTorch, or of an unpacked wheel."
        raise ProvisionError(f"{what}: {folder} {seen}. {fix}")
    stats = ((path, os.stat(path)) for path in python_files(str(folder / "torch")))
    files = [f"{os.path.relpath(path, folder)} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
    return Tree(release=_release(folder), content=digest(str(folder), *files))


def _folder(source: Source) -> Path:
    return Path(source.value).expanduser().absolute()


def python_version(python: str) -> str:
    """The release of an interpreter that uv made."""
    code = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def _release(folder: Path) -> str:
    """What the build wrote, else what a checkout says that it is going to be."""
    for path, pattern in (("torch/version.py", r"(?m)^__version__ *= *['\"]([^'\"]+)"), ("version.txt", r"(\S+)")):
        try:
            found = re.search(pattern, (folder / path).read_text())
        except (OSError, UnicodeError):
            continue
        if found:
            return found[1]
    return "unknown"
