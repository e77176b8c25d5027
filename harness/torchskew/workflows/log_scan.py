"""Reads logs of any size: the distinct lines, each with its place, and the torch releases that they name.

Lines that differ in digits only count as one, so a training log of millions of steps becomes a few hundred lines. Once
a log has shown many lines, those that differ in hexadecimal digits only count as one too: each may carry a hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import IO

from torchskew.errors import ConfigError
from torchskew.releases.diagnosis import Line, Material, NamedRelease

CHUNK = 16 * 2**20  # bytes read at a time
KEPT = 200_000  # distinct lines that are compared; of a log with more, the first ones
FINE = 10_000  # distinct lines after which letters that may be hexadecimal digits don't distinguish two
LENGTH = 2_000  # characters of a line that are compared
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_NAMES_TORCH = re.compile(
    rb"(?:\b[Pp]y[Tt]orch|\b[Tt]orch)(?: version)?(?:==|[ :=@-]|\.__version__\W{1,4}|: ){1,3}v?(\d+\.\d+\.\d+[+.\w]*)"
    rb"|\b(\d+\.\d+\.\d+\+(?:cu\d+|cpu|rocm[\d.]+|debian))\b"
)


class Scan:
    """What a number of logs say, read one after another."""

    def __init__(self) -> None:
        self._lines: dict[bytes, tuple[bytes, str]] = {}
        self._releases: dict[bytes, str] = {}

    def read(self, source: IO[bytes], name: str) -> None:
        """Read a log to its end. name: how its lines are placed."""
        number = 1
        for chunk in _chunks(source):
            raw = chunk.split(b"\n")
            templates = chunk.translate(None, _DIGITS).split(b"\n")
            self._note_lines(raw, self._distinguished(chunk, templates), name, number)
            self._note_releases(raw, templates, name, number)
            number += len(raw)

    def _distinguished(self, chunk: bytes, templates: list[bytes]) -> list[bytes]:
        """What distinguishes the lines of a chunk: their templates, or less where too many of those differ."""
        many = len(self._lines) > FINE or len(set(templates)) > FINE
        return chunk.translate(None, _HEX).split(b"\n") if many else templates

    def _note_lines(self, raw: list[bytes], templates: list[bytes], name: str, number: int) -> None:
        first = dict(zip(reversed(templates), range(len(raw) - 1, -1, -1), strict=True))
        for template, index in sorted(first.items(), key=itemgetter(1)):
            if template not in self._lines and template.strip() and len(self._lines) < KEPT:
                self._lines[template] = (raw[index], f"{name}:{number + index}" if name else "")

    def _note_releases(self, raw: list[bytes], templates: list[bytes], name: str, number: int) -> None:
        """Releases differ in digits, so each line of a template that may name one is looked at."""
        candidates = {
            template for template in set(templates) if b".." in template and (b"orch" in template or b"+" in template)
        }
        for index, template in enumerate(templates):
            if template in candidates:
                for match in _NAMES_TORCH.finditer(raw[index][:LENGTH]):
                    place = f"{name}:{number + index}" if name else ""
                    self._releases.setdefault(match.group(1) or match.group(2), place)

    def material(self, first: str = "", second: str = "") -> Material:
        """What was read, with the releases that the user gave."""
        lines = tuple(
            Line(text=text[:LENGTH].decode(errors="replace").strip(), where=where)
            for text, where in self._lines.values()
        )
        named = tuple(
            NamedRelease(release=release.decode().rstrip("."), where=where) for release, where in self._releases.items()
        )
        return Material(lines=lines, named=named, first=first, second=second)


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    """The log in pieces that end with a line."""
    rest = b""
    while piece := source.read(CHUNK):
        block, newline, rest_of_line = (rest + piece).rpartition(b"\n")
        if newline:
            yield block
            rest = rest_of_line
        else:
            rest += piece
    if rest:
        yield rest


def scan(texts: Iterable[str], standard_input: IO[bytes]) -> Scan:
    """Read each text: a file where one has that name, "-" for standard input, else the text itself.

    Raises:
        ConfigError: a file is named that can't be read.
    """
    result = Scan()
    for text in texts:
        if text == "-":
            result.read(standard_input, "")
        elif (path := _file(text)) is not None:
            with path.open("rb") as source:
                result.read(source, path.name)
        else:
            result.read(BytesIO(text.encode()), "")
    return result


def _file(text: str) -> Path | None:
    """The file that a text names, or None for a text that is none."""
    if "\n" in text or len(text) > 4096:
        return None
    path = Path(text)
    if path.is_file():
        return path
    looks_like_one = " " not in text and (path.suffix in (".log", ".txt", ".out", ".err") or "/" in text)
    if path.is_dir() or looks_like_one:
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"explain: {text} {what}. Give a log, an error text, or - for standard input.")
    return None
