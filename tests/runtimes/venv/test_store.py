"""Whole environments only, found again, and answers that grow old."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from torchskew.runtimes.digest import digest
from torchskew.runtimes.venv.store import Store, StoredEnvironment

from tests.patience import PATIENCE


@pytest.fixture
def store(tmp_path: Path):
    made = Store(tmp_path)
    yield made
    made.release()


def fill(store: Store, identity: str, size: int = 10) -> StoredEnvironment:
    with store.making(identity) as place:
        assert place is not None
        (place / "bin").mkdir(parents=True)
        (place / "bin/python").write_text("")
        made = StoredEnvironment(
            identity=identity, python=str(place / "bin/python"), reports=identity, git_version=None,
            python_version="3.11.7", packages=(), size=size,
        )  # fmt: skip
        store.finish(made)
    return made


def test_a_digest_tells_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab", "c") == digest("ab", "c")


def test_what_is_finished_is_whole_and_can_be_taken(store) -> None:
    made = fill(store, "a" * 64)
    assert store.take("a" * 64) == made
    assert store.take("b" * 64) is None


def test_what_is_not_finished_is_removed(store) -> None:
    with store.making("a" * 64) as place:
        place.mkdir()
    assert not store.place("a" * 64).exists()


def test_what_a_killed_maker_left_is_removed_first(store) -> None:
    (store.place("a" * 64) / "half").mkdir(parents=True)
    with store.making("a" * 64) as place:
        assert not place.exists()


def test_a_second_maker_waits_and_finds_it_made(store) -> None:
    inside, found = threading.Event(), []

    def second() -> None:
        inside.wait()
        with Store(store.folder).making("a" * 64) as place:
            found.append(place)

    thread = threading.Thread(target=second)
    thread.start()
    with store.making("a" * 64) as place:
        inside.set()
        (place / "bin").mkdir(parents=True)
        (place / "bin/python").write_text("")
        store.finish(
            StoredEnvironment(
                identity="a" * 64, python=str(place / "bin/python"), reports="", git_version=None,
                python_version="", packages=(), size=1,
            )
        )  # fmt: skip
    assert store.take("a" * 64) is not None  # in use from now on, which must not keep the second waiting
    thread.join(PATIENCE)
    assert found == [None]


def test_an_environment_whose_python_is_gone_is_not_whole(store) -> None:
    made = fill(store, "a" * 64)
    Path(made.python).unlink()
    assert not store.whole("a" * 64)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"other": 1}'])
def test_a_marker_that_says_something_else_does_not_count(store, text) -> None:
    fill(store, "a" * 64)
    (store.place("a" * 64) / "torchskew.json").write_text(text)
    assert not store.whole("a" * 64)


def test_an_answer_to_a_pinned_request_stays_and_another_grows_old_in_a_day(store) -> None:
    store.remember("r" * 64, "answer")
    assert store.answer("r" * 64, pinned=False) == "answer"
    path = next((store.folder / "requests").iterdir())
    old = time.time() - 25 * 3600
    os.utime(path, (old, old))
    assert store.answer("r" * 64, pinned=False) is None
    assert store.answer("r" * 64) == "answer"
    assert store.answer("unknown") is None


def test_eviction_spares_what_another_store_uses_until_it_lets_go(store) -> None:
    fill(store, "a" * 64)
    other = Store(store.folder)
    assert other.take("a" * 64) is not None
    assert store.evict(0) == ()
    other.release()
    assert [made.identity for made in store.evict(0)] == ["a" * 64]


def test_a_file_that_two_environments_share_by_hard_link_counts_once(store) -> None:
    for identity in ("a" * 64, "b" * 64):
        fill(store, identity, size=10**6)
        os.utime(store.place(identity) / "torchskew.json", (ord(identity[0]),) * 2)
    large = store.place("a" * 64) / "library"
    large.write_bytes(bytes(10**6))
    alone = store.used()
    os.link(large, store.place("b" * 64) / "library")
    assert store.used() == alone
    # Evicting one of them frees nothing of what the other keeps.
    assert [made.identity[0] for made in store.evict(10**6)] == ["a", "b"]
