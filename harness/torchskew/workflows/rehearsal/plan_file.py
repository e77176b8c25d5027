"""A plan as a file: JSON that is the same byte for byte for the same plan, and that a person may edit."""

from __future__ import annotations

import json

from torchskew.errors import ConfigError, DamagedRecordError
from torchskew.model.outcomes import Json
from torchskew.record import codec
from torchskew.workflows.rehearsal.planned import RehearsalPlan

SCHEMA = "2.0"
FIX = "Write a new one with --save-plan."


def dump(plan: RehearsalPlan) -> str:
    """The plan as JSON text; the same plan gives the same bytes."""
    fields = codec.encode(plan)
    assert isinstance(fields, dict)
    return json.dumps({"schema": SCHEMA, **fields}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def load(text: str, where: str) -> RehearsalPlan:
    """The plan that `dump` wrote.

    Raises:
        ConfigError: what is wrong with another text, with the path of the field.
    """
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where}: is not a plan of torchskew rehearse: {error}. {FIX}") from None
    plan = dict(fields) if isinstance(fields, dict) else {}
    _check_schema(plan.pop("schema", None), where)
    try:
        return codec.decode(RehearsalPlan, plan, where)
    except DamagedRecordError as error:
        raise ConfigError(f"{where}: is not a plan of torchskew rehearse: {error.problem}. {FIX}") from None


def _check_schema(schema: Json, where: str) -> None:
    if not isinstance(schema, str):
        raise ConfigError(f"{where}: is not a plan of torchskew rehearse: it states no schema. {FIX}")
    if schema.partition(".")[0] != SCHEMA.partition(".")[0]:
        raise ConfigError(f"{where}: is a plan of schema {schema}, this torchskew reads {SCHEMA}. {FIX}")
