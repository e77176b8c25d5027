"""Wheels for an image are resolved and unpacked by the host's uv, for the image's Python."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.errors import ProvisionError
from torchskew.model.versions import Source, SourceKind
from torchskew.runtimes.docker import wheels
from torchskew.runtimes.docker.catalogue import suite
from torchskew.runtimes.docker.space import ImageSpace
from torchskew.runtimes.venv.uv import Uv, UvError

from tests.conftest import write_wheel


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")


def quiet(text, done=0, total=0):
    del text, done, total


def unpack(kind, value, **more):
    space = ImageSpace(Path("/"))
    return wheels.unpacked(Source(kind=kind, value=str(value), **more), suite("bookworm"), "x86_64", quiet, space)


@pytest.mark.slow
def test_a_local_wheel_is_unpacked_and_gone_at_the_end(tmp_path):
    with unpack(SourceKind.WHEEL, write_wheel(tmp_path)) as site:
        assert (site / "torch/version.py").is_file()
    assert not site.exists()


@pytest.mark.slow
def test_wheels_of_which_the_disk_can_not_hold_an_image_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    refused = unpack(SourceKind.WHEEL, write_wheel(tmp_path))
    with pytest.raises(ProvisionError, match=r"needs about \d+ B, 10 B are free"), refused:
        pass
    assert not any(wheels.sites().iterdir())


@pytest.mark.slow
def test_wheels_are_chosen_for_the_images_python_and_machine(tmp_path, monkeypatch):
    folder = tmp_path / "links"
    folder.mkdir()
    write_wheel(folder, version="2.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    write_wheel(folder, version="3.0", tag="cp39-cp39-manylinux_2_28_x86_64")
    write_wheel(folder, version="4.0", tag="cp311-cp311-manylinux_2_28_aarch64")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    with unpack(SourceKind.PIP, "torch") as site:
        assert [path.name for path in site.glob("*.dist-info")] == ["torch-2.0.dist-info"]


@pytest.mark.slow
def test_a_file_that_is_no_wheel_is_reported_as_such(tmp_path):
    path = tmp_path / "torch-9-py3-none-any.whl"
    path.write_text("no zip")
    with pytest.raises(ProvisionError, match="it is not a wheel"), unpack(SourceKind.WHEEL, path):
        pass


def test_a_requirement_that_is_none_is_reported_before_uv_is_asked():
    with pytest.raises(ProvisionError, match='is no requirement. Write it like "torch==2.6.0"'):
        wheels.inputs(Source(kind=SourceKind.PIP, value="torch=2"))


def test_a_wheel_that_is_not_there_is_reported_before_anything_is_built(tmp_path):
    with pytest.raises(ProvisionError, match="No such file or directory. Build the wheel"):
        wheels.inputs(Source(kind=SourceKind.WHEEL, value=str(tmp_path / "none.whl")))


def test_the_order_of_further_requirements_does_not_matter():
    one, two = (Source(kind=SourceKind.PIP, value="torch", requires=names) for names in (("a", "b"), ("b", "a")))
    assert wheels.inputs(one) == wheels.inputs(two)


class Asked:
    """A uv that only notes what it is asked; no dry run finds the CPU builds where their index doesn't answer."""

    def __init__(self, monkeypatch, *, cpu_answers, environ=None):
        self.commands = []
        self.cpu_answers = cpu_answers
        monkeypatch.setattr(Uv, "environ", lambda _: environ or {})
        monkeypatch.setattr(Uv, "call", self.call)

    def call(self, *command, **more):
        self.commands.append(command)
        if "--torch-backend" in command and not self.cpu_answers:
            assert more["extra"]["UV_HTTP_RETRIES"] == "0"
            raise UvError("dns error")
        return "", ""


def test_the_cpu_index_is_used_when_it_answers(monkeypatch):
    uv = Asked(monkeypatch, cpu_answers=True)
    with unpack(SourceKind.PIP, "torch==2.13.0"):
        assert uv.commands[-1][-2:] == ("--torch-backend", "cpu")
        assert all("--torch-backend" in command for command in uv.commands)  # the size is that of the same wheels


def test_the_hosts_own_indexes_are_used_when_the_cpu_index_does_not_answer(monkeypatch):
    uv = Asked(monkeypatch, cpu_answers=False)
    with unpack(SourceKind.PIP, "torch==2.13.0"):
        first, *others = uv.commands
        assert "--torch-backend" in first
        assert not any("--torch-backend" in command for command in others)


def test_a_declared_index_is_asked_and_no_other_first(monkeypatch):
    uv = Asked(monkeypatch, cpu_answers=True)
    with unpack(SourceKind.PIP, "torch==2.13.0", index="https://site/simple"):
        assert all(command[command.index("--index") + 1] == "https://site/simple" for command in uv.commands)
        assert not any("--torch-backend" in command for command in uv.commands)


def test_a_backend_that_the_user_chose_is_kept(monkeypatch):
    uv = Asked(monkeypatch, cpu_answers=True, environ={"UV_TORCH_BACKEND": "cu130"})
    with unpack(SourceKind.PIP, "torch==2.13.0"):
        assert not any("--torch-backend" in command for command in uv.commands)
