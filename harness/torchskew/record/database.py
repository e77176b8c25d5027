"""The record's file: connections, transactions, schema, and SQLite's errors in words; alone in using sqlite3."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import torchskew
from torchskew.errors import RecordError

SCHEMA: Final = "2.0"
Connection: TypeAlias = sqlite3.Connection
Row: TypeAlias = dict[str, str | float | None]
_BUSY_SECONDS: Final = 30.0
_TABLES: Final = Path(__file__).with_name("record.sql")


class Database:
    """An open file. Every method may be called from any thread; RecordError says what to do.

    notes: lines for the user, such as that a newer torchskew wrote the file.
    newer: a newer minor schema wrote to it, so fields unknown here are passed over.
    """

    def __init__(self, path: Path, connection: Connection, *, frozen: bool) -> None:
        """Use `Database.open`."""
        self.path = path
        self.notes: tuple[str, ...] = ()
        self.newer = False
        self.connection = connection
        self._frozen = frozen
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Self:
        """Open the file at `path`; make it, with its folder, unless `create` is False."""
        if not create and not path.exists():
            raise RecordError(f"there is no record at {path}. Run `torchskew matrix` first, or give its folder.")
        with _explained(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                database = cls(path, _connect(path), frozen=False)
                database._check_schema()
                database._prepare()
            except sqlite3.OperationalError as error:
                if not (_refuses_writing(error) and path.exists()):
                    raise
                database = cls(path, _connect(path, frozen=True), frozen=True)
                database._check_schema()
                database.notes += (f"{path} can't be written to: it is shown as it is, and nothing new is recorded",)
        return database

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self.connection.close()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with _explained(self.path), self._lock:
            return self.connection.execute(sql, values).fetchall()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection of its own: a slow reader neither waits for the writer nor holds it up."""
        with _explained(self.path):
            reader = _connect(self.path, frozen=self._frozen)
            try:
                yield reader
            finally:
                reader.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: after a kill, all of it is there or nothing."""
        with _explained(self.path), self._lock, _transaction(self.connection):
            yield self.connection

    def _check_schema(self) -> None:
        """Refuse another major version; on a higher minor, read what is known here and say so."""
        if not self.rows("SELECT 1 FROM sqlite_master WHERE name = 'schema'"):
            return
        ours = _numbers(SCHEMA)
        stored = self.rows("SELECT version, torchskew FROM schema")
        (major, minor), writer = max(((_numbers(version), writer) for version, writer in stored), default=(ours, ""))
        if major != ours[0]:
            self.close()
            raise RecordError(
                f"{self.path} was written by torchskew {writer} in schema {major}.{minor}; "
                f"torchskew {torchskew.__version__} reads {ours[0]}.x. "
                "Read it with the torchskew that wrote it; for new runs, choose another folder: --out DIR."
            )
        self.newer = (major, minor) > ours
        if self.newer:
            note = f"{self.path} was written by the newer torchskew {writer}: what that version added is left out"
            self.notes = (*self.notes, note)

    def _prepare(self) -> None:
        """Make the tables that are missing; WAL lets readers go on while a cell is written."""
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.executescript(_TABLES.read_text(encoding="utf-8"))
        if not self.rows("SELECT 1 FROM schema WHERE version = ?", SCHEMA):
            row = (SCHEMA, torchskew.__version__, now())
            with self.writing() as sql:  # another process may have made the file at the same time
                sql.execute("INSERT OR IGNORE INTO schema (version, torchskew, since) VALUES (?, ?, ?)", row)


def insert(sql: Connection, table: str, **values: str | float | None) -> int:
    """Add a row; its number. Table and columns are named by this package only, values never become SQL."""
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    added = sql.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values()))  # noqa: S608
    return added.lastrowid or 0


def now() -> str:
    """The time in ISO 8601, UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _connect(path: Path, *, frozen: bool = False) -> Connection:
    """frozen: for a file in a read-only folder, where SQLite has no room for its WAL."""
    waiting = path.with_name(path.name + "-wal")
    if frozen and waiting.exists() and waiting.stat().st_size:
        raise RecordError(
            f"{path} can't be read here: its newest cells are still in {waiting.name}, and the folder is read-only. "
            "Copy both files to a folder that you can write to, and use that one."
        )
    target = f"{path.absolute().as_uri()}?mode=ro&immutable=1" if frozen else path.absolute().as_uri()
    connection = sqlite3.connect(target, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # In WAL mode NORMAL loses nothing when a process is killed; only a power cut may take the last cells.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors as ours: what, why and the fix."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        fix = next((text for start, text in _FIXES.items() if name.startswith(start)), _FIXES[""])
        raise RecordError(f"the record {path} failed: {error}{f' ({name})' if name else ''}. {fix}") from error
    except OSError as error:
        fix = _FIXES["SQLITE_CANTOPEN"]
        raise RecordError(f"the record {path} can't be opened: {error.strerror}. {fix}") from error


_FIXES: Final = {
    "SQLITE_FULL": "The disk is full: make room, then continue with --resume; finished cells are recorded.",
    "SQLITE_IOERR": "Check the disk (full, over quota, a network share?), then continue with --resume.",
    "SQLITE_READONLY": "Give a folder that you can write to: --out DIR.",
    "SQLITE_CANTOPEN": "Give a folder that exists and that you can write to: --out DIR.",
    "SQLITE_BUSY": f"Another process held it for {_BUSY_SECONDS:.0f} s: wait for that run, or use another --out DIR.",
    "SQLITE_LOCKED": "Another process holds it: wait for that run, or use another --out DIR.",
    "SQLITE_NOTADB": "The file is not a torchskew record: give another folder, or move it away and run again.",
    "SQLITE_CORRUPT": "It is damaged: move it away and run again; `sqlite3 FILE .recover` may rescue rows.",
    "": "Move the file away and run again; if that does not help, report it with this text.",
}


def _refuses_writing(error: sqlite3.OperationalError) -> bool:
    return str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN"))


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    try:
        return int(major), int(minor)
    except ValueError:
        raise RecordError(f"the record's schema must be like {SCHEMA}, got {version!r}: it was damaged.") from None
