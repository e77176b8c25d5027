"""Controls: the same job with the same seed and no upgrade, all its ranks in one warm node of one release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torchskew.workflows.rehearsal import step_log
from torchskew.workflows.rehearsal.contract import Launch
from torchskew.workflows.rehearsal.history import training_history
from torchskew.workflows.rehearsal.observed import Commit, ControlKind, End, EndKind, Generation, Line
from torchskew.workflows.rehearsal.training import Training

# A control waits for nobody, so each of its steps takes milliseconds.
STEP_SECONDS = 0.2
# Where each control keeps its checkpoints and logs.
FOLDERS = {
    ControlKind.OLD: "old",
    ControlKind.OLD_RESTARTED: "old-restarted",
    ControlKind.NEW_RESTARTED: "new-restarted",
}


def place(name: ControlKind) -> str:
    """What a control's folder has behind the name of the job's."""
    return f"-control-{FOLDERS[name]}"


def restarts(generations: Sequence[Generation]) -> tuple[int, ...]:
    """After which training steps the rehearsal's surviving generations began.

    A restart alone changes the last bits: DistributedDataParallel orders its buckets anew after a first step. So the
    controls that the loss is held against restart where the rehearsal did.
    """
    surviving = training_history(generations).steps.values()
    begun = {step.generation.resumed.step for step in surviving if step.generation.resumed is not None}
    return tuple(sorted(begun))


def run(training: Training, version: str, name: ControlKind, points: Sequence[int] = ()) -> Generation:
    """The control's record. points: training steps after which it takes a checkpoint and starts again.

    Raises:
        MachineError: its node can't start.
    """
    lines: list[Line] = []
    commit: Commit | None = None
    end = End(kind=EndKind.FINISHED)
    stops: list[int | None] = [*points, None]
    for part, point in enumerate(stops):
        launch = Launch(
            folder=f"part-{part}", hold=point, formats=training.spec.formats, resume=commit, pace=0.0,
            place=place(name),
        )  # fmt: skip
        generation = _part(training, version, launch)
        lines += generation.lines
        commit = step_log.newest(generation.commits) or commit
        incomplete = point is not None and (commit is None or commit.step != point)
        if generation.end.kind is not EndKind.FINISHED or incomplete:
            end = End(kind=EndKind.UNFINISHED, detail=f"part {part + 1} of {len(stops)}: {generation.end}")
            break
    return replace(generation, lines=tuple(lines), end=end)


def _part(training: Training, version: str, launch: Launch) -> Generation:
    """From a checkpoint (or a fresh start) through the step where it holds, or to the end."""
    spec, seat, point = training.spec, training.cluster.seat(0, version), launch.hold
    limit = spec.timeout * 3 + STEP_SECONDS * spec.training_steps
    live = training.begin([seat] * spec.nodes, launch)
    group = live.group
    if point is not None:
        group.wait_until(limit, lambda: group.common_step() >= point or group.any_ended)
        group.signal("TERM")
    group.end_within(limit if point is None else training.leave_seconds)
    finished = all(fact.finished for fact in group.facts())
    return training.recorded(live, End(kind=EndKind.FINISHED if finished else EndKind.UNFINISHED), launch.place)
