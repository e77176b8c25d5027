"""Unpacks the wheels of a pip requirement or a local wheel for an image, with the host's own indexes and rights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from torchskew.errors import ProvisionError
from torchskew.model.versions import Source, SourceKind, Suite
from torchskew.runtimes import ownership
from torchskew.runtimes.digest import digest
from torchskew.runtimes.docker.pulling import Say
from torchskew.runtimes.docker.space import ImageSpace
from torchskew.runtimes.ownership import cache_folder
from torchskew.runtimes.venv.downloads import measured
from torchskew.runtimes.venv.projects import locals_of
from torchskew.runtimes.venv.resolve import download_size, is_pinned, lock_of, named, unpacked_size
from torchskew.runtimes.venv.room import UNPACKED
from torchskew.runtimes.venv.uv import Uv, UvError

# The oldest suite's C library, so that one rule serves every suite.
_GLIBC = "manylinux_2_31"
_PATIENCE = 3  # seconds for the CPU index to answer


def sites() -> Path:
    """Where wheels are unpacked: beside uv's cache, so that files are linked and not copied."""
    return cache_folder() / "sites"


def inputs(source: Source) -> tuple[str, ...]:
    """Everything about the source that decides what is unpacked; for a wheel its content.

    Raises:
        ProvisionError: no such wheel, or no requirement.
    """
    if projects := [str(here) for here in locals_of(source.requires) if not here.is_wheel]:
        fix = "Build a wheel of it and name that, use the venv runtime, or put the folder in [ranks] pythonpath."
        raise ProvisionError(f"requires names {projects[0]}, which an image can't install. {fix}")
    content = _requirement(source) if source.kind is SourceKind.PIP else _content(source.value)
    beside = [content for here in locals_of(source.requires) for content in [_content(here.path)]]
    # An image of torch alone is not made again for each day.
    until = [f"until {source.until}"] if source.until and source.requires else []
    return (source.kind, content, source.index or "", *sorted(source.requires), *beside, *until)


@contextmanager
def unpacked(source: Source, suite: Suite, machine: str, say: Say, space: ImageSpace) -> Iterator[Path]:
    """A folder with the wheels unpacked for a suite's Python, gone at the end; until then their image has its space.

    Raises:
        ProvisionError: uv's reason and the fix, or the disk can't hold the image.
    """
    uv = Uv(cache_folder() / "uv")
    with ExitStack() as stack:
        site = stack.enter_context(ownership.working(sites()))
        options = ["--quiet", "--python-version", suite.python]
        options += ["--python-platform", f"{machine}-{_GLIBC}", "--only-binary", ":all:"]
        if source.index:
            options += ["--index", source.index, "--index-strategy", "unsafe-best-match"]
        if source.until:
            options += ["--exclude-newer", source.until]
            options += ["--exclude-newer-package", f"{named(source)}=false"] if is_pinned(source) else []
        asked = [_requirement(source), *source.requires]
        command = ["pip", "install", "--target", str(site), *options, *asked]

        def written(done: int) -> None:
            say(f"fetching {source.value}", done)

        try:
            more = _cpu(uv, source, command)
            image, cache = _sizes(uv, asked, [*options, *more], [*command, *more])
            stack.enter_context(space.reserved(digest(*inputs(source), suite.name), image=image, cache=cache))
            uv.call(*command, *more, written=written)
        except UvError as error:
            raise error.explained(source.value, cache_folder(), suite.python) from error
        yield site


def _sizes(uv: Uv, asked: list[str], options: list[str], command: list[str]) -> tuple[int, int]:
    """Bytes that the wheels take unpacked in an image, and those of them that uv's cache doesn't have yet."""
    text, _ = uv.call("pip", "compile", "-", "--format", "pylock.toml", "--no-header", *options, stdin="\n".join(asked))
    lock, bundle = lock_of(text, ""), uv.environ().get("SSL_CERT_FILE")
    _, planned = uv.call(*(each for each in command if each != "--quiet"), "--dry-run")
    missing = re.search(r"Would download (\d+) package", planned)
    size, _ = download_size(lock, bundle)
    fetched = measured(lock, int(missing[1]) if missing else 0, bundle)
    fetched = measured(lock, int(missing[1]) if missing else 0, bundle)
    return round(size * UNPACKED) + unpacked_size(lock), fetched.on_disk


def _cpu(uv: Uv, source: Source, command: list[str]) -> list[str]:
    """Options for the CPU builds of torch, when their index answers at once and has the release."""
    if source.kind is not SourceKind.PIP or source.index or "UV_TORCH_BACKEND" in uv.environ():
        return []
    quick = {"UV_HTTP_TIMEOUT": str(_PATIENCE), "UV_HTTP_CONNECT_TIMEOUT": str(_PATIENCE), "UV_HTTP_RETRIES": "0"}
    more = ["--torch-backend", "cpu"]
    try:
        uv.call(*command, *more, "--dry-run", extra=quick, limit=4.0 * _PATIENCE)
    except UvError:
        return []  # the host's own indexes are asked next, and their answer is the one that counts
    return more


def _requirement(source: Source) -> str:
    if source.kind is SourceKind.WHEEL:
        return str(Path(source.value).absolute())
    try:
        return str(Requirement(source.value))
    except InvalidRequirement as error:
        raise ProvisionError(f'{source.value!r} is no requirement. Write it like "torch==2.6.0".') from error


def _content(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        why = error.strerror or "can't be read"
        raise ProvisionError(f"{path}: {why}. Build the wheel, or correct its path.") from error
