"""The kind of a build: which device torch was built for, and what a rank does beside a build of another kind."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.inside.kinds import kind_of_build, need_one_kind
from torchskew.inside.kit import Unsupported

from tests.inside.test_kit import job


def torch_for(monkeypatch: pytest.MonkeyPatch, release: str, **devices: str | None) -> None:
    version = SimpleNamespace(**devices)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(version=version, __version__=release))


@pytest.mark.parametrize(
    ("devices", "kind"),
    [
        ({}, "CPU"),
        ({"cuda": None, "hip": None, "xpu": None}, "CPU"),
        ({"cuda": "13.2", "hip": None}, "CUDA"),
        ({"cuda": "12.1", "hip": "6.2"}, "ROCm"),
        ({"xpu": "20250101"}, "XPU"),
    ],
)
def test_a_build_is_of_the_device_it_was_built_for(
    monkeypatch: pytest.MonkeyPatch, devices: dict[str, str | None], kind: str
) -> None:
    torch_for(monkeypatch, "2.13.0", **devices)
    assert kind_of_build() == kind


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_builds_of_two_kinds_are_not_compared_and_both_are_named_the_first_rank_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, order: tuple[int, int]
) -> None:
    builds: dict[int, dict[str, str | None]] = {0: {"cuda": None}, 1: {"cuda": "13.2"}}
    releases = ("2.13.0+cpu", "2.15.0+cu132")
    first, second = (job(rank=rank, world_size=2, share=str(tmp_path))[0] for rank in order)
    torch_for(monkeypatch, releases[first.rank], **builds[first.rank])
    need_one_kind(first, ())
    torch_for(monkeypatch, releases[second.rank], **builds[second.rank])
    why = r"^2\.13\.0\+cpu is a CPU build and 2\.15\.0\+cu132 is a CUDA build; only builds of one kind can be compared$"
    with pytest.raises(Unsupported, match=why):
        need_one_kind(second, [first.rank])


def test_builds_of_one_kind_are_compared_whatever_their_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for rank, cuda in enumerate(("12.1", "13.2")):
        torch_for(monkeypatch, f"2.{rank}", cuda=cuda)
        need_one_kind(job(rank=rank, world_size=2, share=str(tmp_path))[0], range(rank))
