"""Streams tar archives made on the fly, so that a gigabyte on its way to the daemon is never on disk or in memory."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20
Writer = Callable[[tarfile.TarFile], None]


def streamed(write: Writer) -> Iterator[bytes]:
    """The bytes of the archive that `write` fills, made in a second thread while they are read.

    Raises:
        Whatever `write` raised, after the bytes before it.
    """
    read_end, write_end = os.pipe()
    problems: list[BaseException] = []

    def fill(sink: BinaryIO) -> None:
        try:
            with sink, tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                write(archive)
        except BrokenPipeError:
            return  # the reader went away and says why itself
        except BaseException as error:  # noqa: BLE001 - carried over to the reader's thread
            problems.append(error)

    thread = threading.Thread(target=fill, args=(os.fdopen(write_end, "wb"),), daemon=True)
    with os.fdopen(read_end, "rb") as source:
        thread.start()
        while chunk := source.read(_CHUNK):
            yield chunk
    thread.join()
    if problems:
        raise problems[0]


def folder(path: Path, inside: str = ".", *, owned_by_root: bool = False) -> Writer:
    """Writes a folder's content under `inside`; owned_by_root drops who owns it here."""

    def own(info: tarfile.TarInfo) -> tarfile.TarInfo:
        if owned_by_root:
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
        return info

    def write(archive: tarfile.TarFile) -> None:
        archive.add(path, arcname=inside, filter=own)

    return write


def text(name: str, content: str | bytes) -> Writer:
    """Writes one file."""
    data = content.encode() if isinstance(content, str) else content

    def write(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        archive.addfile(info, io.BytesIO(data))

    return write


def together(*writers: Writer) -> Writer:
    """One writer after the other into one archive."""

    def write(archive: tarfile.TarFile) -> None:
        for each in writers:
            each(archive)

    return write
