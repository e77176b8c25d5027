"""What a failed download left is removed once the last download has ended; what is in use stays."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torchskew.runtimes.reservations import NoSpaceError
from torchskew.runtimes.venv.downloads import Downloads, DownloadSize
from torchskew.runtimes.venv.resolve import Lock
from torchskew.runtimes.venv.uv import UvError

FULL = "Failed to extract archive; No space left on device (os error 28)"


class FakeUv:
    """Notes what it is called for; fails when told so."""

    def __init__(self, *, owns_cache: bool = True, fails: bool = False) -> None:
        self.owns_cache, self.fails = owns_cache, fails
        self.calls: list[str] = []

    def call(self, *arguments: str, **options: Any) -> None:
        del options
        self.calls.append(" ".join(arguments))
        if self.fails:
            raise UvError("Cache is currently in-use")


class FakeStore:
    """A store with one environment."""

    def __init__(self, folder: Path, *packages: str) -> None:
        self.folder, self._packages = folder, frozenset(packages)

    def packages(self) -> frozenset[str]:
        return self._packages


@pytest.fixture
def uv() -> FakeUv:
    return FakeUv()


@pytest.fixture
def downloads(tmp_path: Path, uv: FakeUv, monkeypatch: pytest.MonkeyPatch) -> Downloads:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=11 * 10**9))
    return Downloads(FakeStore(tmp_path, "numpy==2.0", "torch==2.6.0"), uv)  # type: ignore[arg-type]


def lock(*packages: str) -> Lock:
    parts = (package.partition("==") for package in packages)
    wheels = tuple((name, version, f"https://x/{name}.whl") for name, _, version in parts)
    text = "".join(f'[[packages]]\nname = "{name}"\nversion = "{version}"\n' for name, version, _ in wheels)
    return Lock(text=text, python="python", wheels=wheels)


NEW = lock("torch==2.7.0", "numpy==2.0", "nvidia-cudnn==9")


def fail(downloads: Downloads, words: str, of: Lock = NEW) -> None:
    with suppress(UvError), downloads.running(of, 1):
        raise UvError(words)


def test_a_full_disk_leaves_no_wheels_that_no_environment_has(downloads: Downloads, uv: FakeUv) -> None:
    fail(downloads, FULL)
    assert uv.calls == ["cache clean --quiet nvidia-cudnn torch", "cache prune --quiet"]


def test_another_failure_keeps_the_wheels_that_arrived_for_the_next_try(downloads: Downloads, uv: FakeUv) -> None:
    fail(downloads, "timed out after 3600 s")
    assert uv.calls == ["cache prune --quiet"]


def test_a_download_that_works_leaves_all_as_it_is(downloads: Downloads, uv: FakeUv) -> None:
    with downloads.running(NEW, 1):
        pass
    assert uv.calls == []


def test_nothing_is_removed_while_another_download_goes_on(downloads: Downloads, uv: FakeUv) -> None:
    with downloads.running(lock("torch==2.8.0"), 1):
        fail(downloads, FULL)
        assert uv.calls == []
    assert uv.calls == ["cache clean --quiet nvidia-cudnn torch", "cache prune --quiet"]
    uv.calls.clear()
    with downloads.running(NEW, 1):
        pass
    assert uv.calls == []


def test_a_version_that_is_refused_beforehand_leaves_nothing_to_remove(downloads: Downloads, uv: FakeUv) -> None:
    with pytest.raises(NoSpaceError), downloads.running(NEW, 12 * 10**9):
        pass
    assert uv.calls == []


def test_a_cache_that_is_not_ours_is_left_alone(downloads: Downloads, uv: FakeUv) -> None:
    uv.owns_cache = False
    fail(downloads, FULL)
    assert uv.calls == []


def test_what_can_t_be_removed_hides_no_reason(downloads: Downloads, uv: FakeUv) -> None:
    uv.fails = True
    with pytest.raises(UvError, match="No space left"), downloads.running(NEW, 1):
        raise UvError(FULL)


def test_a_refusal_gives_the_figures_and_the_fix(tmp_path: Path) -> None:
    size = DownloadSize(most=3 * 10**9, least=3 * 10**9, exact=True)
    said = size.refused(tmp_path, NoSpaceError(free=11 * 10**9, promised=10_500_000_000))
    assert said == (
        f"the disk is full: 3.0 GB to download need about 5.2 GB on disk, 11.0 GB are free at {tmp_path}, of which "
        "versions being made now need 10.5 GB. Free some, or set XDG_CACHE_HOME to another disk; "
        "`torchskew clean --store` removes every environment and image that no run uses."
    )
    assert "of which" not in size.refused(tmp_path, NoSpaceError(free=1, promised=0))
