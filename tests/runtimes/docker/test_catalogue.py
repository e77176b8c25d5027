"""The catalogue of Debian suites is data that a person can trust."""

from __future__ import annotations

import pytest
from torchskew.errors import ConfigError
from torchskew.runtimes import package_data
from torchskew.runtimes.docker import catalogue
from torchskew.runtimes.docker.catalogue import images_folder, load_suites, suite


@pytest.fixture(autouse=True)
def fresh_catalogue():
    load_suites.cache_clear()
    yield
    load_suites.cache_clear()


def test_the_catalogue_names_the_four_suites_and_their_releases():
    assert {name: each.torch for name, each in load_suites().items()} == {
        "bullseye": "1.7.1",
        "bookworm": "1.13.1",
        "trixie": "2.6.0",
        "forky": "2.14.1",
    }


def test_what_a_suite_reports_is_not_always_the_release_it_is():
    assert suite("bullseye").reports == "1.7.0a0"


def test_builds_without_libuv_carry_the_setting_they_need():
    assert {name: dict(each.env) for name, each in load_suites().items() if each.env} == {
        "trixie": {"USE_LIBUV": "0"},
        "forky": {"USE_LIBUV": "0"},
    }


def test_an_unknown_suite_is_reported_with_those_that_are_known():
    with pytest.raises(ConfigError, match="'buster' is not in the catalogue. Known: bullseye, bookworm"):
        suite("buster")


def test_a_catalogue_with_a_wrong_field_says_where(tmp_path, monkeypatch):
    (tmp_path / "suites.toml").write_text('[sid]\ntorch = "9"\n')
    monkeypatch.setattr(catalogue, "images_folder", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"suites\.toml: .*missing.*'reports'.* Restore it"):
        load_suites()


def test_an_installed_package_uses_the_images_that_came_with_it(tmp_path, monkeypatch):
    (tmp_path / "_images").mkdir()
    monkeypatch.setattr(package_data, "_PACKAGE", tmp_path)
    assert images_folder() == tmp_path / "_images"


def test_a_checkout_uses_the_images_beside_the_package():
    assert (images_folder() / "debian.Dockerfile").is_file()
