"""Runs a workflow: a tuple of functions, each given by type what it asks for and handing on what it returns."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

Step: TypeAlias = Callable[..., object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """A step returns it to end the workflow, here with this exit code."""

    code: int


def execute(steps: Sequence[Step], given: Mapping[type, object]) -> int:
    """Run the steps in order until one returns Exit; its code.

    A step's parameters are found by their annotated types, in `given` and in what earlier steps returned. A step
    returns one record, a tuple of records, Exit, or None. No record replaces another: what changes on the way has a
    type of its own.

    Raises:
        TypeError: two steps return the same type, or nobody returns what a step asks for.
    """
    known: dict[type, object] = dict(given)
    for step in steps:
        wanted = parameters(step)
        missing = [kind.__name__ for kind in wanted.values() if kind not in known]
        if missing:
            raise TypeError(f"{step.__name__} asks for {', '.join(missing)}, which no earlier step returned")
        returned = step(**{name: known[kind] for name, kind in wanted.items()})
        if isinstance(returned, Exit):
            return returned.code
        for record in returned if isinstance(returned, tuple) else (returned,):
            if record is not None and type(record) in known:
                raise TypeError(f"{step.__name__} returns another {type(record).__name__}")
            known[type(record)] = record
    raise TypeError("the last step of a workflow returns Exit")


@cache
def parameters(step: Step) -> Mapping[str, type]:
    """Name and type of what a step asks for."""
    hints = get_type_hints(step)
    return {name: hints[name] for name in inspect.signature(step).parameters}


def problems(steps: Sequence[Step], given: Sequence[type]) -> list[str]:
    """What keeps a workflow from running, by its annotations alone, in words."""
    known = set(given)
    problems = []
    for step in steps:
        asked = (kind for kind in parameters(step).values() if kind not in known)
        problems += [f"{step.__name__} asks for {kind.__name__}, which no earlier step returns" for kind in asked]
        returned = set(_kinds(get_type_hints(step)["return"]))
        problems += [f"{step.__name__} returns another {kind.__name__}" for kind in returned & known - {Exit}]
        known |= returned
    last = set(_kinds(get_type_hints(steps[-1])["return"]))
    return (
        problems if last == {Exit} else [*problems, f"{steps[-1].__name__} is the last step and does not return Exit"]
    )


def _kinds(annotation: Any) -> Iterator[type]:
    """The records that a return annotation speaks of: in a union, in a tuple, alone."""
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        for part in get_args(annotation):
            yield from _kinds(part)
    elif annotation is not type(None):
        yield annotation
