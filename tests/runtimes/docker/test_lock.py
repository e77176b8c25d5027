"""The lock file keeps what was built from what, whoever writes at the same time."""

from __future__ import annotations

import threading

import pytest
from torchskew.runtimes.docker import catalogue, lock


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def entry(**more):
    fields = {
        "image": "sha256:1",
        "recipe": "r",
        "made": "pulled",
        "date": "2026-01-01",
        "python": "3.11",
        "digest": "d",
    }
    return lock.Entry(**(fields | more))


def test_what_was_written_is_read_again(tmp_path):
    first = entry(torch="2.6.0+debian", packages={'od"d': "1~2+b"})
    lock.add(tmp_path / "lock.toml", "debian-trixie", first)
    lock.add(tmp_path / "lock.toml", "pip-torch", entry())
    assert lock.read(tmp_path / "lock.toml") == {"debian-trixie": first, "pip-torch": entry()}


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    path = tmp_path / "lock.toml"
    writers = [threading.Thread(target=lock.add, args=(path, f"n{number}", entry())) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(lock.read(path)) == 8


@pytest.mark.parametrize("text", ["not toml", '["x"]\nunknown = 1\n'])
def test_a_damaged_file_counts_as_empty(tmp_path, text):
    (tmp_path / "lock.toml").write_text(text)
    assert lock.read(tmp_path / "lock.toml") == {}


def test_a_checkout_keeps_its_lock_beside_the_templates():
    assert lock.lock_path() == catalogue.images_folder() / "lock.toml"


def test_an_installed_package_keeps_its_lock_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "images_folder", lambda: tmp_path / "_images")
    assert lock.lock_path() == tmp_path / "cache/torchskew/images.lock.toml"


def test_the_committed_lock_names_every_suite():
    committed = lock.read(catalogue.images_folder() / "lock.toml")
    for suite in catalogue.load_suites().values():
        assert committed[f"debian-{suite.name}"].torch == suite.reports
