"""The host's own Debian mirror is found in either form of apt's sources, and never guessed."""

from __future__ import annotations

import pytest
from torchskew.runtimes.docker.mirror import Mirror, apt_environ, certificates, find_mirror

DEB822 = """\
# a comment
Types: deb
URIs: http://mirror.site/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
URIs: http://mirror.site/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def host(root, *, ident="debian", sources="", listed="", main=""):
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/os-release").write_text(f'NAME="x"\nID={ident}\nVERSION_CODENAME=bookworm\n')
    (root / "etc/apt/sources.list.d/a.sources").write_text(sources)
    (root / "etc/apt/sources.list.d/b.list").write_text(listed)
    (root / "etc/apt/sources.list").write_text(main)
    return root


def test_a_deb822_file_gives_the_archive_and_not_the_security_one(tmp_path):
    assert find_mirror({}, host(tmp_path, sources=DEB822)) == Mirror(uri="http://mirror.site/debian")


def test_a_one_line_file_gives_its_mirror_and_a_keyring_of_the_sites_own(tmp_path):
    line = "deb [arch=amd64 signed-by=/etc/keys/site.gpg] https://m/debian bookworm main contrib  # ours\n"
    found = find_mirror({}, host(tmp_path, main=line))
    assert found == Mirror(uri="https://m/debian", signed_by="/etc/keys/site.gpg")
    assert found.line("trixie") == "deb [signed-by=/etc/keys/site.gpg] https://m/debian trixie main"


def test_other_archives_sources_and_disabled_entries_are_passed_over(tmp_path):
    disabled = DEB822.replace("Types: deb", "Enabled: no\nTypes: deb")
    others = (
        "deb-src http://s/debian bookworm main\ndeb http://cloud/apt cloud-sdk main\ndeb http://n/node nodistro x\n"
    )
    assert find_mirror({}, host(tmp_path, sources=disabled, listed=others)) is None


def test_a_suite_that_we_know_is_preferred(tmp_path):
    lines = "deb http://old/debian buster main\ndeb http://new/debian trixie main\n"
    assert find_mirror({}, host(tmp_path, main=lines)) == Mirror(uri="http://new/debian")


def test_a_host_that_is_not_debian_names_no_mirror(tmp_path):
    assert find_mirror({}, host(tmp_path, ident="ubuntu", sources=DEB822)) is None


def test_a_host_without_a_release_file_names_no_mirror(tmp_path):
    assert find_mirror({}, tmp_path) is None


def test_the_declared_mirror_wins(tmp_path):
    environ = {"TORCHSKEW_DEBIAN_MIRROR": "http://declared/debian/"}
    assert find_mirror(environ, host(tmp_path, sources=DEB822)) == Mirror(uri="http://declared/debian")


def test_an_unreadable_source_is_left_to_apt_to_complain_about(tmp_path):
    root = host(tmp_path, sources=DEB822)
    (root / "etc/apt/sources.list").write_bytes(b"\xff\xfe")
    assert find_mirror({}, root) == Mirror(uri="http://mirror.site/debian")


def test_a_password_in_a_mirrors_address_is_not_shown():
    assert Mirror(uri="https://me:secret@m/debian").shown == "https://m/debian"


@pytest.fixture
def apt_config(tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "apt-config"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho \"http_proxy='http://proxy:3142'\"\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")


def test_a_proxy_that_only_apt_knows_is_passed_on(apt_config):
    assert apt_environ({}) == {"http_proxy": "http://proxy:3142"}


def test_a_proxy_of_the_environment_wins_over_apts(apt_config):
    assert apt_environ({"http_proxy": "http://other"}) == {}


def test_a_host_without_apt_has_no_proxy_of_apts(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert apt_environ({}) == {}


def test_the_hosts_certificates_are_the_first_bundle_that_exists(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("x")
    assert certificates({"SSL_CERT_FILE": str(tmp_path / "none"), "REQUESTS_CA_BUNDLE": str(bundle)}) == str(bundle)
    assert certificates({}) is None
