"""The record of every run: what was planned, tried and observed, in SQLite, written cell by cell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from torchskew.errors import RecordError
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.facts import Attempt
from torchskew.model.results import CellResult
from torchskew.model.runs import Finished, Provisioned, RunInfo
from torchskew.record import rows
from torchskew.record.codec import dumps
from torchskew.record.database import SCHEMA, Connection, Database, Row, insert, now
from torchskew.record.marks import KINDS, Payload
from torchskew.record.reading import LATEST, RecordReader, ids_of_cached

__all__ = ["LATEST", "Record"]


class Record(RecordReader):
    """An open record. Every method may be called from any thread; RecordError says what to do."""

    def __init__(self, database: Database) -> None:
        """Use `Record.open`."""
        super().__init__(database)
        self._recorded: dict[tuple[str, str, int], int] = {}

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True) -> Self:
        """Open the record at `path`; make it, with its folder, unless `create` is False."""
        return cls(Database.open(Path(path), create=create))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._database.close()

    def begin(self, info: RunInfo, plan: Plan, expectations: Iterable[Expectation] = ()) -> None:
        """Store a run's head and plan before its first cell."""
        head, expected = dumps(replace(info, finished=None)), dumps(tuple(expectations))
        with self._database.writing() as sql:
            if sql.execute("SELECT 1 FROM run WHERE run_id = ?", (info.run_id,)).fetchone():
                raise RecordError(f"{self.path} already has a run {info.run_id}. Continue it with --resume.")
            row: Row = {"run_id": info.run_id, "started": info.started, "schema": SCHEMA, "info": head}
            insert(sql, "run", **row, plan=_store_plan(sql, plan), expectations=expected)

    def resume(self, run_id: str, plan: Plan) -> RunInfo:
        """The head of an earlier run (or "latest") of this very plan; RecordError when it had another."""
        info = self.info(run_id)
        sql = "SELECT plan.content FROM run JOIN plan ON plan.id = run.plan WHERE run_id = ?"
        [(content,)] = self._database.rows(sql, info.run_id)
        if content != rows.of_plan(plan).content:
            raise RecordError(
                f"run {info.run_id} can't be resumed: its plan has changed since (the declaration, a scenario's "
                "variants or an option). Start a new run; unchanged cells come from the cache."
            )
        return info

    def attempt(self, run_id: str, cell: Cell, attempt: Attempt) -> None:
        """Store one try as soon as it ends, so that it is recorded even when no result follows."""
        with self._database.writing() as sql:
            self._recorded[run_id, cell.id, attempt.number] = _store_attempt(sql, run_id, cell, attempt)

    def write(self, run_id: str, result: CellResult, *, repeat: int = 0) -> CellResult:
        """Store a finished cell with its attempts and facts, in one transaction; the result without its bulk.

        What comes back is what `load` would read: a report can be made of it without reading the record again.
        """
        with self._database.writing() as sql:
            ids: list[int] = json.loads(ids_of_cached(sql, result.key) or "[]") if result.cached else []
            ids = ids or [self._stored(sql, run_id, result.cell, each) for each in result.attempts]
            row: Row = {"run_id": run_id, "cell_id": result.cell.id, "repeat": repeat, "key": result.key}
            row |= {"verdict": result.verdict, "outcomes": json.dumps(result.outcomes), "seconds": result.seconds}
            row |= {"cached": int(result.cached), "attempts": json.dumps(ids), "judged": ids[-1] if ids else None}
            insert(sql, "result", **row, at=now(), body=rows.of_result(result))
        return rows.light(result)

    def mark(self, run_id: str, payload: Payload, when: str | None = None) -> None:
        """Note what happened to a run; when: ISO 8601 UTC, now by default."""
        row: Row = {"run_id": self.resolve(run_id), "name": KINDS[type(payload)], "value": dumps(payload)}
        with self._database.writing() as sql:
            insert(sql, "mark", **row, at=when or now())

    def finish(self, run_id: str, when: str) -> None:
        """Note that every planned cell has its result at `when` (ISO 8601 UTC)."""
        self.mark(run_id, Finished(), when)

    def provisioned(self, run_id: str, environments: Mapping[str, str]) -> None:
        """Note environments (version -> identity) that a run made only after it had begun."""
        for version, identity in environments.items():
            self.mark(run_id, Provisioned(version=version, identity=identity))

    def _stored(self, sql: Connection, run_id: str, cell: Cell, attempt: Attempt) -> int:
        """The attempt's row: stored already as it ended, or now."""
        recorded = self._recorded.pop((run_id, cell.id, attempt.number), 0)
        return recorded or _store_attempt(sql, run_id, cell, attempt)


def _store_plan(sql: Connection, plan: Plan) -> int:
    """The plan's row; an equal plan is stored once."""
    packed = rows.of_plan(plan)
    row = sql.execute("SELECT id FROM plan WHERE content = ?", (packed.content,)).fetchone()
    if row:
        return int(row[0])
    number = insert(sql, "plan", content=packed.content, head=packed.head, cells=len(packed.cells))
    cells = [(number, position, *cell) for position, cell in enumerate(packed.cells)]
    sql.executemany("INSERT INTO cell (plan, position, cell_id, body) VALUES (?, ?, ?, ?)", cells)
    return number


def _store_attempt(sql: Connection, run_id: str, cell: Cell, attempt: Attempt) -> int:
    row: Row = {"number": attempt.number, "seconds": attempt.seconds, "fault": attempt.fault}
    number = insert(sql, "attempt", run_id=run_id, cell_id=cell.id, **row, at=now())
    ranks = [(number, facts.rank, *rows.of_facts(facts)) for facts in attempt.ranks]
    sql.executemany("INSERT INTO facts (attempt, rank, body, printed, payload) VALUES (?, ?, ?, ?, ?)", ranks)
    return number
