"""Environments that are made side by side share the free space of the disk: what fits begins, the rest is refused."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.runtimes.reservations import NoSpaceError, Reservations

GB = 10**9


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The disk: 11 GB are free."""
    disk = SimpleNamespace(free=11 * GB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
    return disk


def test_of_three_releases_those_begin_that_the_disk_holds_together(free, tmp_path: Path) -> None:
    reservations = Reservations(tmp_path)
    with ExitStack() as first:
        first.enter_context(reservations.reserved("a", 5 * GB))
        with reservations.reserved("b", 5 * GB):
            with pytest.raises(NoSpaceError) as caught, Reservations(tmp_path).reserved("c", 5 * GB):
                pass
            assert (caught.value.free, caught.value.promised) == (11 * GB, 10 * GB)
            first.close()  # it failed, and its space is free again
            with reservations.reserved("c", 5 * GB):
                pass
    assert list((tmp_path / "reserved").iterdir()) == []


def test_what_is_written_is_no_longer_promised_because_it_is_no_longer_free(free, tmp_path: Path) -> None:
    reservations = Reservations(tmp_path)
    with reservations.reserved("a", 6 * GB) as first:
        free.free -= 4 * GB
        first.written(4 * GB)
        with pytest.raises(NoSpaceError) as caught, reservations.reserved("b", 6 * GB):
            pass
        assert (caught.value.free, caught.value.promised) == (7 * GB, 2 * GB)
        with reservations.reserved("b", 5 * GB):
            pass
        first.written(9 * GB)  # an estimate may be too low
        with reservations.reserved("b", 7 * GB):
            pass


def test_nothing_to_download_is_never_refused(free, tmp_path: Path) -> None:
    free.free = 0
    with Reservations(tmp_path).reserved("a", 0):
        pass


def test_another_process_keeps_its_promise_until_it_ends_however_it_ends(free, tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from torchskew.runtimes.reservations import Reservations
        with Reservations(Path({str(tmp_path)!r})).reserved("theirs", 1000):
            print("reserved", flush=True)
            sys.stdin.read()
    """)
    free.free = 1500
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"reserved\n"
        with pytest.raises(NoSpaceError) as caught, Reservations(tmp_path).reserved("ours", 1000):
            pass
        assert caught.value.promised == 1000
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / "reserved" / "theirs").exists()
    with Reservations(tmp_path).reserved("ours", 1000):
        assert [path.name for path in (tmp_path / "reserved").iterdir()] == ["ours"]
