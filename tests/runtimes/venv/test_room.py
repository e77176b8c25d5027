"""Room is made by removing an environment, what the cache holds of it, and what nothing points to any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torchskew.model.versions import Source, SourceKind
from torchskew.runtimes.venv.room import Room, Size
from torchskew.runtimes.venv.store import StoredEnvironment

GONE = StoredEnvironment(
    identity="a" * 64, python="python", reports="2.6.0", git_version=None, python_version="3.11.7",
    packages=("torch==2.6.0", "nvidia-nccl==1", "torch==2.6.0"), size=5 * 10**9,
)  # fmt: skip


class Uv:
    """Remembers what it was called with."""

    owns_cache = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def call(self, *words: str) -> tuple[str, str]:
        self.calls.append(words)
        return "", ""


class Store:
    """Says what it would evict, and for how much."""

    folder = Path()

    def __init__(self, *gone: StoredEnvironment) -> None:
        self.gone, self.kept = gone, -1

    def evict(self, keep_bytes: int) -> tuple[StoredEnvironment, ...]:
        self.kept = keep_bytes
        return self.gone


def room(store: Store, uv: Uv, **sizes: Size) -> Room:
    wheels: Any = None
    return Room(store, uv, wheels, sizes)  # type: ignore[arg-type]


def test_the_cache_loses_what_was_evicted_and_what_nothing_points_to() -> None:
    uv = Uv()
    assert room(Store(GONE), uv).evict(0) == ("torch 2.6.0, 5.0 GB",)
    assert uv.calls == [("cache", "clean", "--quiet", "nvidia-nccl", "torch"), ("cache", "prune", "--quiet")]


def test_a_cache_that_is_somebody_elses_is_left_alone() -> None:
    uv = Uv()
    uv.owns_cache = False
    room(Store(GONE), uv).evict(0)
    room(Store(), Uv()).evict(0)
    assert uv.calls == []


@pytest.mark.parametrize(("there", "kept"), [(True, 90), (False, 70)])
def test_what_is_still_to_come_needs_its_room(there: bool, kept: int) -> None:
    store = Store()
    room(store, Uv(), a=Size(20, there=there)).make(90)
    assert store.kept == kept


def test_more_to_come_than_the_bound_holds_leaves_nothing_else() -> None:
    store = Store()
    room(store, Uv(), a=Size(200, there=False)).make(90)
    assert store.kept == 0


def test_an_interpreter_takes_no_room() -> None:
    assert room(Store(), Uv()).estimate(Source(kind=SourceKind.INTERPRETER, value="/bin/python")) == Size(0, there=True)
