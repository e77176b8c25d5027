"""Which training steps count: generations laid over each other, what was redone, and what does not add up; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from torchskew.workflows.rehearsal.model import Generation, Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One surviving training step: the generation that did it last, and each rank's line."""

    step: int
    generation: Generation
    lines: Mapping[int, Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redo:
    """Steps that a generation did again because it took up an older checkpoint."""

    generation: Generation
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """rows: by training step. problems: (plan step, in words) of what no resumable training does."""

    rows: Mapping[int, Row] = field(default_factory=dict)
    redone: tuple[Redo, ...] = ()
    problems: tuple[tuple[int, str], ...] = ()


def trace(generations: Iterable[Generation]) -> Lineage:
    """Follow the generations in their order; a later one replaces every step after the checkpoint it took up."""
    rows: dict[int, Row] = {}
    redone: list[Redo] = []
    problems: list[tuple[int, str]] = []
    for generation in generations:
        if not generation.lines:
            continue
        taken = generation.resumed.step if generation.resumed else 0
        again = [step for step in rows if step > taken]
        if again:
            redone.append(Redo(generation=generation, first=taken + 1, count=len(again)))
        rows = {step: row for step, row in rows.items() if step <= taken}
        problems += [(generation.step, text) for text in _gaps(generation, taken)]
        for step in sorted({line.step for line in generation.lines}):
            lines = {line.rank: line for line in generation.lines if line.step == step}
            rows[step] = Row(step=step, generation=generation, lines=lines)
    return Lineage(rows=rows, redone=tuple(redone), problems=tuple(problems))


def _gaps(generation: Generation, taken: int) -> list[str]:
    """Where a rank's own steps are not taken + 1, taken + 2, …, once each."""
    found = []
    for rank in range(len(generation.versions)):
        expected = taken + 1
        for line in (line for line in generation.lines if line.rank == rank):
            if line.step != expected:
                word = "again" if line.step < expected else "too early"
                where = f"generation {generation.number}, rank {rank}"
                found.append(f"{where}: step {line.step} {word}, where {expected} was next")
                break
            expected += 1
    return found


def idle(generations: Iterable[Generation], longest: float) -> float:
    """Seconds without a completed step, counting only waits longer than `longest` seconds."""
    times = sorted(line.at for generation in generations for line in generation.lines)
    waits = [later - earlier for earlier, later in pairwise(times)]
    return sum(wait for wait in waits if wait > longest)
