"""A root is made by whatever tool the host has; its failure is told in the tool's own words."""

from __future__ import annotations

import io
import os
import tarfile

import pytest
from torchskew.errors import ProvisionError
from torchskew.runtimes.docker import bootstrap
from torchskew.runtimes.docker.catalogue import suite
from torchskew.runtimes.docker.mirror import Mirror

from tests.inside.driver import gone

MIRROR = Mirror(uri="http://m/debian")


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Put a shell script on PATH as a tool."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(
        bootstrap.shutil, "which", lambda name: str(folder / name) if (folder / name).exists() else None
    )

    def add(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


def quiet(text):
    del text


def test_the_tools_that_are_there_are_named_the_better_first(tools):
    assert bootstrap.available() == ()
    tools("debootstrap", "")
    tools("mmdebstrap", "")
    assert bootstrap.available() == ("mmdebstrap", "debootstrap")


def test_mmdebstraps_archive_is_passed_on_as_it_comes(tools):
    tools("mmdebstrap", 'echo "I: creating tarball..." >&2; printf data; printf more')
    said = []
    assert b"".join(bootstrap.root_tar(suite("trixie"), ["python3"], MIRROR, said.append)) == b"datamore"
    assert said == ["creating tarball"]


def test_mmdebstrap_is_told_packages_mirror_and_to_forget_the_mirror(tools):
    tools("mmdebstrap", 'for each in "$@"; do echo "$each"; done')
    words = b"".join(bootstrap.root_tar(suite("trixie"), ["python3-torch"], MIRROR, quiet)).decode().splitlines()
    assert words[0] == "--variant=minbase"
    assert "--include=python3-torch" in words
    assert any("customize-hook" in word and "sources.list" in word for word in words)
    assert words[-3:] == ["trixie", "-", "deb http://m/debian trixie main"]
    assert not any("Check-Valid-Until" in word for word in words)


def test_a_suite_whose_index_may_expire_is_taken_all_the_same(tools):
    tools("mmdebstrap", 'for each in "$@"; do echo "$each"; done')
    words = b"".join(bootstrap.root_tar(suite("forky"), ["python3"], MIRROR, quiet)).decode()
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in words


def test_the_hosts_certificates_serve_a_mirror_over_https(tools, tmp_path, monkeypatch):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("x")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    tools("mmdebstrap", 'for each in "$@"; do echo "$each"; done')
    mirror = Mirror(uri="https://m/debian")
    words = b"".join(bootstrap.root_tar(suite("trixie"), ["python3"], mirror, quiet)).decode()
    assert f'--aptopt=Acquire::https::CaInfo "{bundle}"' in words


def test_a_failing_tool_ends_the_archive_with_its_last_words(tools):
    tools("mmdebstrap", 'printf half; echo "E: no such suite" >&2; echo "E: mmdebstrap failed to run" >&2; exit 25')
    chunks = bootstrap.root_tar(suite("trixie"), ["python3"], MIRROR, quiet)
    assert next(chunks) == b"half"
    with pytest.raises(ProvisionError, match="^mmdebstrap ended with 25: E: no such suite$"):
        next(chunks)


def test_a_tool_that_dies_in_silence_is_reported_as_such(tools):
    tools("mmdebstrap", "exit 3")
    with pytest.raises(ProvisionError, match="ended with 3: without output"):
        list(bootstrap.root_tar(suite("trixie"), ["python3"], MIRROR, quiet))


def test_a_reader_that_stops_ends_the_tool(tools):
    tools("mmdebstrap", "printf data; exec tail -f /dev/null")
    chunks = bootstrap.root_tar(suite("trixie"), ["python3"], MIRROR, quiet)
    assert next(chunks) == b"data"
    chunks.close()


def test_an_interrupted_run_ends_a_tool_that_says_nothing_more(tools, tmp_path):
    """Its step is said again and again, and whoever hears it may raise."""
    tools("mmdebstrap", f'echo $$ > {tmp_path}/pid; echo "I: installing packages..." >&2; exec tail -f /dev/null')
    heard = []

    def say(text):
        heard.append(text)
        if len(heard) == 3:
            raise ProvisionError("the run was interrupted")

    with pytest.raises(ProvisionError, match="interrupted"):
        list(bootstrap.root_tar(suite("trixie"), ["python3"], MIRROR, say))
    assert heard == ["installing packages"] * 3
    assert gone(int((tmp_path / "pid").read_text()))


def test_debootstraps_folder_becomes_an_archive(tools, monkeypatch):
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)
    tools("debootstrap", 'mkdir -p "$3/etc"; echo "I: Validating Packages..."; echo "$2 $4" > "$3/etc/issue"')
    said = []
    data = b"".join(bootstrap.debootstrap_tar(suite("bookworm"), MIRROR, said.append))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.extractfile("./etc/issue").read() == b"bookworm http://m/debian\n"
    assert said == ["Validating Packages"]


def test_debootstrap_says_that_it_needs_root(monkeypatch):
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    with pytest.raises(ProvisionError, match="debootstrap needs root. Install mmdebstrap, which does not"):
        list(bootstrap.debootstrap_tar(suite("bookworm"), MIRROR, quiet))


def test_debootstraps_error_on_standard_output_is_kept(tools, monkeypatch):
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)
    tools("debootstrap", 'echo "E: Failed getting release file"; exit 1')
    with pytest.raises(ProvisionError, match="^debootstrap ended with 1: E: Failed getting release file$"):
        list(bootstrap.debootstrap_tar(suite("bookworm"), MIRROR, quiet))
    assert "PATH" in os.environ


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces without root are mmdebstrap's own business")
def test_what_a_killed_tool_mounted_and_started_is_gone_with_it(tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "mmdebstrap"
    tool.parent.mkdir()
    tool.write_text("""#!/bin/sh
mkdir "$TMPDIR/proc" && mount -t proc proc "$TMPDIR/proc"
tail -f /dev/null &
printf "$TMPDIR"
wait
""")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    chunks = bootstrap.root_tar(suite("trixie"), ["python3"], MIRROR, quiet)
    place = next(chunks).decode()
    assert os.path.isdir(place)
    chunks.close()
    assert not os.path.exists(place)
