"""Keeps what every run planned, tried and found, in SQLite, row by row; the only file that knows SQL.

Longer than 300 lines because all of SQL and sqlite3 stay in one place; what the rows hold is in rows.py.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import torchskew
from torchskew.errors import RecordError
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.facts import Attempt
from torchskew.model.ids import CellId
from torchskew.model.results import CellResult
from torchskew.model.runs import Finished, Past, Printed, Provisioned, Run, RunInfo
from torchskew.record import rows
from torchskew.record.codec import dumps, loads
from torchskew.record.marks import KINDS, Mark, P, Payload

SCHEMA: Final = "2.0"
_Row: TypeAlias = dict[str, str | float | None]
LATEST: Final = "latest"
_BUSY_SECONDS: Final = 30.0
_TABLES: Final = Path(__file__).with_name("record.sql")
_FACTS: Final = "SELECT body, NULL, NULL FROM facts WHERE attempt = ? ORDER BY rank"
_FACTS_WITH_BULK: Final = "SELECT body, printed, payload FROM facts WHERE attempt = ? ORDER BY rank"
_PRINTED: Final = """SELECT r.cell_id, f.rank, f.printed
 FROM run JOIN cell c ON c.plan = run.plan JOIN result r ON r.id =
 (SELECT max(id) FROM result WHERE run_id = run.run_id AND cell_id = c.cell_id AND repeat = 0)
 JOIN facts f ON f.attempt = r.judged
 WHERE run.run_id = ? AND f.printed IS NOT NULL ORDER BY c.position, f.rank"""
_NEWEST: Final = """SELECT r.cell_id, r.attempts, r.body, c.body
 FROM run JOIN cell c ON c.plan = run.plan JOIN result r ON r.id =
 (SELECT max(id) FROM result WHERE run_id = run.run_id AND cell_id = c.cell_id AND repeat = ?)
 WHERE run.run_id = ?"""
_CACHED: Final = """SELECT r.cell_id, r.attempts, r.body, c.body
 FROM result r JOIN run ON run.run_id = r.run_id JOIN cell c ON c.plan = run.plan AND c.cell_id = r.cell_id
 WHERE r.key = ? AND r.key <> '' AND r.verdict IN ('PASS', 'FAIL', 'UNSUPPORTED')
 ORDER BY r.id DESC LIMIT 1"""
_FINISHED: Final = """SELECT DISTINCT cell_id FROM result
 WHERE run_id = ? AND verdict IN ('PASS', 'FAIL', 'UNSUPPORTED')"""
_HISTORY: Final = """SELECT run_id, cell_id, repeat, verdict, outcomes, seconds, cached, key, at
 FROM result WHERE cell_id = ? ORDER BY id DESC"""
_DURATIONS: Final = """SELECT cell_id, seconds, max(id) FROM result
 WHERE cached = 0 AND attempts <> '' GROUP BY cell_id"""
_ORIGINS: Final = """SELECT DISTINCT a.run_id FROM result r JOIN attempt a ON a.id = r.judged
 WHERE r.run_id = ? ORDER BY a.run_id"""
_CELLS: Final = """SELECT cell_id, body FROM run JOIN cell c ON c.plan = run.plan
 WHERE run_id = ? ORDER BY position"""


class Record:
    """An open record. Every method may be called from any thread; RecordError says what to mend.

    notes: lines for the person, such as that the file was written by a newer torchskew.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, frozen: bool) -> None:
        """Use `Record.open`."""
        self.path = path
        self.notes: tuple[str, ...] = ()
        self._connection = connection
        self._frozen = frozen
        self._lock = threading.RLock()
        self._newer = False
        self._noted: dict[tuple[str, str, int], int] = {}

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True) -> Self:
        """Open the record at `path`; make it, with its folder, unless `create` is False."""
        path = Path(path)
        if not create and not path.exists():
            raise RecordError(f"there is no record at {path}. Run `torchskew matrix` first, or give its folder.")
        with _explained(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                record = cls(path, _connect(path), frozen=False)
                record._check_schema()
                record._prepare()
            except sqlite3.OperationalError as error:
                if not (_refuses_writing(error) and path.exists()):
                    raise
                record = cls(path, _connect(path, frozen=True), frozen=True)
                record._check_schema()
                record.notes += (f"{path} can't be written to: it is shown as it is, nothing new is kept",)
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._connection.close()

    def begin(self, info: RunInfo, plan: Plan, expectations: Iterable[Expectation] = ()) -> None:
        """Store a run's head and plan before its first cell."""
        head, expected = dumps(replace(info, finished=None)), dumps(tuple(expectations))
        with self._writing() as sql:
            if sql.execute("SELECT 1 FROM run WHERE run_id = ?", (info.run_id,)).fetchone():
                raise RecordError(f"{self.path} has a run {info.run_id} already. Go on with it: --resume.")
            row: _Row = {"run_id": info.run_id, "started": info.started, "schema": SCHEMA, "info": head}
            _insert(sql, "run", **row, plan=_store_plan(sql, plan), expectations=expected)

    def resume(self, run_id: str, plan: Plan) -> RunInfo:
        """The head of an earlier run (or "latest") of this very plan; RecordError when it had another."""
        run_id = self.resolve(run_id)
        sql = "SELECT plan.content FROM run JOIN plan ON plan.id = run.plan WHERE run_id = ?"
        [(content,)] = self._read(sql, run_id)
        if content != rows.of_plan(plan).content:
            raise RecordError(
                f"run {run_id} can't be resumed: the declaration, a scenario's variants or an option changed "
                "its plan since. Start a new run; cells that did not change come from the cache."
            )
        return next(head for head in self.runs() if head.run_id == run_id)

    def attempt(self, run_id: str, cell: Cell, attempt: Attempt) -> None:
        """Keep one try as soon as it ended, so that it is there even when no result follows."""
        with self._writing() as sql:
            self._noted[run_id, cell.id, attempt.number] = _store_attempt(sql, run_id, cell.id, attempt)

    def attempts(self, run_id: str, cell_id: CellId) -> tuple[Attempt, ...]:
        """Every try at a cell, oldest first, those without a result as well."""
        sql = "SELECT id FROM attempt WHERE run_id = ? AND cell_id = ? ORDER BY id"
        ids = ",".join(str(row[0]) for row in self._read(sql, self.resolve(run_id), cell_id))
        with self._reading() as reader:
            return _attempts(reader, ids, cell_id, bulk=True, newer=self._newer)

    def write(self, run_id: str, result: CellResult, *, repeat: int = 0) -> CellResult:
        """Store a finished cell with its attempts and facts, in one transaction; the result without its bulk."""
        cell_id = result.cell.id
        with self._writing() as sql:
            ids = _attempts_of_key(sql, result.key) if result.cached else ""
            ids = ids or ",".join(str(self._stored(sql, run_id, cell_id, one)) for one in result.attempts)
            row: _Row = {"run_id": run_id, "cell_id": cell_id, "repeat": repeat, "verdict": str(result.verdict)}
            row |= {"outcomes": ",".join(result.outcomes), "seconds": result.seconds, "at": _now()}
            row |= {"cached": int(result.cached), "key": result.key, "attempts": ids}
            row |= {"judged": int(ids.rpartition(",")[2]) if ids else None}
            _insert(sql, "result", **row, body=rows.of_result(result))
        return rows.light(result)

    def mark(self, run_id: str, payload: Payload, when: str | None = None) -> None:
        """Note what happened to a run; when: ISO 8601 UTC, now by default."""
        row: _Row = {"run_id": self.resolve(run_id), "name": KINDS[type(payload)], "value": dumps(payload)}
        with self._writing() as sql:
            _insert(sql, "mark", **row, at=when or _now())

    def marks(self, kind: type[P]) -> tuple[Mark[P], ...]:
        """All marks of one kind, newest first."""
        found = self._read("SELECT run_id, value, at FROM mark WHERE name = ? ORDER BY id DESC", KINDS[kind])
        return tuple(
            Mark(run_id=run_id, payload=loads(kind, value, f"mark of run {run_id}", newer=self._newer), at=at)
            for run_id, value, at in found
        )

    def finish(self, run_id: str, when: str) -> None:
        """Note that every planned cell was dealt with at `when` (ISO 8601 UTC)."""
        self.mark(run_id, Finished(), when)

    def resolve(self, run_id: str) -> str:
        """The full id for "latest", an id, or the unique beginning of one."""
        known = [row[0] for row in self._read("SELECT run_id FROM run ORDER BY number DESC")]
        if run_id == LATEST and known:
            return str(known[0])
        found = [run_id] if run_id in known else [item for item in known if item.startswith(run_id)]
        if len(found) == 1:
            return str(found[0])
        there = f"It holds {', '.join(known[:5])}{', …' if known[5:] else ''}" if known else "It holds no run yet"
        several = f"{len(found)} runs that begin with {run_id!r}" if found else f"no run {run_id!r}"
        raise RecordError(f"{self.path} has {several}. {there}.")

    def runs(self) -> tuple[RunInfo, ...]:
        """The heads of all runs, newest first."""
        ended = {mark.run_id: mark.at for mark in reversed(self.marks(Finished))}
        found = self._read("SELECT run_id, info FROM run ORDER BY number DESC")
        heads = (loads(RunInfo, info, f"run {run_id}", newer=self._newer) for run_id, info in found)
        made = self._environments()
        return tuple(
            replace(
                head,
                finished=ended.get(head.run_id, head.finished),
                environments={**head.environments, **made.get(head.run_id, {})},
            )
            for head in heads
        )

    def provisioned(self, run_id: str, environments: Mapping[str, str]) -> None:
        """Note versions (name -> identity) that a run made only after it had begun."""
        for name, identity in environments.items():
            self.mark(run_id, Provisioned(version=name, identity=identity))

    def origins(self, run_id: str) -> tuple[str, ...]:
        """The runs in which the cells of a run really ran, oldest first: other ones where results were reused."""
        return tuple(row[0] for row in self._read(_ORIGINS, self.resolve(run_id)))

    def _environments(self) -> Mapping[str, Mapping[str, str]]:
        """What `provisioned` noted, by run."""
        found: dict[str, dict[str, str]] = {}
        for mark in reversed(self.marks(Provisioned)):
            found.setdefault(mark.run_id, {})[mark.payload.version] = mark.payload.identity
        return found

    def load(self, run_id: str = LATEST, *, bulk: bool = False) -> Run:
        """A run with its plan and results; with `bulk`, logs, stacks and payloads, which need memory."""
        run_id = self.resolve(run_id)
        info = next(head for head in self.runs() if head.run_id == run_id)
        sql = "SELECT head, expectations FROM run JOIN plan ON plan.id = run.plan WHERE run_id = ?"
        [(head, expected)] = self._read(sql, run_id)
        cells = dict(self._cells(run_id))
        return Run(
            info=info,
            plan=rows.to_plan(head, tuple(cells.values()), f"plan of {run_id}", newer=self._newer),
            results=tuple(self._results(run_id, cells, bulk=bulk)),
            expectations=rows.to_expectations(expected, f"expectations of {run_id}", newer=self._newer),
        )

    def results(self, run_id: str = LATEST, *, bulk: bool = False) -> Iterator[CellResult]:
        """The newest result of every cell, in the plan's order, one at a time; bulk as in `load`."""
        return self._results(self.resolve(run_id), {}, bulk=bulk)

    def printed(self, run_id: str = LATEST) -> Iterator[Printed]:
        """What the judged ranks of a run printed, in the plan's order, one at a time."""
        with self._reading() as reader:
            for row in reader.execute(_PRINTED, (self.resolve(run_id),)):
                yield rows.to_printed(*row)

    def result(self, run_id: str, cell_id: CellId, *, repeat: int = 0) -> CellResult | None:
        """One cell's newest result with everything in it."""
        which = (repeat, self.resolve(run_id), cell_id)
        with self._reading() as reader:
            row = reader.execute(f"{_NEWEST} AND c.cell_id = ?", which).fetchone()
            return self._result(reader, row, {}, bulk=True) if row else None

    def finished(self, run_id: str) -> frozenset[CellId]:
        """Ids of the cells that --resume need not run: PASS, FAIL or UNSUPPORTED already."""
        return frozenset(CellId(row[0]) for row in self._read(_FINISHED, self.resolve(run_id)))

    def cached(self, key: str) -> CellResult | None:
        """The newest PASS, FAIL or UNSUPPORTED result with that content key, as `cached`.

        Its cell is the one of the run that ran it: predictions and needs may have changed since.
        """
        with self._reading() as reader:
            row = reader.execute(_CACHED, (key,)).fetchone()
            return replace(self._result(reader, row, {}, bulk=False), cached=True) if row else None

    def history(self, cell_id: CellId) -> tuple[Past, ...]:
        """Every result of a cell over all runs and repetitions, newest first."""
        return tuple(rows.to_past(row) for row in self._read(_HISTORY, cell_id))

    def durations(self) -> Mapping[CellId, float]:
        """Seconds that each cell took when it last ran, for balancing shards and telling the time left."""
        return {CellId(cell_id): seconds for cell_id, seconds, _ in self._read(_DURATIONS)}

    def _stored(self, sql: sqlite3.Connection, run_id: str, cell_id: CellId, attempt: Attempt) -> int:
        """The attempt's row: noted already as it ended, or made now."""
        noted = self._noted.pop((run_id, cell_id, attempt.number), 0)
        return noted or _store_attempt(sql, run_id, cell_id, attempt)

    def _cells(self, run_id: str) -> Iterator[tuple[str, Cell]]:
        for cell_id, body in self._read(_CELLS, run_id):
            yield cell_id, loads(Cell, body, cell_id, newer=self._newer)

    def _results(self, run_id: str, cells: Mapping[str, Cell], *, bulk: bool) -> Iterator[CellResult]:
        with self._reading() as reader:
            for row in reader.execute(f"{_NEWEST} ORDER BY c.position", (0, run_id)):
                yield self._result(reader, row, cells, bulk=bulk)

    def _result(
        self, reader: sqlite3.Connection, row: tuple[str, ...], cells: Mapping[str, Cell], *, bulk: bool
    ) -> CellResult:
        cell_id, ids, body, text = row
        cell = cells.get(cell_id) or loads(Cell, text, cell_id, newer=self._newer)
        attempts = _attempts(reader, ids, cell_id, bulk=bulk, newer=self._newer)
        return rows.to_result(body, cell, attempts, newer=self._newer)

    def _read(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with _explained(self.path), self._lock:
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own: a slow reader neither waits for the writer nor holds it up."""
        with _explained(self.path):
            reader = _connect(self.path, frozen=self._frozen)
            try:
                yield reader
            finally:
                reader.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: everything or nothing of it is there after a kill."""
        with _explained(self.path), self._lock, _transaction(self._connection):
            yield self._connection

    def _check_schema(self) -> None:
        """Refuse another major; on a higher minor, read what we know and say so."""
        if not self._read("SELECT 1 FROM sqlite_master WHERE name = 'schema'"):
            return
        ours = _numbers(SCHEMA)
        stored = self._read("SELECT version, torchskew FROM schema")
        (major, minor), maker = max(((_numbers(version), maker) for version, maker in stored), default=(ours, ""))
        if major != ours[0]:
            self.close()
            raise RecordError(
                f"{self.path} was written by torchskew {maker} in schema {major}.{minor}; "
                f"torchskew {torchskew.__version__} reads {ours[0]}.x. "
                "Read it with the torchskew that wrote it; for new runs, choose another folder: --out DIR."
            )
        self._newer = (major, minor) > ours
        if self._newer:
            note = f"{self.path} was written by the newer torchskew {maker}: what it added is left out"
            self.notes = (*self.notes, note)

    def _prepare(self) -> None:
        """Make the tables that are not there; WAL lets readers go on while a cell is written."""
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(_TABLES.read_text(encoding="utf-8"))
        if not self._read("SELECT 1 FROM schema WHERE version = ?", SCHEMA):
            with self._writing() as sql:
                _insert(sql, "schema", version=SCHEMA, torchskew=torchskew.__version__, since=_now())


def _connect(path: Path, *, frozen: bool = False) -> sqlite3.Connection:
    """frozen: for a file in a folder that can't be written to: SQLite has no room for its WAL there."""
    waiting = path.with_name(path.name + "-wal")
    if frozen and waiting.exists() and waiting.stat().st_size:
        raise RecordError(
            f"{path} can't be read here: its newest cells stand in {waiting.name}, and the folder can't be "
            "written to. Copy both files to a folder of your own and give that one."
        )
    target = f"{path.absolute().as_uri()}?mode=ro&immutable=1" if frozen else path.absolute().as_uri()
    connection = sqlite3.connect(target, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # In WAL mode NORMAL loses nothing when a process is killed; only a power cut may take the last cells.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors as ours: what, why and the mend."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        mend = next((text for start, text in _MENDS.items() if name.startswith(start)), _MENDS[""])
        raise RecordError(f"the record {path} failed: {error}{f' ({name})' if name else ''}. {mend}") from error
    except OSError as error:
        mend = _MENDS["SQLITE_CANTOPEN"]
        raise RecordError(f"the record {path} can't be opened: {error.strerror}. {mend}") from error


_MENDS: Final = {
    "SQLITE_FULL": "The disk is full: make room, then go on with --resume; what had finished is kept.",
    "SQLITE_IOERR": "Look at the disk (full, a quota, a network share?), then go on with --resume.",
    "SQLITE_READONLY": "Give a folder that you can write to: --out DIR.",
    "SQLITE_CANTOPEN": "Give a folder that is there and that you can write to: --out DIR.",
    "SQLITE_BUSY": f"A process held it for {_BUSY_SECONDS:.0f} s: wait for that run, or use another --out DIR.",
    "SQLITE_LOCKED": "Another process holds it: wait for that run, or use another --out DIR.",
    "SQLITE_NOTADB": "It is no record of torchskew: give another folder, or move it away and run again.",
    "SQLITE_CORRUPT": "It is damaged: move it away and run again; `sqlite3 FILE .recover` may rescue rows.",
    "": "Move the file away and run again; if that does not help, report it with this text.",
}


def _refuses_writing(error: sqlite3.OperationalError) -> bool:
    return str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN"))


def _insert(sql: sqlite3.Connection, table: str, **values: str | float | None) -> int:
    """Add a row; its number. Names come from this file only, values never become SQL."""
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    added = sql.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608
    return added.lastrowid or 0


def _store_plan(sql: sqlite3.Connection, plan: Plan) -> int:
    """The plan's row; an equal plan is stored once."""
    packed = rows.of_plan(plan)
    found = sql.execute("SELECT id FROM plan WHERE content = ?", (packed.content,)).fetchone()
    if found:
        return int(found[0])
    number = _insert(sql, "plan", content=packed.content, head=packed.head, cells=len(packed.cells))
    cells = [(number, position, *cell) for position, cell in enumerate(packed.cells)]
    sql.executemany("INSERT INTO cell (plan, position, cell_id, body) VALUES (?, ?, ?, ?)", cells)
    return number


def _store_attempt(sql: sqlite3.Connection, run_id: str, cell_id: CellId, attempt: Attempt) -> int:
    tried: _Row = {"number": attempt.number, "seconds": attempt.seconds, "fault": attempt.fault}
    number = _insert(sql, "attempt", run_id=run_id, cell_id=cell_id, **tried, at=_now())
    ranks = [(number, facts.rank, *rows.of_facts(facts)) for facts in attempt.ranks]
    sql.executemany("INSERT INTO facts (attempt, rank, body, printed, payload) VALUES (?, ?, ?, ?, ?)", ranks)
    return number


def _attempts_of_key(sql: sqlite3.Connection, key: str) -> str:
    """The attempts of the run that filled the cache, so that a reused cell stores no facts again."""
    found = sql.execute(_CACHED, (key,)).fetchone()
    return str(found[1]) if found else ""


def _attempts(reader: sqlite3.Connection, ids: str, where: str, *, bulk: bool, newer: bool) -> tuple[Attempt, ...]:
    """The attempts with those comma separated ids, with the facts of every rank."""
    tried = []
    for identity in ids.split(",") if ids else ():
        number, seconds, fault = reader.execute(
            "SELECT number, seconds, fault FROM attempt WHERE id = ?", (identity,)
        ).fetchone() or (0, 0.0, "the record lost this attempt")
        found = reader.execute(_FACTS_WITH_BULK if bulk else _FACTS, (identity,))
        ranks = tuple(rows.to_facts(body, printed, payload, where, newer=newer) for body, printed, payload in found)
        tried.append(Attempt(number=number, ranks=ranks, seconds=seconds, fault=fault))
    return tuple(tried)


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    try:
        return int(major), int(minor)
    except ValueError:
        raise RecordError(f"the record's schema must be like {SCHEMA}, got {version!r}: it was damaged.") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
