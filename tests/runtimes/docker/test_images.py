"""Images are reused first, then made in the cheapest way that works; what failed is told way by way."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import threading
from types import SimpleNamespace

import pytest
from torchskew.errors import ProvisionError
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.runtimes.docker import bootstrap, images, lock, suite_images, wheels
from torchskew.runtimes.docker.daemon import DaemonError, DaemonGoneError
from torchskew.runtimes.docker.mirror import Mirror

TOLD = {"python": "3.13.5", "debs": ["libc6=2.41"], "wheels": ["torch=2.6.0"], "torch": "2.6.0+debian"}


class FakeDaemon:
    """An engine in memory. here: references that are local; registry: what pulling answers; images: its folder."""

    def __init__(self, *, here=(), registry="no such host", told=None, images=None):
        self.images = images
        self.here = dict.fromkeys(here, "sha256:local")
        self.registry = registry
        self.told = told or TOLD
        self.labelled = {}
        self.calls = []
        self.context = {}
        self.args = {}

    def find(self, label):
        return self.labelled.get(label)

    def local(self, reference):
        return self.here.get(reference)

    def pull(self, reference, report):
        self.calls.append(f"pull {reference}")
        if self.registry != "fine":
            raise DaemonError(f"docker can't pull it: {self.registry}.", reason=self.registry)
        report(f"pulling {reference}", 1, 2)
        self.here[reference] = "sha256:pulled"
        return "sha256:pulled"

    def load_root(self, tar, tag, labels):
        b"".join(tar)
        self.calls.append(f"import {tag}")
        return self._made(labels)

    def build(self, context, tag, labels, args):
        with tarfile.open(fileobj=io.BytesIO(b"".join(context))) as archive:
            files = [member for member in archive.getmembers() if member.isfile()]
            self.context = {member.name: archive.extractfile(member).read().decode() for member in files}
        self.args = dict(args)
        self.calls.append(f"build {tag}")
        return self._made(labels)

    def remove_image(self, image):
        self.calls.append(f"remove {image}")

    def ask(self, image, command):
        self.calls.append("ask")
        return f"noise\n{json.dumps(self.told)}\n"

    def machine(self):
        return "x86_64"

    def folder(self):
        return self.images

    def _made(self, labels):
        image = f"sha256:{len(self.calls)}"
        self.labelled |= {f"{name}={value}": image for name, value in labels.items()}
        return image


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    """A Debian host with mmdebstrap, a cache of its own, and no proxies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(suite_images, "find_mirror", lambda environ: Mirror(uri="http://me:secret@m/debian"))
    monkeypatch.setattr(suite_images, "apt_environ", lambda environ: {})
    monkeypatch.setattr(bootstrap, "available", lambda: ("mmdebstrap", "debootstrap"))
    monkeypatch.setattr(bootstrap, "root_tar", lambda *_: iter([b"root"]))
    monkeypatch.setattr(bootstrap, "debootstrap_tar", lambda *_: iter([b"root"]))


@pytest.fixture
def provide(tmp_path, progress):
    def provide(daemon, kind, value, **more):
        version = Version(name="v", sources=(Source(kind=kind, value=value, **more),), env={"A": "1"})
        return images.Images(daemon, tmp_path / "lock.toml").provide(version, progress)

    return provide


def failing(text):
    def fail(*_):
        raise ProvisionError(text)

    return fail


def test_a_suite_is_bootstrapped_where_no_registry_answers(provide):
    daemon = FakeDaemon()
    made = provide(daemon, SourceKind.DEBIAN, "trixie")
    assert daemon.calls == ["pull debian:trixie-slim", "import torchskew/python3-torch:trixie", "ask"]
    assert (made.note, made.reports, made.env) == ("bootstrapped with mmdebstrap", "2.6.0+debian", {"A": "1"})
    assert made.identity == made.handle


def test_a_suite_that_was_built_before_is_reused_without_a_question(provide):
    daemon = FakeDaemon()
    first = provide(daemon, SourceKind.DEBIAN, "trixie")
    daemon.calls.clear()
    again = provide(daemon, SourceKind.DEBIAN, "trixie")
    assert (again.identity, again.note, daemon.calls) == (first.identity, "built before", [])


def test_a_base_that_is_here_is_built_on_before_any_registry_is_asked(provide):
    daemon = FakeDaemon(here=["debian:trixie-slim"])
    made = provide(daemon, SourceKind.DEBIAN, "trixie")
    assert daemon.calls == ["build torchskew/python3-torch:trixie", "ask"]
    assert made.note == "built on debian:trixie-slim, already here"


def test_a_base_is_pulled_where_a_registry_answers(provide, progress):
    daemon = FakeDaemon(registry="fine")
    assert provide(daemon, SourceKind.DEBIAN, "trixie").note == "built on debian:trixie-slim, pulled"
    assert ("v", "installing python3-torch, about 224 MB") in progress.steps


def test_a_build_gets_mirror_certificates_and_proxies_of_the_host(provide, monkeypatch, tmp_path):
    (tmp_path / "ca.pem").write_text("CERTIFICATE")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    daemon = FakeDaemon(here=["debian:forky-slim"])
    provide(daemon, SourceKind.DEBIAN, "forky")
    assert daemon.context["apt/sources.list"] == "deb http://me:secret@m/debian forky main\n"
    assert daemon.context["apt/certificates.pem"] == "CERTIFICATE"
    assert 'Check-Valid-Until "false"' in daemon.context["apt/apt.conf.d/99torchskew"]
    assert daemon.args["https_proxy"] == "http://proxy:3128"
    assert daemon.args["PACKAGES"] == "python3-torch"


def test_no_secret_of_the_host_is_an_argument_of_a_build(provide):
    daemon = FakeDaemon(here=["debian:trixie-slim"])
    provide(daemon, SourceKind.DEBIAN, "trixie")
    assert "secret" not in json.dumps(daemon.args)


def test_debootstrap_makes_a_base_when_mmdebstrap_fails(provide, monkeypatch):
    monkeypatch.setattr(bootstrap, "root_tar", failing("broken"))
    daemon = FakeDaemon()
    assert provide(daemon, SourceKind.DEBIAN, "trixie").note == "bootstrapped with debootstrap"
    assert daemon.calls[1:4] == [
        "import torchskew/bootstrap:trixie",
        "build torchskew/python3-torch:trixie",
        "remove torchskew/bootstrap:trixie",
    ]


def test_when_every_way_fails_each_is_named_with_its_reason_and_no_secret(provide, monkeypatch):
    monkeypatch.setattr(bootstrap, "root_tar", failing("mmdebstrap ended with 25: E: disk full"))
    monkeypatch.setattr(bootstrap, "debootstrap_tar", failing("debootstrap needs root."))
    with pytest.raises(ProvisionError) as caught:
        provide(FakeDaemon(), SourceKind.DEBIAN, "trixie")
    text = str(caught.value)
    assert text.startswith("v: no image of Debian trixie could be made: (1) base here: no debian:trixie-slim")
    assert "(2) registry: debian:trixie-slim can't be pulled: no such host. The registry can't be reached" in text
    assert "(3) bootstrap: mmdebstrap ended with 25: E: disk full (mirror http://m/debian); debootstrap needs" in text
    assert "Fix any one of these: " in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("tools", "mirror", "words"),
    [
        ((), Mirror(uri="http://m"), "neither mmdebstrap nor debootstrap is installed"),
        (("mmdebstrap",), None, "apt names no Debian mirror. Set TORCHSKEW_DEBIAN_MIRROR"),
    ],
)
def test_bootstrapping_says_what_it_lacks(provide, monkeypatch, tools, mirror, words):
    monkeypatch.setattr(bootstrap, "available", lambda: tools)
    monkeypatch.setattr(suite_images, "find_mirror", lambda environ: mirror)
    with pytest.raises(ProvisionError, match=words):
        provide(FakeDaemon(), SourceKind.DEBIAN, "trixie")


def test_a_daemon_that_goes_away_is_reported_once_and_not_for_every_way(provide, monkeypatch):
    daemon = FakeDaemon()

    def gone(*_):
        raise DaemonGoneError("the Docker daemon stopped answering.")

    monkeypatch.setattr(daemon, "pull", gone)
    with pytest.raises(ProvisionError, match=r"^v: the Docker daemon stopped answering\.$"):
        provide(daemon, SourceKind.DEBIAN, "trixie")


def test_a_reference_that_is_here_is_not_pulled(provide):
    daemon = FakeDaemon(here=["site/torch@sha256:1"])
    assert provide(daemon, SourceKind.IMAGE, "site/torch@sha256:1").note == "already here"
    assert daemon.calls == ["ask"]


def test_a_reference_is_pulled_with_its_progress(provide, progress):
    made = provide(FakeDaemon(registry="fine"), SourceKind.IMAGE, "site/torch:1")
    assert (made.identity, made.note) == ("sha256:pulled", "pulled")
    assert ("v", "pulling site/torch:1") in progress.steps


def test_an_image_without_torch_is_refused_with_its_own_words(provide):
    told = {"python": "3.11", "debs": [], "wheels": [], "error": "ModuleNotFoundError: No module named 'torch'"}
    daemon = FakeDaemon(here=["site/empty"], told=told)
    with pytest.raises(ProvisionError, match="v: its torch can't be imported: ModuleNotFoundError.*whose python3"):
        provide(daemon, SourceKind.IMAGE, "site/empty")


def test_an_image_without_python_is_refused_with_the_fix(provide, monkeypatch):
    daemon = FakeDaemon(here=["site/empty"])
    monkeypatch.setattr(daemon, "ask", lambda *_: "exec: python3: not found")
    with pytest.raises(ProvisionError, match="python3 does not answer: exec: python3: not found. Name an image with"):
        provide(daemon, SourceKind.IMAGE, "site/empty")


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """Wheels that are unpacked already."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "torch.py").write_text("x")
    asked = []

    class Unpacked:
        def __init__(self, source, suite, machine, say, space):
            asked.append((source.value, suite.python, machine))

        def __enter__(self):
            return site

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(wheels, "unpacked", Unpacked)
    return asked


def test_wheels_are_put_on_a_base_that_holds_only_python(provide, unpacked):
    daemon = FakeDaemon()
    made = provide(daemon, SourceKind.PIP, "torch==2.13.0")
    assert made.note == "built from wheels on Debian bookworm"
    assert daemon.calls[1] == "import torchskew/python3:bookworm"
    assert daemon.calls[2].startswith("build torchskew/pip-torch-2-13-0:")
    assert daemon.context["site/torch.py"] == "x"
    assert (daemon.args["PYTHON"], unpacked) == ("3.11", [("torch==2.13.0", "3.11", "x86_64")])


def test_an_image_tells_the_python_and_the_numpy_in_it(provide, unpacked):
    made = provide(FakeDaemon(told={**TOLD, "wheels": ["torch=2.6.0", "numpy=2.2.4"]}), SourceKind.DEBIAN, "trixie")
    assert (made.python, made.numpy) == ("3.13.5", "2.2.4")
    assert provide(FakeDaemon(here=["x"]), SourceKind.IMAGE, "x").numpy == ""


def test_a_suites_image_has_one_name_whatever_the_version_requires_of_its_wheels(provide, tmp_path):
    provide(FakeDaemon(), SourceKind.DEBIAN, "trixie", requires=("numpy",), python="3.11")
    assert list(lock.read(tmp_path / "lock.toml")) == ["debian-trixie"]


def test_the_declared_python_chooses_the_suite(provide, unpacked):
    provide(FakeDaemon(), SourceKind.PIP, "torch==2.13.0", python="3.13")
    assert unpacked == [("torch==2.13.0", "3.13", "x86_64")]


def test_a_python_that_no_suite_has_is_refused_with_those_there_are(provide):
    with pytest.raises(ProvisionError, match="no Debian suite here has Python 3.12. Write python = one of 3.9, 3.11"):
        provide(FakeDaemon(), SourceKind.PIP, "torch==2.13.0", python="3.12")


def test_equal_wheels_are_built_once_and_other_requirements_again(provide, unpacked):
    daemon = FakeDaemon()
    first = provide(daemon, SourceKind.PIP, "torch==2.13.0")
    assert provide(daemon, SourceKind.PIP, "torch==2.13.0").identity == first.identity
    assert provide(daemon, SourceKind.PIP, "torch==2.13.0", requires=("numpy<2",)).identity != first.identity
    assert len(unpacked) == 2


def test_a_rebuilt_wheel_of_the_same_name_gives_another_image(provide, unpacked, tmp_path):
    daemon = FakeDaemon()
    wheel = tmp_path / "torch-1-py3-none-any.whl"
    wheel.write_bytes(b"one")
    first = provide(daemon, SourceKind.WHEEL, str(wheel))
    wheel.write_bytes(b"two")
    assert provide(daemon, SourceKind.WHEEL, str(wheel)).identity != first.identity


def test_a_version_that_only_venv_can_provide_is_refused(provide):
    with pytest.raises(ProvisionError, match="v: has no source that docker can use"):
        provide(FakeDaemon(), SourceKind.INTERPRETER, "/usr/bin/python3")


def test_what_an_image_was_made_from_is_written_down(provide, tmp_path):
    provide(FakeDaemon(), SourceKind.DEBIAN, "trixie")
    entry = lock.read(tmp_path / "lock.toml")["debian-trixie"]
    assert (entry.made, entry.torch, entry.packages["libc6"]) == (
        "bootstrapped with mmdebstrap",
        "2.6.0+debian",
        "2.41",
    )


def test_two_makers_of_one_image_make_it_once(provide):
    daemon = FakeDaemon()
    makers = [threading.Thread(target=provide, args=(daemon, SourceKind.DEBIAN, "trixie")) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert daemon.calls.count("import torchskew/python3-torch:trixie") == 1


def test_a_suite_that_the_disk_can_not_hold_is_refused_with_the_figures_before_anything_is_made(
    provide, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=600 * 10**6))
    daemon = FakeDaemon(images=tmp_path)
    with pytest.raises(ProvisionError, match="v: the disk is full: the image needs about 672 MB, 600 MB are free at "):
        provide(daemon, SourceKind.DEBIAN, "trixie")
    assert daemon.calls == []
    assert provide(FakeDaemon(), SourceKind.DEBIAN, "trixie").note == "bootstrapped with mmdebstrap"  # not on our disk
