"""An agent's memory goes into large pages before its first rank, and holds what it held."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.inside import pages

from tests.inside.driver import Driver

LARGE = 2 << 20
KERNEL = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
OK = "def rank(job):\n    return {'answer': 42}\n"
HOLDS = "held = [bytes(4096) for _ in range(8192)]\n"  # 32 MiB, as torch holds more

needs_collapse = pytest.mark.skipif(
    KERNEL < (6, 1) or not Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").exists(),
    reason="this kernel has no large pages on demand (Linux 6.1)",
)


def large_bytes(pid: int) -> int:
    """How much of a process's memory is in large pages."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("AnonHugePages"))


def area(span: str, rights: str = "rw-p", inode: int = 0, path: str = "") -> str:
    return f"{span} {rights} 00000000 00:00 {inode} {path}".rstrip()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (area("200000-800000"), (0x200000, 0x800000)),
        (area("1ff000-801000", path="[heap]"), (0x200000, 0x800000)),
        (area("200000-3ff000"), None),
        (area("201000-5ff000"), None),
        (area("200000-800000", "r--p"), None),
        (area("200000-800000", "rw-s"), None),
        (area("200000-800000", inode=7, path="/usr/lib/a library.so"), None),
        (area("200000-800000", path="[stack]"), None),
    ],
)
def test_only_whole_large_pages_of_private_memory_are_asked_for(line: str, expected: tuple[int, int] | None) -> None:
    assert pages._own(line, LARGE) == expected


@needs_collapse
def test_what_memory_holds_stays_as_it_is() -> None:
    held = [bytes([number % 251]) * 4096 for number in range(8192)]
    pid = os.fork()
    if not pid:
        pages.collapse()
        os._exit(
            0 if large_bytes(os.getpid()) and all(each == bytes([n % 251]) * 4096 for n, each in enumerate(held)) else 1
        )
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@needs_collapse
def test_an_agent_does_it_before_it_takes_orders_and_after_an_import(tmp_path: Path) -> None:
    stub = tmp_path / "stub"
    stub.mkdir()
    for name in ("first", "second"):
        (stub / f"{name}.py").write_text(HOLDS)
    driver = Driver(tmp_path, change=(b'"imports": []', b'"imports": ["first"]'))
    driver.load(OK)
    begun = large_bytes(driver.process.pid)
    driver.send("import", modules=["second"])
    driver.until("imported")
    imported = large_bytes(driver.process.pid)
    driver.start("r0", "it")
    answer = driver.exited()["report"]["payload"]
    driver.close()
    assert begun > 8 << 20
    assert imported > begun + (8 << 20)
    assert answer == {"answer": 42}


def test_a_system_without_it_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(pages.ctypes, "CDLL", lambda _: SimpleNamespace(madvise=lambda *words: asked.append(words)))
    pages.collapse()
    assert asked or not Path(pages._SIZE).exists()
    asked.clear()
    monkeypatch.setattr(pages, "_SIZE", str(tmp_path / "missing"))
    pages.collapse()
    assert not asked
