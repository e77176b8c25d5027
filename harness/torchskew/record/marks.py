"""Marks: what happens to a run after it began, each kind with a payload of its own type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeAlias, TypeVar

from torchskew.model.runs import Accepted, Asked, Finished, Provisioned, Shard, Unmatched

Payload: TypeAlias = Accepted | Asked | Finished | Provisioned | Shard | Unmatched
P = TypeVar("P", Accepted, Asked, Finished, Provisioned, Shard, Unmatched)


class MarkKind(StrEnum):
    """How a mark is named in the record."""

    ACCEPTED = "accepted"
    ENVIRONMENT = "environment"
    FINISHED = "finished"
    GATE = "gate"
    SHARD = "shard"
    UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark(Generic[P]):
    """A mark of a run. at: ISO 8601 UTC."""

    run_id: str
    payload: P
    at: str


KINDS: Final[Mapping[type[Payload], MarkKind]] = {
    Accepted: MarkKind.ACCEPTED,
    Asked: MarkKind.GATE,
    Finished: MarkKind.FINISHED,
    Provisioned: MarkKind.ENVIRONMENT,
    Shard: MarkKind.SHARD,
    Unmatched: MarkKind.UNMATCHED,
}
