"""Images of a real daemon: imported, built, questioned, and pulled from a registry made for the test."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from torchskew.errors import ProvisionError
from torchskew.runtimes.docker import pulling, tar_stream
from torchskew.runtimes.docker.daemon import DaemonError
from torchskew.runtimes.docker.runtime import DockerRuntime

pytestmark = [pytest.mark.docker, pytest.mark.slow]
TAG = f"torchskew-test/{os.getpid()}"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
def daemon():
    """The daemon; images of these tests are removed."""
    daemon = DockerRuntime().daemon
    yield daemon
    for image, _ in daemon.made_here(f"torchskew.test={os.getpid()}"):
        daemon.remove_image(image)
    daemon.close()


def labels(**more):
    return {"torchskew.test": str(os.getpid()), **more}


def quiet(text, done=0, total=0):
    del text, done, total


def test_a_root_becomes_an_image_that_its_label_finds(daemon):
    image = daemon.load_root(tar_stream.streamed(tar_stream.text("etc/issue", "x")), f"{TAG}:root", labels(a='b "c" d'))
    assert daemon.find('a=b "c" d') == daemon.local(f"{TAG}:root") == image
    assert daemon.find("a=other") is None
    assert daemon.local(f"{TAG}:none") is None


def test_a_tar_that_breaks_makes_no_image(daemon):
    def broken():
        yield b"x" * 512
        raise ProvisionError("mmdebstrap ended with 25")

    with pytest.raises(ProvisionError, match="ended with 25"):
        daemon.load_root(broken(), f"{TAG}:broken", labels())
    assert daemon.local(f"{TAG}:broken") is None


def context(dockerfile):
    return tar_stream.streamed(
        tar_stream.together(tar_stream.text("Dockerfile", dockerfile), tar_stream.text("file", "x"))
    )


def test_a_context_becomes_an_image_with_its_labels(daemon):
    image = daemon.build(context("FROM scratch\nCOPY file /\n"), f"{TAG}:built", labels(b="1"), {})
    assert daemon.find("b=1") == image


def test_stages_of_a_failed_build_are_forgotten_with_what_they_hold(daemon):
    stage = "FROM scratch AS made\nARG OWNER\nLABEL torchskew.owner=${OWNER}\nCOPY file /\nFROM scratch\nCOPY none /\n"
    with pytest.raises(DaemonError, match="none"):
        daemon.build(context(stage), f"{TAG}:stages", labels(), {"OWNER": f"test:{os.getpid()}"})
    assert [what for what, *_ in daemon.labelled(f"torchskew.owner=test:{os.getpid()}")] == []


def test_a_command_that_an_image_lacks_is_refused_and_leaves_no_container(daemon):
    image = daemon.load_root(tar_stream.streamed(tar_stream.text("etc/issue", "x")), f"{TAG}:root", labels())
    with pytest.raises(DaemonError, match="Name an image with python3 on its PATH"):
        daemon.ask(image, ["python3", "-c", "print(1)"])


class Registry(ThreadingHTTPServer):
    """A registry with one image in it. refusals: how many requests it answers with 503 at first."""

    def __init__(self, refusals=0):
        super().__init__(("127.0.0.1", 0), Answer)
        self.refusals = refusals
        layer = b"".join(tar_stream.streamed(tar_stream.text("etc/issue", "x")))
        packed = gzip.compress(layer, mtime=0)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": labels()},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
        settings = json.dumps(config).encode()
        described = {"schemaVersion": 2, "mediaType": MANIFEST}
        described["config"] = self.part("application/vnd.docker.container.image.v1+json", settings)
        described["layers"] = [self.part("application/vnd.docker.image.rootfs.diff.tar.gzip", packed)]
        manifest = json.dumps(described).encode()
        self.blobs = {digest(each): each for each in (settings, packed, manifest)}
        self.blobs["1"] = manifest
        self.reference = f"127.0.0.1:{self.server_port}/a/b@{digest(manifest)}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @staticmethod
    def part(media, data):
        return {"mediaType": media, "size": len(data), "digest": digest(data)}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        registry = self.server
        name = self.path.rpartition("/")[2]
        if registry.refusals and "manifests" in self.path:
            registry.refusals -= 1
            self.answer(503, b"", "text/plain")
        elif self.path == "/v2/":
            self.answer(200, b"{}", "application/json")
        elif name in registry.blobs:
            data = registry.blobs[name]
            self.answer(200, data, MANIFEST if "manifests" in self.path else "application/octet-stream")
        else:
            self.answer(
                404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}', "application/json"
            )

    do_HEAD = do_GET  # noqa: N815 - the name that the base class looks for

    def answer(self, status, data, media):
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", digest(data))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        return


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def registry():
    made = []

    def make(**settings):
        made.append(Registry(**settings))
        return made[-1]

    yield make
    for each in made:
        each.shutdown()
        each.server_close()


@pytest.fixture
def impatient(monkeypatch):
    for name in ("_FIRST", "_LONGEST", "_JITTER"):
        monkeypatch.setattr(pulling, name, 0.0)


def test_a_reference_by_digest_is_pulled_from_its_registry(daemon, registry):
    reference = registry().reference
    image = pulling.pull(daemon, reference, quiet)
    assert daemon.local(reference) == image


def test_a_registry_that_is_overloaded_at_first_is_asked_again(daemon, registry, impatient):
    said = []
    pulling.pull(daemon, registry(refusals=2).reference, lambda text, done=0, total=0: said.append(text))
    assert any("again, attempt 2 of 4" in text for text in said)


def test_a_digest_that_the_registry_has_not_is_reported_at_once(daemon, registry):
    reference = registry().reference[:-64] + "0" * 64
    with pytest.raises(ProvisionError, match="can't be pulled: .*unknown.* Check that name, tag and digest exist"):
        pulling.pull(daemon, reference, quiet)


def test_a_registry_that_nobody_runs_is_reported_after_a_few_attempts(daemon, impatient):
    with pytest.raises(ProvisionError, match="can't be pulled in 4 attempts: .*refused"):
        pulling.pull(daemon, "127.0.0.1:1/a/b:1", quiet)
