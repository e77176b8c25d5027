"""A digest of the code that decides what a rank sees and how it is judged; docstrings and comments do not count."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from torchskew.runtimes.ownership import cache_folder

_PACKAGE: Final = Path(__file__).resolve().parents[1]
# Packages count whole, so that a module added to one of them counts without being listed here.
COUNTED: Final = (
    "inside",
    "guard/torchskew_guard.py",
    "engine",
    "runtimes",
    "faults",
    "model",
    "planning",
    "judging",
)
# Modules in them that lead to the plan, whose cells are in the key themselves, or that follow the verdict.
EXEMPT: Final = frozenset(
    {
        *(f"planning/{name}.py" for name in ("bisection", "blocks", "gate", "replay", "search", "shard", "suite")),
        *(f"judging/{name}.py" for name in ("blame", "controls", "decide", "diff", "flakes", "history", "update")),
    }
)
# Parsing everything that counts takes half a second. So the digest of a text is kept in the user's cache folder, under
# the digest of its bytes, which makes it right whatever the file's name and time.
_STORE: Final = f"code-digests-{sys.version_info.major}.{sys.version_info.minor}.json"
_MOST_STORED: Final = 2000


@cache
def digest_of_code(package: Path = _PACKAGE) -> str:
    """The digest of everything that counts in a source folder of torchskew."""
    return CodeDigests(cache_folder() / _STORE).of_files(package, counted_files(package))


@cache
def digest_of_bridge(package: Path = _PACKAGE) -> str:
    """The digest of the bridge, which only cells that meet at it depend on."""
    return CodeDigests(cache_folder() / _STORE).of_files(package, tuple(sorted(_files(package / "bridge"))))


@cache
def digest_of_source(source: str) -> str:
    """The digest of one Python source."""
    return CodeDigests(cache_folder() / _STORE).of_sources([source])[0]


def counted_files(package: Path = _PACKAGE) -> tuple[Path, ...]:
    """The files that count, in a fixed order."""
    exempt = {package / name for name in EXEMPT}
    return tuple(sorted(path for name in COUNTED for path in _files(package / name) if path not in exempt))


def _files(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from place.rglob("*.py")
    else:
        yield place


def normalised(source: str) -> str:
    """The syntax tree of a source as text: equal for sources that differ in docstrings, comments and layout only."""
    return ast.dump(_WithoutDocstrings().visit(ast.parse(source)))


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop a text that is a statement by itself: a docstring, or a comment written as one."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)


class CodeDigests:
    """Digests of sources, with a file that spares parsing what was parsed before."""

    def __init__(self, store: Path) -> None:
        """store: the file; made on first use."""
        self._store = store

    def of_files(self, package: Path, files: tuple[Path, ...]) -> str:
        """One digest over the names and the code of files."""
        digests = self.of_sources([path.read_text(encoding="utf-8") for path in files])
        lines = (f"{path.relative_to(package)} {each}" for path, each in zip(files, digests, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def of_sources(self, sources: list[str]) -> list[str]:
        """The digest of each source."""
        known = self._read()
        before = len(known)
        digests = []
        for source in sources:
            raw = hashlib.sha256(source.encode()).hexdigest()
            if raw not in known:
                known[raw] = hashlib.sha256(normalised(source).encode()).hexdigest()
            digests.append(known[raw])
        if len(known) > before:
            self._write(dict(list(known.items())[-_MOST_STORED:]))
        return digests

    def _read(self) -> dict[str, str]:
        """What the file holds; a file that is missing or damaged holds nothing, and is written again."""
        try:
            known = json.loads(self._store.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _write(self, known: dict[str, str]) -> None:
        # Without the file the next run parses again, half a second each: no reason to stop a run.
        with suppress(OSError):
            self._store.parent.mkdir(parents=True, exist_ok=True)
            # Put in place in one step: another run may be reading it.
            handle, name = tempfile.mkstemp(dir=self._store.parent, prefix=f".{self._store.name}-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(known, file)
            os.replace(name, self._store)
