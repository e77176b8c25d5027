"""Runs uv, and explains its errors: what failed, why, and the fix."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torchskew.errors import ProvisionError
from torchskew.runtimes.processes import tied
from torchskew.runtimes.venv import indexes

_DROPPED = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT")
_HOPELESS = re.compile(r",? ?(and you require [^,]+, )?we can conclude that .*$")
# Seconds that uv waits for another uv that downloads the same wheel; its own 300 are too few for a wheel of CUDA.
_AS_LONG_AS_A_DOWNLOAD = "7200"
_LONGEST = 400  # characters of uv's words that a person will read
DISK_FULL = r"No space left on device|os error 28\b|Disk quota"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """What an error text of uv means, and the fix."""

    says: str
    why: str
    fix: str


_MEANINGS = (  # the first that matches
    _Meaning(
        says=DISK_FULL,
        why="the disk is full",
        fix="Free space in {store} or set XDG_CACHE_HOME to another disk; `torchskew clean --store` removes "
        "environments that nothing uses.",
    ),
    _Meaning(
        says=r"\b40[13]\b|[Uu]nauthorized|Forbidden",
        why="the index refused access",
        fix="Check the user name and token (UV_DEFAULT_INDEX, or index-url in pip's configuration).",
    ),
    _Meaning(
        says=r"[Ff]ailed to fetch|error sending request|dns error|timed out|tunnel error|Request failed",
        why="the index can't be reached",
        fix="Check the network and HTTPS_PROXY, or name an index that answers (UV_DEFAULT_INDEX, or index-url "
        "in pip's configuration).",
    ),
    _Meaning(
        says=r"no wheels? with a matching|no compatible|not compatible with|no usable wheels|incompatible with",
        why="no wheel fits any Python on this machine",
        fix="Install a Python that it was built for (like `uv python install 3.10`), or name that "
        "Python in the version's `python`.",
    ),
    _Meaning(
        says=r"Failed to inspect Python|No interpreter found|"
        r"No virtual environment or system Python|not a valid Python|broken symlink",
        why="that Python is not installed",
        fix="Install it (`uv python install {python}`), or name another in `python`.",
    ),
    _Meaning(
        says=r"there (is|are) no versions? of|is available|are available",
        why="that release does not exist in the configured indexes",
        fix="Write a release that exists, or give the version an `index` that has it.",
    ),
    _Meaning(
        says=r"not found in the package registry|not found in the provided package",
        why="no index knows that name",
        fix="Correct the name, or give the version an `index` that has it.",
    ),
    _Meaning(
        says=r"Distribution not found at", why="there is no such file", fix="Build the wheel, or correct its path."
    ),
    _Meaning(
        says=r"zip file|[Ff]ailed to extract|Failed to read|[Ii]nvalid wheel|wheel filename|Failed to parse",
        why="it is not a wheel",
        fix="Build or download it again: a wheel is a zip file named name-version-python-abi-platform.whl.",
    ),
    _Meaning(
        says=r"Permission denied|Read-only file system",
        why="the store is not writable",
        fix="Make {store} writable, or set XDG_CACHE_HOME to a folder that is.",
    ),
)


_FINDING = threading.Lock()  # sysconfig's tables, which the search reads, are half filled for a second thread


class UvError(Exception):
    """uv ended with an error; `words` is its own text, condensed."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words

    def about(self, *needles: str) -> bool:
        """Whether its text matches one of these patterns."""
        return any(re.search(needle, self.words) for needle in needles)

    def explained(self, what: str, store: Path, python: str | None) -> ProvisionError:
        """The error for a version: what could not be made, why, and the fix."""
        for meaning in _MEANINGS:
            if re.search(meaning.says, self.words):
                fix = meaning.fix.format(store=store, python=python or "3.11")
                return ProvisionError(f"{what}: {meaning.why}. {fix} uv says: {self.words}")
        fix = "Check that `uv pip install` works by hand."
        return ProvisionError(f"{what}: uv failed. {fix} uv says: {self.words or 'nothing'}")


class Uv:
    """uv, with one cache and the host's indexes."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def environ(self) -> dict[str, str]:
        """Its environment: ours, without what would redirect it, and with pip's settings."""
        environ = {name: value for name, value in os.environ.items() if name not in _DROPPED}
        environ |= indexes.settings(environ) | {"UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
        environ.setdefault("UV_CACHE_DIR", str(self.cache))
        environ.setdefault("UV_LOCK_TIMEOUT", _AS_LONG_AS_A_DOWNLOAD)
        return environ

    @property
    def owns_cache(self) -> bool:
        """Whether the cache is ours alone, so that we may empty it."""
        return not os.environ.get("UV_CACHE_DIR")

    def call(
        self,
        *arguments: str,
        stdin: str = "",
        extra: Mapping[str, str] | None = None,
        limit: float = 900.0,
        written: Callable[[int], None] | None = None,
    ) -> tuple[str, str]:
        """Standard output and error; UvError when it fails or takes longer than `limit` seconds.

        written: called with the bytes it wrote so far, while it runs.
        """
        aside = self.cache.with_name("work")  # away from any project's own settings
        aside.mkdir(parents=True, exist_ok=True)
        with subprocess.Popen(
            tied([binary(), *arguments]),  # a download of gigabytes must not go on without us
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=aside,
            env=self.environ() | dict(extra or {}),
        ) as process:
            try:
                out, err = _watched(process, stdin, limit, written)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise UvError(condensed(err))
        return out, err

    def interpreters(self) -> tuple[tuple[tuple[int, int], str], ...]:
        """Pythons of this machine as ((major, minor), path), one for each minor version, newest first."""
        out, _ = self.call("python", "list", "--only-installed", "--output-format", "json", limit=60.0)
        paths: dict[tuple[int, int], str] = {}
        for each in json.loads(out):
            parts = each["version_parts"]
            if each["implementation"] == "cpython" and each["variant"] == "default":
                paths.setdefault((parts["major"], parts["minor"]), each["path"])
        return tuple(sorted(paths.items(), reverse=True))


def binary() -> str:
    """The uv that was installed with torchskew."""
    from uv import find_uv_bin

    with _FINDING:
        return find_uv_bin()


def condensed(text: str) -> str:
    """An error of uv on one line, without prefixes and repeated conclusions, and not too long."""
    lines = [line.strip() for line in text.splitlines() if not line.startswith("warning:")]
    words = [re.sub(r"^(error|cause|hint)[: ]*", "", line) for line in lines]
    words = [_HOPELESS.sub("", word).removeprefix("Because ") for word in words]
    kept = list(dict.fromkeys(word.rstrip(".") for word in words if word))
    if len(kept) > 1 and kept[0].startswith("No solution found"):
        kept.pop(0)
    joined = "; ".join(kept)
    return joined if len(joined) <= _LONGEST else joined[:_LONGEST] + " …"


def _watched(
    process: subprocess.Popen[str], stdin: str, limit: float, written: Callable[[int], None] | None
) -> tuple[str, str]:
    deadline = time.monotonic() + limit
    given: str | None = stdin
    while True:
        try:
            return process.communicate(given, timeout=min(0.5, max(0.01, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            given = None
            if time.monotonic() >= deadline:
                process.kill()
                process.communicate()
                raise UvError(f"timed out after {limit:.0f} s") from None
            if written is not None:
                written(_bytes_written(process.pid))


def _bytes_written(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/io").read_text()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in text.splitlines()).get("wchar", "0"))
