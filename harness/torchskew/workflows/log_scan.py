"""Reads logs of any size: the distinct lines, each with its place, and the torch releases that they name.

Lines that differ in digits only count as one, so a training log of millions of steps becomes a few hundred lines. Once
a log has shown many lines, those that differ in hexadecimal digits only count as one too: each may carry a hash.
A progress bar ends its lines with a carriage return; each counts as a line, and its place is that of the newlines.
Memory is bounded, however long a log or one of its lines is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import IO

from torchskew.errors import ConfigError
from torchskew.releases.diagnosis import Line, Material, NamedRelease

CHUNK = 4 * 2**20  # bytes read at a time
KEPT = 200_000  # distinct lines that are compared; of a log with more, the first, and as many that tell of a failure
FINE = 10_000  # distinct lines after which letters that may be hexadecimal digits don't distinguish two
LENGTH = 2_000  # characters of a line that are compared
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_TELLS = re.compile(
    rb"rror|xception|WARN|FATAL|[Ff]ail|[Aa]bort|[Kk]illed|ignal|imed out|imeout|refused|reset|closed|mismatch"
    rb"|undefined|[Cc]annot|[Cc]ould not|[Uu]nable|[Ii]nvalid|n't |not found|[Mm]issing|[Uu]nexpected"
)
_NAMES_TORCH = re.compile(
    rb"(?:\b[Pp]y[Tt]orch|\b[Tt]orch)(?: version)?(?:==|[ :=@-]|\.__version__\W{1,4}|: ){1,3}v?(\d+\.\d+\.\d+[+.\w]*)"
    rb"|\b(\d+\.\d+\.\d+\+(?:cu\d+|cpu|rocm[\d.]+|debian))\b"
)

Places = Callable[[int], str]  # where a line of a piece is, by its index, such as "rank1.log:120"


class Scan:
    """What a number of logs say, read one after another."""

    def __init__(self) -> None:
        self._lines: dict[bytes, tuple[bytes, str]] = {}
        self._telling = 0
        self._releases: dict[bytes, str] = {}

    def read(self, source: IO[bytes], name: str) -> None:
        """Read a log to its end. name: how its lines are placed."""
        number = 1
        for piece, ended in _pieces(source):
            places = _places(piece, name, number)
            number += piece.count(b"\n") + ended
            chunk = piece.replace(b"\r", b"\n")
            raw = chunk.split(b"\n")
            templates = chunk.translate(None, _DIGITS).split(b"\n")
            self._note_lines(raw, self._distinguished(chunk, templates), places)
            self._note_releases(raw, templates, places)

    def _distinguished(self, chunk: bytes, templates: list[bytes]) -> list[bytes]:
        """What distinguishes the lines of a chunk: their templates, or less where too many of those differ."""
        many = len(self._lines) > FINE or len(set(templates)) > FINE
        return chunk.translate(None, _HEX).split(b"\n") if many else templates

    def _note_lines(self, raw: list[bytes], templates: list[bytes], places: Places) -> None:
        first = dict(zip(reversed(templates), range(len(raw) - 1, -1, -1), strict=True))
        for template, index in sorted(first.items(), key=itemgetter(1)):
            key = template[:LENGTH]
            if key not in self._lines and key.strip() and self._has_room(raw[index]):
                self._lines[key] = (raw[index][:LENGTH], places(index))

    def _has_room(self, line: bytes) -> bool:
        """Whether one more line is kept: any of the first ones, then those that tell of a failure."""
        if len(self._lines) < KEPT:
            return True
        if self._telling >= KEPT or not _TELLS.search(line[:LENGTH]):
            return False
        self._telling += 1
        return True

    def _note_releases(self, raw: list[bytes], templates: list[bytes], places: Places) -> None:
        """Releases differ in digits, so each line of a template that may name one is looked at."""
        candidates = {
            template for template in set(templates) if b".." in template and (b"orch" in template or b"+" in template)
        }
        for index, template in enumerate(templates):
            if template in candidates:
                for match in _NAMES_TORCH.finditer(raw[index][:LENGTH]):
                    self._releases.setdefault(match.group(1) or match.group(2), places(index))

    def material(self, first: str = "", second: str = "") -> Material:
        """What was read, with the releases that the user gave."""
        lines = tuple(
            Line(text=text.decode(errors="replace").strip(), where=where) for text, where in self._lines.values()
        )
        named = tuple(
            NamedRelease(release=release.decode().rstrip("."), where=where) for release, where in self._releases.items()
        )
        return Material(lines=lines, named=named, first=first, second=second)


def _pieces(source: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The log in pieces of whole lines, and whether a newline ends each. Of a line without an end, the first part."""
    rest = b""
    while more := source.read(CHUNK):
        held = rest + more
        end = max(held.rfind(b"\n"), held.rfind(b"\r"))
        if end < 0:
            rest = held[: CHUNK + LENGTH]
            continue
        yield held[:end], held[end : end + 1] == b"\n"
        rest = held[end + 1 :]
    if rest:
        yield rest, False


def _places(piece: bytes, name: str, number: int) -> Places:
    """Where the lines of a piece are that begins in line `number` of a log; carriage returns do not count."""
    if not name:
        return lambda _: ""
    if b"\r" not in piece:
        return lambda index: f"{name}:{number + index}"
    numbers = [number + line for line, text in enumerate(piece.split(b"\n")) for _ in range(text.count(b"\r") + 1)]
    return lambda index: f"{name}:{numbers[index]}"


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
