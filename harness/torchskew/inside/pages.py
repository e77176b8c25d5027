"""The memory that an agent shares with its ranks, put into large pages: a fork and an end then have less to copy."""

from __future__ import annotations

import ctypes
import sys

_SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
_MAPS = "/proc/self/maps"
_MADV_COLLAPSE = 25  # since Linux 6.1; older kernels refuse it


def collapse() -> None:
    """Put this process's own memory into large pages, as far as the kernel can; what it holds does not change.

    It is done while no rank waits, because the kernel may take seconds on a machine with much other work.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    try:
        with open(_SIZE) as file:
            size = int(file.read())
        with open(_MAPS) as file:
            areas = file.read().splitlines()
    except (OSError, ValueError):  # a kernel without large pages, or a /proc that is closed
        return
    for begin, end in filter(None, (_own(line, size) for line in areas)):
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_COLLAPSE)


def _own(line: str, size: int) -> tuple[int, int] | None:
    """The large pages that fit into an area of /proc/self/maps, first and past the last byte; None for a file's."""
    span, rights, _, _, inode, *path = line.split(None, 5)
    if "w" not in rights or "p" not in rights or inode != "0" or path[:1] == ["[stack]"]:
        return None
    begin, end = (int(each, 16) for each in span.split("-"))
    begin, end = -(-begin // size) * size, end // size * size
    return (begin, end) if begin < end else None
