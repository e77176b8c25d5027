"""What the record's rows hold: records as compact text, a plan's digest, logs compressed; pure."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, fields, replace
from typing import Final, cast

from torchskew.errors import RecordError
from torchskew.model.cells import Cell, Plan, PlanHead
from torchskew.model.declared import Expectation
from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Json
from torchskew.model.results import CellResult, Judgement
from torchskew.model.runs import Past, Printed
from torchskew.record.codec import decode, dumps, encode_as, loads, to_text

_PRINTED: Final = ("log", "stacks")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRows:
    """A plan as rows: its head without cells, each cell's id and body, a digest over both."""

    head: str
    cells: tuple[tuple[str, str], ...]
    content: str


# A plan's cells, and a result's cell and attempts, have rows of their own.
_HEAD_FIELDS: Final = tuple(each.name for each in fields(PlanHead))
_JUDGEMENT_FIELDS: Final = tuple(each.name for each in fields(Judgement))


def of_plan(plan: Plan) -> PlanRows:
    """Rows of a plan; equal plans, equal content."""
    head = dumps(PlanHead(**{name: getattr(plan, name) for name in _HEAD_FIELDS}))
    cells = tuple((cell.id, dumps(cell)) for cell in plan.cells)
    text = "\n".join((head, *(body for _, body in cells)))
    return PlanRows(head=head, cells=cells, content=hashlib.sha256(text.encode()).hexdigest())


def to_plan(head: str, cells: tuple[Cell, ...], where: str, *, newer: bool) -> Plan:
    """The plan that `of_plan` took apart."""
    read = loads(PlanHead, head, where, newer=newer)
    return Plan(cells=cells, **{name: getattr(read, name) for name in _HEAD_FIELDS})


def of_facts(facts: RankFacts) -> tuple[str, bytes | None, bytes | None]:
    """A rank's body and, compressed, what it printed and its payload; None where that is empty."""
    fields_of_rank = encode_as(RankFacts, facts)
    printed: dict[str, Json] = {name: fields_of_rank.pop(name) for name in _PRINTED if name in fields_of_rank}
    payload = cast("dict[str, Json]", fields_of_rank.pop("payload", {}))
    return to_text(fields_of_rank), _packed(printed), _packed(payload)


def to_facts(body: str, printed: bytes | None, payload: bytes | None, where: str, *, newer: bool) -> RankFacts:
    """The facts of a rank; without what is None."""
    value = _mapping(body, where)
    value |= _unpacked(printed, where) if printed else {}
    value |= {"payload": _unpacked(payload, where)} if payload else {}
    return decode(RankFacts, value, where, newer=newer)


def to_printed(cell_id: CellId, rank: int, printed: bytes) -> Printed:
    """What a rank printed, from its column."""
    return decode(Printed, _unpacked(printed, cell_id) | {"cell_id": cell_id, "rank": rank}, cell_id)


def light(result: CellResult) -> CellResult:
    """The result without logs, stacks and payloads: what stays in memory while thousands of cells run."""
    attempts = (
        replace(attempt, ranks=tuple(replace(facts, log="", stacks="", payload={}) for facts in attempt.ranks))
        for attempt in result.attempts
    )
    return replace(result, attempts=tuple(attempts))


def of_result(result: CellResult) -> str:
    """A result's body."""
    return to_text(encode_as(Judgement, result))


def to_result(body: str, cell: Cell, attempts: tuple[Attempt, ...], *, newer: bool) -> CellResult:
    """The result that `of_result` took apart."""
    read = loads(Judgement, body, cell.id, newer=newer)
    return CellResult(cell=cell, attempts=attempts, **{name: getattr(read, name) for name in _JUDGEMENT_FIELDS})


def to_expectations(text: str, where: str, *, newer: bool) -> tuple[Expectation, ...]:
    """A run's expectations as they were when it began."""
    return loads(tuple[Expectation, ...], text, where, newer=newer)


def to_past(row: tuple[str, str, int, str, str, float, int, str, str]) -> Past:
    """One line of a cell's history, from its columns."""
    run_id, cell_id, repeat, verdict, outcomes, seconds, cached, key, at = row
    value: dict[str, Json] = {"run_id": run_id, "cell_id": cell_id, "repeat": repeat, "verdict": verdict}
    value |= {"outcomes": json.loads(outcomes), "seconds": seconds, "cached": bool(cached), "key": key, "at": at}
    return decode(Past, value, f"history of {cell_id}")


def _packed(value: dict[str, Json]) -> bytes | None:
    return zlib.compress(json.dumps(value).encode()) if value else None


def _unpacked(data: bytes, where: str) -> dict[str, Json]:
    try:
        return _mapping(zlib.decompress(data), where)
    except zlib.error as error:
        raise RecordError(f"{where}: its log can't be unpacked ({error}). The record is damaged.") from None


def _mapping(text: str | bytes, where: str) -> dict[str, Json]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{where} is not JSON ({error}). The record is damaged.") from None
    if not isinstance(value, dict):
        raise RecordError(f"{where} must be a mapping. The record is damaged.")
    return value
