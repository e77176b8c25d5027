"""pip's settings reach uv, and what uv was told itself is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.runtimes.venv import indexes


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment whose configuration is in a folder of the test; /etc is read as it is."""
    monkeypatch.setattr(indexes, "_SYSTEM", (tmp_path / "system/pip.conf",))
    monkeypatch.setattr(indexes, "_UV_SYSTEM", tmp_path / "system/uv.toml")
    root = str(tmp_path)
    return {"HOME": root, "XDG_CONFIG_DIRS": f"{root}/xdg", "XDG_CONFIG_HOME": f"{root}/config"}


def write(home: dict[str, str], place: str, text: str) -> None:
    path = Path(home["HOME"]) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_settings_nothing_is_added(home) -> None:
    assert indexes.settings(home) == {}
    assert indexes.flags(home) == ()


def test_indexes_and_wheel_folders_of_a_file_are_carried(home) -> None:
    write(
        home,
        "config/pip/pip.conf",
        """[global]
index-url = https://host.example/simple
extra-index-url =
    https://one.example/simple
    https://two.example/simple
find-links = /a/wheels
    /b/wheels
""",
    )
    assert indexes.settings(home) == {
        "UV_DEFAULT_INDEX": "https://host.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_FIND_LINKS": "/a/wheels,/b/wheels",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_the_more_specific_file_wins_and_a_variable_wins_over_files(home) -> None:
    write(home, "system/pip.conf", "[global]\nindex-url = https://system.example\ncert = /system.pem\n")
    write(home, "config/pip/pip.conf", "[install]\nindex_url = https://user.example\n")
    assert indexes.settings(home) == {"UV_DEFAULT_INDEX": "https://user.example", "SSL_CERT_FILE": "/system.pem"}
    assert (
        indexes.settings(home | {"PIP_INDEX_URL": "https://env.example"})["UV_DEFAULT_INDEX"] == "https://env.example"
    )


def test_a_file_named_in_the_environment_counts_and_null_switches_all_off(home) -> None:
    write(home, "config/pip/pip.conf", "[global]\nproxy = http://user.example:1\n")
    write(home, "own.conf", "[global]\nproxy = http://own.example:1\n")
    both = {"HTTP_PROXY": "http://own.example:1", "HTTPS_PROXY": "http://own.example:1"}
    assert indexes.settings(home | {"PIP_CONFIG_FILE": f"{home['HOME']}/own.conf"}) == both
    assert indexes.settings(home | {"PIP_CONFIG_FILE": "/dev/null"}) == {}


def test_what_uv_was_told_is_left_alone(home) -> None:
    told = {"UV_INDEX_URL": "https://mine", "UV_FIND_LINKS": "/mine", "https_proxy": "http://mine"}
    asked = {"PIP_INDEX_URL": "https://pip", "PIP_FIND_LINKS": "/pip", "PIP_PROXY": "http://pip"}
    assert indexes.settings(home | told | asked) == {"HTTP_PROXY": "http://pip"}


def test_where_uv_has_indexes_of_its_own_only_the_network_settings_are_carried(home) -> None:
    write(home, "config/uv/uv.toml", 'find-links = ["/mine"]\n')
    asked = {"PIP_INDEX_URL": "https://pip", "PIP_CERT": "/pip.pem"}
    assert indexes.settings(home | asked) == {"SSL_CERT_FILE": "/pip.pem"}


def test_files_that_can_not_be_read_do_not_matter(home) -> None:
    write(home, "config/pip/pip.conf", "no section\n")
    write(home, "config/uv/uv.toml", "= broken\n")
    assert indexes.settings(home) == {}


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_certificates_for_other_tools_serves_uv_too(home, name) -> None:
    assert indexes.settings(home | {name: "/bundle.pem"}) == {"SSL_CERT_FILE": "/bundle.pem"}
    assert indexes.settings(home | {name: "/bundle.pem", "SSL_CERT_FILE": "/mine.pem"}) == {}


def test_no_index_becomes_a_flag(home) -> None:
    assert indexes.flags(home | {"PIP_NO_INDEX": "1"}) == ("--no-index",)
