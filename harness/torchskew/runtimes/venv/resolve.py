"""Resolves which wheels a version needs, for which Python, and how large the download is."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import ssl
import sys
import threading
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.requirements import Requirement

from torchskew.declaration.local import local
from torchskew.model.versions import Source, SourceKind
from torchskew.runtimes.digest import digest
from torchskew.runtimes.venv import indexes
from torchskew.runtimes.venv.projects import installed_content
from torchskew.runtimes.venv.uv import Uv, UvError

_PATIENCE = 3.0  # seconds for the CPU index to answer, and for one size
_NO_FIT = r"no wheels? with a matching|does not satisfy Python|no usable wheels|no compatible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A resolution: pylock.toml text, the Python it is for, the wheels as (name, version, url or path).

    content: digest of the local projects and wheels in it.
    """

    text: str
    python: str
    wheels: tuple[tuple[str, str, str], ...]
    content: str = ""

    @property
    def identity(self) -> str:
        """Digest of what is installed, for which Python and platform; where a wheel comes from is none of it."""
        lock, more = tomllib.loads(self.text), (self.content,) if self.content else ()
        packages = sorted(map(_content, lock.get("packages", ())))
        return digest(lock.get("requires-python", ""), *packages, sys.platform, platform.machine(), *more)

    @property
    def projects(self) -> tuple[str, ...]:
        """The names of the projects in it whose folders are here."""
        return tuple(each["name"] for each in tomllib.loads(self.text).get("packages", ()) if "directory" in each)

    def parts(self) -> Iterator[str]:
        """A lock of its own for each wheel that is downloaded and known by its hash, as pylock.toml text."""
        head, *packages = re.split(r"^(?=\[\[packages\]\]$)", self.text, flags=re.MULTILINE)
        known = r'^wheels = \[\{ url = "https?://.*hashes = \{'
        return (head + package for package in packages if re.search(known, package, flags=re.MULTILINE))

    @property
    def packages(self) -> tuple[str, ...]:
        """`name==version` of everything in it."""
        return tuple(f"{name}=={version}" if version else name for name, version, _ in self.wheels)


def lock_of(text: str, python: str) -> Lock:
    """The lock that uv wrote as this pylock.toml."""
    return Lock(text=text, python=python, wheels=tuple(_wheels(text)))


class Resolver:
    """Asks uv; tries the CPU index first as long as it answers, which is remembered for all versions."""

    def __init__(self, uv: Uv) -> None:
        self._uv = uv
        self._cpu_answers: bool | None = None
        self._asking = threading.Lock()

    def resolve(self, source: Source) -> Lock:
        """The lock for the declared Python, else this one, else any here that has wheels; UvError if none."""
        first: UvError | None = None
        for python in self._pythons(source):
            try:
                return self._locked(source, python)
            except UvError as error:
                first = first or error
                if source.python or not error.about(_NO_FIT):
                    break
        assert first is not None
        fetched = None if source.python else self._fetched(first)
        if fetched is None:
            raise first
        return self._locked(source, fetched)

    def _pythons(self, source: Source) -> Iterator[str]:
        yield source.python or sys.executable
        if not source.python:
            here = sys.version_info[:2]
            yield from (path for minor, path in self._uv.interpreters() if minor != here)

    def _fetched(self, error: UvError) -> str | None:
        """The newest Python that uv found wheels for, installed into the store; None when that can't be."""
        minors = [int(each) for each in re.findall(r"`cp3(\d+)m?`", error.words.partition("with the following")[2])]
        if not minors or not error.about(_NO_FIT) or self._uv.environ().get("UV_PYTHON_DOWNLOADS") == "never":
            return None
        release = f"3.{max(minors)}"
        extra = {"UV_PYTHON_INSTALL_DIR": str(self._uv.cache.with_name("pythons")), "UV_HTTP_RETRIES": "0"}
        try:
            self._uv.call("python", "install", "--quiet", "--no-bin", release, extra=extra, limit=300.0)
            path, _ = self._uv.call("python", "find", "--managed-python", release, extra=extra)
        except UvError:
            return None  # what uv said about the wheels tells more than why this failed
        return path.strip()

    def _locked(self, source: Source, python: str) -> Lock:
        lock = lock_of(self._compiled(source, python), python)
        return replace(lock, content=installed_content(source.requires, named(source)))

    def _compiled(self, source: Source, python: str) -> str:
        if self._try_cpu(source):
            quick = {"UV_HTTP_TIMEOUT": f"{_PATIENCE:.0f}", "UV_HTTP_RETRIES": "0"}
            try:
                return self._asked(source, python, "--torch-backend", "cpu", extra=quick, limit=4 * _PATIENCE)
            except UvError as error:
                # Unreachable, or without this release: the default index may have it.
                self._cpu_answers = not error.about("[Ff]ailed to fetch|timed out|error sending request")
        return self._asked(source, python)

    def _try_cpu(self, source: Source) -> bool:
        plain = source.kind is SourceKind.PIP and source.index is None and named(source) == "torch"
        decided = {"UV_TORCH_BACKEND", "UV_OFFLINE"} & self._uv.environ().keys() or indexes.flags(os.environ)
        return plain and self._cpu_answers is not False and not decided

    def _asked(
        self,
        source: Source,
        python: str,
        *more: str,
        extra: dict[str, str] | None = None,
        limit: float = 120.0,
    ) -> str:
        command = ["pip", "compile", "-", "--format", "pylock.toml", "--no-header", "--quiet"]
        command += ["--python", python, "--only-binary", named(source), *more, *indexes.flags(os.environ)]
        if source.index:
            command += ["--index", source.index, "--index-strategy", "unsafe-best-match"]
        if source.until:
            command += ["--exclude-newer", source.until]
            # A release that is named exactly is wanted whenever it was uploaded; not every index says when that was.
            command += ["--exclude-newer-package", f"{named(source)}=false"] if is_pinned(source) else []
        lines = "\n".join((_requirement(source), *source.requires))
        out, _ = self._uv.call(*command, stdin=lines, extra=extra, limit=limit)
        return out


def named(source: Source) -> str:
    """The name of the distribution that the source asks for; InvalidRequirement where it is not a requirement."""
    if source.kind is SourceKind.WHEEL:
        return Path(source.value).name.partition("-")[0].replace("_", "-").lower()
    return Requirement(source.value).name


def asked_for(source: Source) -> tuple[str, ...]:
    """The names of the distributions that the source asks for; what those need is known once it is resolved."""
    return (named(source), *(Requirement(each).name for each in source.requires if local(each) is None))


def is_pinned(source: Source) -> bool:
    """Whether the source can mean one release only."""
    if source.kind is SourceKind.WHEEL:
        return True
    specifiers = list(Requirement(source.value).specifier)
    return any(each.operator == "==" and not each.version.endswith("*") for each in specifiers)


def download_size(lock: Lock, bundle: str | None) -> tuple[int, bool]:
    """Bytes of all wheels that are not on this disk, and whether every one is known.

    bundle: file of certificates to trust, None for the system's.
    """
    sizes, exact = download_sizes(lock, bundle)
    return sum(sizes), exact


def download_sizes(lock: Lock, bundle: str | None) -> tuple[list[int], bool]:
    """Bytes of each wheel that is not on this disk, 0 where unknown, and whether all are known."""
    urls = [url for _, _, url in lock.wheels if url.startswith(("https://", "http://"))]
    if not urls:
        return [], True
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=bundle)))
    with ThreadPoolExecutor(8, "size") as pool:
        sizes = list(pool.map(lambda url: _size(opener, url), urls))
    return [size or 0 for size in sizes], None not in sizes


def unpacked_size(lock: Lock) -> int:
    """Bytes that the wheels already on this disk unpack to."""
    places = [unquote(url.removeprefix("file://")) for _, _, url in lock.wheels]
    return sum(
        member.file_size
        for place in places
        if zipfile.is_zipfile(place)
        for member in zipfile.ZipFile(place).infolist()
    )


def _size(opener: urllib.request.OpenerDirector, url: str) -> int | None:
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(bare, method="HEAD")  # noqa: S310 # the caller lets http only through
    if parts.username:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(secret).decode()}")
    try:
        with opener.open(request, timeout=_PATIENCE) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return None  # the download itself will say what is wrong


def _requirement(source: Source) -> str:
    if source.kind is SourceKind.WHEEL:
        return f"{named(source)} @ {Path(source.value).absolute().as_uri()}"
    return source.value


def _content(package: Mapping[str, Any]) -> str:
    """A package of a lock by the digests of its wheels, where they are known; else by all that the lock says of it."""
    wheels = package.get("wheels", ())
    if not wheels or not all(wheel.get("hashes") for wheel in wheels):
        return json.dumps(package, sort_keys=True, default=str)
    digests = sorted(f"{kind}:{value}" for wheel in wheels for kind, value in wheel["hashes"].items())
    return json.dumps([package["name"], package.get("version"), package.get("marker"), digests])


def _wheels(text: str) -> Iterator[tuple[str, str, str]]:
    for package in tomllib.loads(text).get("packages", ()):
        files = [*package.get("wheels", ()), package.get("archive") or package.get("sdist") or {}]
        place = files[0].get("url") or files[0].get("path") or ""
        yield package["name"], package.get("version", ""), place
