"""Which Python, which index, how much to download."""

from __future__ import annotations

import hashlib
import http.server
import re
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.errors import ProvisionError
from torchskew.model.versions import Source, SourceKind
from torchskew.runtimes.reservations import NoSpaceError
from torchskew.runtimes.venv import runtime
from torchskew.runtimes.venv.downloads import measured
from torchskew.runtimes.venv.resolve import Lock, Resolver, download_size, is_pinned, named
from torchskew.runtimes.venv.room import UNPACKED
from torchskew.runtimes.venv.runtime import VenvRuntime
from torchskew.runtimes.venv.uv import UvError

from tests.conftest import Silent, write_wheel

LOCK = '[[packages]]\nname = "torch"\nversion = "2.6.0"\nwheels = [{ url = "https://h/torch.whl" }]\n'
NO_FIT = "torch==1.7.1 has no wheels with a matching Python ABI tag (e.g., `cp311`); we only found wheels for `torch` "
NO_FIT += "(v1.7.1) with the following Python ABI tags: `cp37m`, `cp38`, `cp39`"
UNREACHABLE = "Failed to fetch: dns error"


class FakeUv:
    """Answers by a function of the arguments, and remembers them."""

    cache = Path("/store/uv")

    def __init__(self, answer: Callable[[tuple[str, ...]], str]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, ...]] = []

    def environ(self) -> dict[str, str]:
        return {}

    def interpreters(self):
        return (((3, 13), "/python3.13"), (sys.version_info[:2], "/same"), ((3, 9), "/python3.9"))

    def call(self, *arguments: str, **settings: object) -> tuple[str, str]:
        self.asked.append(arguments)
        answer = self._answer(arguments)
        if answer.startswith("[["):
            return answer, ""
        if answer.startswith("/"):
            return answer + "\n", ""
        raise UvError(answer)

    @property
    def pythons(self) -> list[str]:
        return [each[each.index("--python") + 1] for each in self.asked if "--python" in each]


def torch(**more) -> Source:
    return Source(kind=SourceKind.PIP, value="torch==2.6.0", **more)


@pytest.fixture(autouse=True)
def no_pip_settings(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)


def on_cpu(arguments: tuple[str, ...]) -> bool:
    return "--torch-backend" in arguments


def test_the_cpu_index_is_taken_where_it_answers() -> None:
    uv = FakeUv(lambda arguments: LOCK)
    resolver = Resolver(uv)
    assert resolver.resolve(torch()).wheels == (("torch", "2.6.0", "https://h/torch.whl"),)
    assert [on_cpu(each) for each in uv.asked] == [True]


def test_a_cpu_index_that_does_not_answer_is_asked_once() -> None:
    uv = FakeUv(lambda arguments: UNREACHABLE if on_cpu(arguments) else LOCK)
    resolver = Resolver(uv)
    resolver.resolve(torch())
    resolver.resolve(torch())
    assert [on_cpu(each) for each in uv.asked] == [True, False, False]


def test_a_cpu_index_without_the_release_is_asked_again_for_the_next() -> None:
    uv = FakeUv(lambda arguments: "there is no version of torch" if on_cpu(arguments) else LOCK)
    resolver = Resolver(uv)
    resolver.resolve(torch())
    resolver.resolve(torch())
    assert [on_cpu(each) for each in uv.asked] == [True, False, True, False]


def test_a_declared_index_is_asked_instead() -> None:
    uv = FakeUv(lambda arguments: LOCK)
    Resolver(uv).resolve(torch(index="https://mine"))
    assert not on_cpu(uv.asked[0])
    assert uv.asked[0][-4:-2] == ("--index", "https://mine")


def test_packages_are_taken_up_to_an_instant_and_a_pinned_torch_whenever_it_was_uploaded() -> None:
    uv = FakeUv(lambda arguments: LOCK)
    Resolver(uv).resolve(torch(until="2026-11-28T00:00:00Z", index="https://mine"))
    asked = uv.asked[0]
    assert asked[asked.index("--exclude-newer") + 1] == "2026-11-28T00:00:00Z"
    assert asked[asked.index("--exclude-newer-package") + 1] == "torch=false"
    Resolver(uv).resolve(
        Source(kind=SourceKind.PIP, value="torch>=2", until="2026-11-28T00:00:00Z", index="https://mine")
    )
    assert "--exclude-newer-package" not in uv.asked[1]


def test_the_instant_is_part_of_the_request_whose_answer_is_remembered() -> None:
    asked = [runtime._request(torch(until=until), "a version") for until in (None, "2026-11-27", "2026-11-28")]
    assert len(set(asked)) == 3


def test_another_local_python_is_taken_where_the_running_one_has_no_wheel() -> None:
    uv = FakeUv(lambda arguments: LOCK if "/python3.9" in arguments else NO_FIT)
    assert Resolver(uv).resolve(torch()).python == "/python3.9"
    assert list(dict.fromkeys(uv.pythons)) == [sys.executable, "/python3.13", "/python3.9"]


def test_a_declared_python_is_the_only_one_asked() -> None:
    uv = FakeUv(lambda arguments: NO_FIT)
    with pytest.raises(UvError, match="no wheels"):
        Resolver(uv).resolve(torch(python="3.10"))
    assert set(uv.pythons) == {"3.10"}


def test_where_no_python_fits_the_newest_that_does_is_fetched_into_the_store() -> None:
    def answer(arguments: tuple[str, ...]) -> str:
        if arguments[0] == "python":
            return "/store/pythons/3.9/bin/python"
        return LOCK if "/store/pythons/3.9/bin/python" in arguments else NO_FIT

    uv = FakeUv(answer)
    assert Resolver(uv).resolve(torch()).python == "/store/pythons/3.9/bin/python"
    assert ("python", "install", "--quiet", "--no-bin", "3.9") in uv.asked


def test_where_none_can_be_fetched_the_first_reason_stands() -> None:
    with pytest.raises(UvError, match="no wheels with a matching"):
        Resolver(FakeUv(lambda arguments: UNREACHABLE if arguments[0] == "python" else NO_FIT)).resolve(torch())


def test_any_other_failure_asks_no_second_python() -> None:
    uv = FakeUv(lambda arguments: "there is no version of torch==2.6.0")
    with pytest.raises(UvError):
        Resolver(uv).resolve(torch())
    assert set(uv.pythons) == {sys.executable}


@pytest.mark.parametrize(
    ("value", "pinned"), [("torch==2.6.0", True), ("torch==2.6.*", False), ("torch>=2", False), ("torch", False)]
)
def test_a_requirement_is_pinned_when_it_can_mean_one_release_only(value, pinned) -> None:
    assert is_pinned(Source(kind=SourceKind.PIP, value=value)) is pinned


def test_a_wheel_is_named_by_its_file_and_always_pinned() -> None:
    source = Source(kind=SourceKind.WHEEL, value="dist/Torch_Nightly-2.9-cp311-cp311-linux_x86_64.whl")
    assert named(source) == "torch-nightly"
    assert is_pinned(source)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says of no answer how long it is good for, as many mirrors and proxies do."""

    def log_message(self, *words: object) -> None:
        del words

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Last-Modified":
            super().send_header(keyword, value)


def published(tmp_path: Path, name: str, **files: str) -> Path:
    """A wheel on a page of the index, with its hash."""
    folder = tmp_path / "site/simple" / name
    folder.mkdir(parents=True)
    wheel = write_wheel(folder, name=name, **files)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    return wheel


@pytest.fixture
def site(tmp_path):
    """A package index on loopback: a page for torch, its wheel."""
    wheel = published(tmp_path, "torch", **{"torch/big.bin": "x" * 3000})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple", wheel
    server.shutdown()
    thread.join()
    server.server_close()


def test_sizes_are_asked_of_the_server_and_local_files_cost_nothing(site) -> None:
    url, wheel = site
    wheels = (("torch", "9", f"{url}/torch/{wheel.name}"), ("here", "1", "file:///opt/here.whl"))
    lock = Lock(text="", python="", wheels=wheels)
    assert download_size(lock, None) == (wheel.stat().st_size, True)
    assert lock.packages == ("torch==9", "here==1")


def test_a_size_that_nobody_tells_is_said_to_be_unknown(site) -> None:
    url, _ = site
    lock = Lock(text="", python="", wheels=(("gone", "1", f"{url}/gone.whl".replace("http://", "http://me:secret@")),))
    assert download_size(lock, None) == (0, False)
    assert download_size(Lock(text="", python="", wheels=()), None) == (0, True)


@pytest.fixture
def from_site(site, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    return Source(kind=SourceKind.PIP, value="torch==9.9.0", index=site[0])


@pytest.mark.slow
def test_environments_share_a_wheel_of_an_index_that_says_not_how_long_it_is_good(
    from_site, tmp_path, monkeypatch
) -> None:
    from torchskew.model.versions import Version

    monkeypatch.setenv("UV_DEFAULT_INDEX", from_site.index)
    published(tmp_path, "beside", **{"beside/more.txt": "x"})
    runtime = VenvRuntime(tmp_path / "store")
    for requires in ((), ("beside",)):
        version = Version(name="new", sources=(replace(from_site, requires=requires),))
        runtime.provision(version, Silent())
    runtime.close()
    copies = [each.stat() for each in (tmp_path / "store").glob("envs/*/lib/*/site-packages/torch/big.bin")]
    assert [copy.st_nlink for copy in copies] == [3, 3]  # one file in both environments and in uv's cache


@pytest.mark.slow
def test_a_large_download_is_said_beforehand_and_once(from_site, tmp_path, monkeypatch) -> None:
    from torchskew.model.versions import Version

    monkeypatch.setenv("UV_DEFAULT_INDEX", from_site.index)
    monkeypatch.setattr("torchskew.runtimes.venv.runtime._LARGE", 100)
    progress = Silent()
    runtime = VenvRuntime(tmp_path / "store")
    runtime.provision(Version(name="new", sources=(from_site,)), progress)
    runtime.close()
    assert len(progress.said) == 1
    assert re.match(r"new: downloading \d[\d.]* k?B once, into ", progress.said[0])


@pytest.mark.slow
def test_a_download_that_the_disk_can_not_hold_is_refused_beforehand(from_site, tmp_path, monkeypatch) -> None:
    from torchskew.model.versions import Version

    monkeypatch.setenv("UV_DEFAULT_INDEX", from_site.index)
    monkeypatch.setattr("torchskew.runtimes.venv.downloads.UNPACKED", 10**15)
    runtime = VenvRuntime(tmp_path / "store")
    with pytest.raises(ProvisionError, match="the disk is full: .* are free at .*clean --store"):
        runtime.provision(Version(name="new", sources=(from_site,)), Silent())
    runtime.close()


def test_what_the_cache_holds_counts_neither_as_a_download_nor_against_the_disk(site, tmp_path, monkeypatch) -> None:
    url, wheel = site
    small = write_wheel(wheel.parent, name="beside")
    wheels = tuple((path.stem, "9", f"{url}/torch/{path.name}") for path in (wheel, small))
    assert wheel.stat().st_size > 3 * small.stat().st_size
    free = round(3 * UNPACKED * small.stat().st_size)  # enough for the one that is missing, not for both
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    downloads = VenvRuntime(tmp_path / "store")._downloads
    lock = Lock(text="", python="", wheels=wheels)
    one, both = measured(lock, 1, None), measured(lock, 2, None)
    assert (one.most, one.least) == (wheel.stat().st_size, small.stat().st_size)
    assert re.fullmatch(r"at most \d[\d.]* k?B", str(one))
    with downloads.running(lock, one.on_disk):
        pass
    with pytest.raises(NoSpaceError), downloads.running(lock, both.on_disk):
        pass


def locked(*wheels: str, python: str = "3.11.7", marker: str = "") -> str:
    """The identity of a lock of one package with these wheels."""
    text = f'requires-python = ">={python}"\n[[packages]]\nname = "torch"\nversion = "2.6.0"\n{marker}\n'
    return Lock(text=f"{text}wheels = [{', '.join(wheels)}]\n", python="p", wheels=()).identity


def wheel(url: str, digest: str = "") -> str:
    return f'{{ url = "{url}"' + (f', hashes = {{ sha256 = "{digest}" }} }}' if digest else " }")


def test_the_same_wheels_from_another_index_are_the_same_environment() -> None:
    first = locked(wheel("https://h/torch.whl", "aa"))
    assert locked(wheel("file:///d/torch.whl", "aa")) == first
    others = [
        locked(wheel("https://h/torch.whl", "bb")),
        locked(wheel("https://h/torch.whl", "aa"), python="3.12.1"),
        locked(wheel("https://h/torch.whl", "aa"), marker="marker = \"sys_platform == 'linux'\""),
        locked(wheel("https://h/torch.whl", "aa"), wheel("https://h/more.whl", "bb")),
        locked(wheel("https://h/torch.whl")),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_without_a_digest_the_place_of_a_wheel_tells_it_from_others() -> None:
    assert locked(wheel("https://h/torch.whl")) != locked(wheel("https://other/torch.whl"))
