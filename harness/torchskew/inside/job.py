"""The job of one rank: the record that the harness writes and the agent reads, with every key required."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple, Union, get_type_hints


class JobError(ValueError):
    """A job with a key that is unknown, missing or of another type; the text names all of them."""


@dataclasses.dataclass(frozen=True)
class JobRecord:
    """What one rank is to do; docs/protocol.md explains each field.

    host, port: where rank 0's store listens, or the bridge. timeout: seconds given to the process group. env: settings
    of this rank. guard: whether this rank installs it. skip: case pattern -> why, the union over the group. share: a
    folder that all ranks of the cell see. skew: declared versions, rank 0 first. check_port: refuse the rank if the
    port is taken.
    paths: folders that come first on sys.path. cwd: where the rank works, below `share` unless absolute; None: wherever
    the agent is. ranks_per_node: so many ranks in a row count as one node. keep: a failed rank stays alive. data:
    folders that the rank makes read-only for itself. bridge: a bridge listens at the port; no rank hosts a store.
    """

    rank: int
    world_size: int
    host: str
    port: int
    timeout: float
    env: Dict[str, str]
    guard: bool
    variant: Optional[str]
    params: Dict[str, Any]
    skip: Dict[str, str]
    share: str
    skew: List[str]
    seed: int
    check_port: bool
    paths: List[str] = dataclasses.field(default_factory=list)
    cwd: Optional[str] = None
    ranks_per_node: int = 1
    keep: bool = False
    data: List[str] = dataclasses.field(default_factory=list)
    bridge: bool = False


def _kinds(hint: Any) -> Tuple[type, ...]:
    """The classes that a type hint allows, without what containers hold."""
    options = hint.__args__ if getattr(hint, "__origin__", None) is Union else (hint,)
    return tuple(getattr(option, "__origin__", option) for option in options)


# By field, evaluated once: evaluating the hints takes longer than reading a job, of which there is one for each rank.
_KINDS = {name: _kinds(hint) for name, hint in get_type_hints(JobRecord).items()}


def alone(timeout: float, env: Optional[Dict[str, str]] = None, paths: Optional[List[str]] = None) -> JobRecord:
    """A job for a world of one that meets nobody."""
    return JobRecord(
        rank=0,
        world_size=1,
        host="127.0.0.1",
        port=0,
        timeout=timeout,
        env=env or {},
        guard=False,
        variant=None,
        params={},
        skip={},
        share="",
        skew=[],
        seed=0,
        check_port=False,
        paths=paths or [],
    )


def encode(job: JobRecord) -> Dict[str, Any]:
    """The job as a JSON object. Raises JobError where a field has another type than the record says."""
    fields = {each.name: getattr(job, each.name) for each in dataclasses.fields(job)}
    decode(fields)
    return fields


def decode(fields: Any) -> JobRecord:
    """The job in a JSON object. Raises JobError naming every unknown, missing or mistyped key."""
    if not isinstance(fields, dict):
        why = "the job must be an object, got {}".format(type(fields).__name__)
        raise JobError(why)
    if fields.keys() != _KINDS.keys() or not all(_fits(fields[name], kinds) for name, kinds in _KINDS.items()):
        why = "the job can't be read: {}".format("; ".join(_problems(fields)))
        raise JobError(why)
    return JobRecord(**fields)


def _problems(fields: Dict[str, Any]) -> List[str]:
    problems = ["unknown key {!r}".format(name) for name in fields if name not in _KINDS]
    problems += ["missing key {!r}".format(name) for name in _KINDS if name not in fields]
    return problems + [
        "{!r} must be {}, got {}".format(name, _names(kinds), type(fields[name]).__name__)
        for name, kinds in _KINDS.items()
        if name in fields and not _fits(fields[name], kinds)
    ]


def _fits(value: Any, kinds: Tuple[type, ...]) -> bool:
    if isinstance(value, bool):  # it is an int to Python, but no number here
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _names(kinds: Tuple[type, ...]) -> str:
    return " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
