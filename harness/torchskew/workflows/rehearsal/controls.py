"""Controls: the same job with the same seed and no upgrade, all its ranks in one warm node of one release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torchskew.workflows.rehearsal import logs
from torchskew.workflows.rehearsal.lineage import trace
from torchskew.workflows.rehearsal.model import Commit, Generation, Line
from torchskew.workflows.rehearsal.training import Training

# A control waits for nobody, so each of its steps takes milliseconds.
STEP_SECONDS = 0.2


def restarts(generations: Sequence[Generation]) -> tuple[int, ...]:
    """After which training steps the rehearsal's surviving generations began.

    A restart alone changes the last bits: DistributedDataParallel orders its buckets anew after a first step. So the
    controls that the loss is held against restart where the rehearsal did.
    """
    rows = trace(generations).rows.values()
    begun = {row.generation.resumed.step for row in rows if row.generation.resumed is not None}
    return tuple(sorted(begun))


def run(training: Training, version: str, name: str, points: Sequence[int] = ()) -> Generation:
    """The control's record. points: training steps after which it takes a checkpoint and starts again.

    Raises:
        MachineError: its node can't start.
    """
    place = f"-control-{name.replace(' ', '-')}"
    lines: list[Line] = []
    commit: Commit | None = None
    why = "finished"
    ends: list[int | None] = [*points, None]
    for part, point in enumerate(ends):
        generation = _part(training, version, (place, part, commit), point)
        lines += generation.lines
        commit = logs.newest(generation.commits) or commit
        if generation.why != "finished" or (point is not None and (commit is None or commit.step != point)):
            why = f"part {part + 1} of {len(ends)}: {generation.why}"
            break
    return replace(generation, lines=tuple(lines), why=why)


def _part(training: Training, version: str, start: tuple[str, int, Commit | None], point: int | None) -> Generation:
    """From a checkpoint (or nothing) through a step, or to the end."""
    place, part, commit = start
    spec, seat = training.spec, training.cluster.seat(0, version)
    limit = spec.timeout * 3 + STEP_SECONDS * spec.steps
    how = {"hold": "" if point is None else str(point), "formats": spec.formats, "pace": 0.0, "resume": commit}
    live = training.begin([seat] * spec.nodes, f"part-{part}", how, place)
    group = live.group
    if point is not None:
        group.wait(limit, lambda: group.least() >= point or len(group.open()) < len(group.members))
        group.signal("TERM")
    group.settle(limit if point is None else training.leave_seconds)
    finished = all(one.finished for one in group.facts())
    return training.keep(live, "finished" if finished else "it did not finish", place)
