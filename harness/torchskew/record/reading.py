"""What a record answers: runs, results, attempts, what ranks printed, the history of a cell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from torchskew.errors import RecordError
from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt
from torchskew.model.ids import CellId
from torchskew.model.results import CellResult
from torchskew.model.runs import Finished, Past, Printed, Provisioned, Run, RunInfo
from torchskew.record import rows
from torchskew.record.codec import loads
from torchskew.record.database import Connection, Database
from torchskew.record.marks import KINDS, Mark, P

LATEST: Final = "latest"
_FACTS: Final = "SELECT body, NULL, NULL FROM facts WHERE attempt = ? ORDER BY rank"
_FACTS_WITH_BULK: Final = "SELECT body, printed, payload FROM facts WHERE attempt = ? ORDER BY rank"
_PRINTED: Final = """SELECT r.cell_id, f.rank, f.printed
 FROM run JOIN cell c ON c.plan = run.plan JOIN result r ON r.id =
 (SELECT max(id) FROM result WHERE run_id = run.run_id AND cell_id = c.cell_id AND repeat = 0)
 JOIN facts f ON f.attempt = r.judged
 WHERE run.run_id = ? AND f.printed IS NOT NULL ORDER BY c.position, f.rank"""
_NEWEST: Final = """SELECT r.cell_id, r.attempts, r.body
 FROM run JOIN cell c ON c.plan = run.plan JOIN result r ON r.id =
 (SELECT max(id) FROM result WHERE run_id = run.run_id AND cell_id = c.cell_id AND repeat = 0)
 WHERE run.run_id = ? ORDER BY c.position"""
_ONE: Final = """SELECT r.cell_id, r.attempts, r.body, c.body
 FROM result r JOIN run ON run.run_id = r.run_id JOIN cell c ON c.plan = run.plan AND c.cell_id = r.cell_id
 WHERE r.run_id = ? AND r.cell_id = ? AND r.repeat = ? ORDER BY r.id DESC LIMIT 1"""
_CACHED: Final = """SELECT cell_id, attempts, body FROM result
 WHERE key = ? AND key <> '' AND verdict IN ('PASS', 'FAIL', 'UNSUPPORTED') ORDER BY id DESC LIMIT 1"""
_FINISHED: Final = """SELECT DISTINCT cell_id FROM result
 WHERE run_id = ? AND verdict IN ('PASS', 'FAIL', 'UNSUPPORTED')"""
_EVERY: Final = """SELECT run_id, cell_id, repeat, verdict, outcomes, seconds, cached, key, at
 FROM result WHERE cached = 0 ORDER BY id"""
_DURATIONS: Final = """SELECT cell_id, seconds, max(id) FROM result
 WHERE cached = 0 AND judged IS NOT NULL GROUP BY cell_id"""
_ORIGINS: Final = """SELECT DISTINCT a.run_id FROM result r JOIN attempt a ON a.id = r.judged
 WHERE r.run_id = ? ORDER BY a.run_id"""
_CELLS: Final = """SELECT cell_id, body FROM run JOIN cell c ON c.plan = run.plan
 WHERE run_id = ? ORDER BY position"""


class Recalled(Protocol):
    """What `cached` answers, as a function."""

    def __call__(self, key: str, cell: Cell, *, bulk: bool = False) -> CellResult | None:
        """The result, where there is one."""


class RecordReader:
    """The questions that a record answers. RecordError says what to do where it can't."""

    def __init__(self, database: Database) -> None:
        """Answer from an open file."""
        self._database = database

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user, such as that a newer torchskew wrote the file."""
        return self._database.notes

    def resolve(self, run_id: str) -> str:
        """The full id for "latest", an id, or the unique beginning of one."""
        known = [row[0] for row in self._database.rows("SELECT run_id FROM run ORDER BY number DESC")]
        if run_id == LATEST and known:
            return str(known[0])
        matching = [run_id] if run_id in known else [each for each in known if each.startswith(run_id)]
        if len(matching) == 1:
            return str(matching[0])
        holds = f"It holds {', '.join(known[:5])}{', …' if known[5:] else ''}" if known else "It holds no run yet"
        problem = f"{len(matching)} runs that begin with {run_id!r}" if matching else f"no run {run_id!r}"
        raise RecordError(f"{self.path} has {problem}. {holds}.")

    def runs(self) -> tuple[RunInfo, ...]:
        """The heads of all runs, newest first."""
        finished = {mark.run_id: mark.at for mark in reversed(self.marks(Finished))}
        environments: dict[str, dict[str, str]] = {}
        for mark in reversed(self.marks(Provisioned)):
            environments.setdefault(mark.run_id, {})[mark.payload.version] = mark.payload.identity
        heads = self._database.rows("SELECT run_id, info FROM run ORDER BY number DESC")
        infos = (loads(RunInfo, head, f"run {run_id}", newer=self._database.newer) for run_id, head in heads)
        return tuple(
            replace(
                info,
                finished=finished.get(info.run_id, info.finished),
                environments={**info.environments, **environments.get(info.run_id, {})},
            )
            for info in infos
        )

    def info(self, run_id: str = LATEST) -> RunInfo:
        """The head of one run."""
        run_id = self.resolve(run_id)
        return next(info for info in self.runs() if info.run_id == run_id)

    def marks(self, kind: type[P]) -> tuple[Mark[P], ...]:
        """All marks of one kind, newest first."""
        sql = "SELECT run_id, value, at FROM mark WHERE name = ? ORDER BY id DESC"
        newer = self._database.newer
        return tuple(
            Mark(run_id=run_id, payload=loads(kind, value, f"mark of run {run_id}", newer=newer), at=at)
            for run_id, value, at in self._database.rows(sql, KINDS[kind])
        )

    def mark_of(self, kind: type[P], run_id: str) -> P | None:
        """The newest mark of one kind that a run has, or None."""
        return next((mark.payload for mark in self.marks(kind) if mark.run_id == run_id), None)

    def origins(self, run_id: str) -> tuple[str, ...]:
        """The runs in which the cells of a run really ran, oldest first: others where results were reused."""
        return tuple(row[0] for row in self._database.rows(_ORIGINS, self.resolve(run_id)))

    def load(self, run_id: str = LATEST, *, bulk: bool = False) -> Run:
        """A run with its plan and results; with `bulk`, logs, stacks and payloads, which need memory."""
        info = self.info(run_id)
        sql = "SELECT head, expectations FROM run JOIN plan ON plan.id = run.plan WHERE run_id = ?"
        [(head, expectations)] = self._database.rows(sql, info.run_id)
        cells = self._cells(info.run_id)
        newer = self._database.newer
        return Run(
            info=info,
            plan=rows.to_plan(head, tuple(cells.values()), f"plan of {info.run_id}", newer=newer),
            results=tuple(self._results(info.run_id, cells, bulk=bulk)),
            expectations=rows.to_expectations(expectations, f"expectations of {info.run_id}", newer=newer),
        )

    def results(self, run_id: str = LATEST, *, bulk: bool = False) -> Iterator[CellResult]:
        """The newest result of every cell, in the plan's order, one at a time; bulk as in `load`."""
        run_id = self.resolve(run_id)
        return self._results(run_id, self._cells(run_id), bulk=bulk)

    def printed(self, run_id: str = LATEST) -> Iterator[Printed]:
        """What the judged ranks of a run printed, in the plan's order, one at a time."""
        with self._database.reading() as reader:
            for row in reader.execute(_PRINTED, (self.resolve(run_id),)):
                yield rows.to_printed(*row)

    def result(self, run_id: str, cell_id: CellId, *, repeat: int = 0) -> CellResult | None:
        """One cell's newest result with everything in it."""
        with self._database.reading() as reader:
            row = reader.execute(_ONE, (self.resolve(run_id), cell_id, repeat)).fetchone()
            if row is None:
                return None
            cell = loads(Cell, row[3], cell_id, newer=self._database.newer)
            return self._result(reader, row[:3], cell, bulk=True)

    def attempts(self, run_id: str, cell_id: CellId) -> tuple[Attempt, ...]:
        """Every try at a cell, oldest first, those without a result as well."""
        sql = "SELECT id FROM attempt WHERE run_id = ? AND cell_id = ? ORDER BY id"
        ids = [row[0] for row in self._database.rows(sql, self.resolve(run_id), cell_id)]
        with self._database.reading() as reader:
            return self._attempts(reader, ids, cell_id, bulk=True)

    def finished(self, run_id: str) -> frozenset[CellId]:
        """Ids of the cells that --resume need not run: PASS, FAIL or UNSUPPORTED already."""
        return frozenset(CellId(row[0]) for row in self._database.rows(_FINISHED, self.resolve(run_id)))

    def cached(self, key: str, cell: Cell, *, bulk: bool = False) -> CellResult | None:
        """The newest PASS, FAIL or UNSUPPORTED result with that content key, as this cell's and as `cached`.

        The cell is the caller's, because predictions and needs may have changed since the result was recorded. bulk as
        in `load`.
        """
        with self.recalling() as recalled:
            return recalled(key, cell, bulk=bulk)

    @contextmanager
    def recalling(self) -> Iterator[Recalled]:
        """`cached` as a function, for many cells over one connection."""
        with self._database.reading() as reader:

            def recalled(key: str, cell: Cell, *, bulk: bool = False) -> CellResult | None:
                row = reader.execute(_CACHED, (key,)).fetchone()
                return replace(self._result(reader, row, cell, bulk=bulk), cached=True) if row else None

            yield recalled

    def pasts(self) -> Iterator[Past]:
        """Every result that really ran, of all cells and runs, oldest first, one at a time."""
        with self._database.reading() as reader:
            for row in reader.execute(_EVERY):
                yield rows.to_past(row)

    def durations(self) -> Mapping[CellId, float]:
        """Seconds that each cell took when it last ran, for balancing shards and estimating the time left."""
        return {CellId(cell_id): seconds for cell_id, seconds, _ in self._database.rows(_DURATIONS)}

    def _cells(self, run_id: str) -> dict[str, Cell]:
        newer = self._database.newer
        return {
            cell_id: loads(Cell, body, cell_id, newer=newer) for cell_id, body in self._database.rows(_CELLS, run_id)
        }

    def _results(self, run_id: str, cells: Mapping[str, Cell], *, bulk: bool) -> Iterator[CellResult]:
        with self._database.reading() as reader:
            for row in reader.execute(_NEWEST, (run_id,)):
                yield self._result(reader, row, cells[row[0]], bulk=bulk)

    def _result(self, reader: Connection, row: tuple[str, str, str], cell: Cell, *, bulk: bool) -> CellResult:
        cell_id, ids, body = row
        attempts = self._attempts(reader, json.loads(ids), cell_id, bulk=bulk)
        return rows.to_result(body, cell, attempts, newer=self._database.newer)

    def _attempts(self, reader: Connection, ids: Sequence[int], where: str, *, bulk: bool) -> tuple[Attempt, ...]:
        """The attempts with these ids, with the facts of every rank."""
        newer, sql = self._database.newer, _FACTS_WITH_BULK if bulk else _FACTS
        attempts = []
        for identity in ids:
            number, seconds, fault = reader.execute(
                "SELECT number, seconds, fault FROM attempt WHERE id = ?", (identity,)
            ).fetchone() or (0, 0.0, "the record lost this attempt")
            facts = reader.execute(sql, (identity,))
            ranks = tuple(rows.to_facts(body, printed, load, where, newer=newer) for body, printed, load in facts)
            attempts.append(Attempt(number=number, ranks=ranks, seconds=seconds, fault=fault))
        return tuple(attempts)


def ids_of_cached(sql: Connection, key: str) -> str:
    """The attempts' ids of the result that `cached` gives, as the column holds them; empty where there is none."""
    row = sql.execute(_CACHED, (key,)).fetchone()
    return str(row[1]) if row else ""
