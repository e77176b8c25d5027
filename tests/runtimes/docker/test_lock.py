"""The lock file keeps what was built from what, whoever writes at the same time."""

from __future__ import annotations

import threading

import pytest
from torchskew.cli import main
from torchskew.runtimes.docker import catalogue, lock
from torchskew.runtimes.docker.images import Images


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


def test_what_is_built_is_noted_in_the_cache_and_never_in_the_checkout(tmp_path):
    assert lock.built_path() == tmp_path / "cache/torchskew/images.lock.toml"
    assert Images(None)._lock == lock.built_path()  # type: ignore[arg-type]
    assert lock.committed_path() == catalogue.images_folder() / "lock.toml"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout that commits two images; one of them was built here with other packages, and one more."""
    folder = tmp_path / "images"
    folder.mkdir()
    monkeypatch.setattr(lock, "images_folder", lambda: folder)
    lock.add(folder / "lock.toml", "debian-trixie", entry(digest="old"))
    lock.add(folder / "lock.toml", "debian-forky", entry(digest="unbuilt"))
    lock.add(lock.built_path(), "debian-trixie", entry(digest="new"))
    lock.add(lock.built_path(), "pip-torch", entry())
    return folder / "lock.toml"


def test_the_committed_lock_changes_by_its_own_command(checkout, capsys):
    assert main(["images", "--lock"]) == 0
    assert capsys.readouterr().out == f"wrote debian-trixie into {checkout}\n"
    locked = {name: each.digest for name, each in lock.read(checkout).items()}
    assert locked == {"debian-trixie": "new", "debian-forky": "unbuilt"}
    assert main(["images", "--lock", "pip-torch"]) == 0
    assert "pip-torch" in lock.read(checkout)


def test_images_are_listed_with_how_they_compare(checkout, capsys):
    assert main(["images"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["debian-trixie", "pip-torch"]
    assert said[0].endswith("other packages than committed")
    assert said[1].endswith("not committed")
    main(["images", "--lock"])
    capsys.readouterr()
    main(["images"])
    assert capsys.readouterr().out.splitlines()[0].endswith("the same packages as committed")


def test_without_an_image_the_list_says_how_to_get_one(capsys):
    assert main(["images"]) == 0
    assert capsys.readouterr().out == "no image was built here; torchskew matrix --runtime docker builds them\n"


def test_an_image_that_was_not_built_here_can_t_be_locked(checkout, capsys):
    before = checkout.read_text()
    assert main(["images", "--lock", "debian-bullseye"]) == 4
    assert "not built here: debian-bullseye. Built here: debian-trixie, pip-torch." in capsys.readouterr().err
    assert checkout.read_text() == before


def test_an_installed_package_has_no_lock_to_change(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "images_folder", lambda: tmp_path / "_images")
    assert main(["images", "--lock"]) == 4
    assert "Lock images in a checkout of torchskew." in capsys.readouterr().err


def test_the_committed_lock_names_every_suite():
    committed = lock.read(catalogue.images_folder() / "lock.toml")
    for suite in catalogue.load_suites().values():
        assert committed[f"debian-{suite.name}"].torch == suite.reports
