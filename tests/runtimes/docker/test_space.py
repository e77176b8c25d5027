"""Images that are made side by side share the free space of a disk, and with environments where that is one disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.errors import ProvisionError
from torchskew.runtimes.docker.space import ImageSpace
from torchskew.runtimes.ownership import cache_folder
from torchskew.runtimes.reservations import Reservations

GB = 10**9


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine's folder, on a disk with 11 GB free."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=11 * GB))
    folder = tmp_path / "docker"
    folder.mkdir()
    return folder


def test_of_three_images_those_begin_that_the_disk_holds_together(engine: Path) -> None:
    space = ImageSpace(engine)
    words = "image needs about 5.0 GB, 11.0 GB are free at .*, of which versions being made now need 10.0 GB"
    with (
        space.reserved("a", image=3 * GB, cache=2 * GB),
        ImageSpace(engine).reserved("b", image=5 * GB),
        pytest.raises(ProvisionError, match=words),
        space.reserved("c", image=5 * GB),
    ):
        pass
    with space.reserved("c", image=5 * GB):
        pass


def test_an_environment_under_way_counts_on_the_same_disk(engine: Path) -> None:
    with (
        Reservations(cache_folder()).reserved("environment", 8 * GB),
        pytest.raises(ProvisionError, match=r"need 8\.0 GB"),
        ImageSpace(engine).reserved("a", image=5 * GB),
    ):
        pass


def test_another_disk_has_promises_of_its_own(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat
    other = SimpleNamespace(st_dev=os.stat("/proc").st_dev)
    monkeypatch.setattr(Path, "stat", lambda path, **more: other if path == engine else stat(path, **more))
    with (
        Reservations(cache_folder()).reserved("environment", 8 * GB),
        ImageSpace(engine).reserved("a", image=5 * GB),
        pytest.raises(ProvisionError, match=r"need 5\.0 GB"),
        ImageSpace(engine).reserved("b", image=7 * GB),
    ):
        pass


def test_an_engine_elsewhere_takes_no_space_here(engine: Path) -> None:
    with ImageSpace(None).reserved("a", image=100 * GB, cache=GB):
        pass
