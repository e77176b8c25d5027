"""Whether a plan's steps can be carried out in their order: a saved plan may have been edited or shortened; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchskew.faults import FAULTS, parts
from torchskew.model.rehearsal import RehearsalSpec
from torchskew.workflows.rehearsal.planned import (
    Collective,
    Drain,
    Expect,
    Finalise,
    Finish,
    InjectFault,
    ReadCheckpoint,
    Rejoin,
    ReplaceNodes,
    StartJob,
    Step,
    Train,
)

NEEDS_JOB = (Train, InjectFault, Drain, Finish)


def first_problem(steps: Sequence[Step], spec: RehearsalSpec) -> str | None:
    """What prevents the first such step from being carried out; None when nothing does."""
    if not steps:
        return "it has no steps"
    cluster = _Cluster(versions=[spec.old.name] * spec.nodes)
    for step in steps:
        why = _malformed(step, spec) or cluster.carry_out(step)
        if why:
            return f"step {step.number} ({step.action.kind}): {why}"
    return None


def _malformed(step: Step, spec: RehearsalSpec) -> str | None:
    names, every = {spec.old.name, spec.new.name}, set(range(spec.nodes))
    action = step.action
    rules = (
        (
            len(step.versions) != spec.nodes or not set(step.versions) <= names,
            f"versions must name {' or '.join(sorted(names))} for each of {spec.nodes} nodes",
        ),
        (not set(step.nodes) <= every, f"nodes must be from 0 to {spec.nodes - 1}"),
        (isinstance(action, ReplaceNodes | ReadCheckpoint) and not step.nodes, "it names no node"),
        (isinstance(action, Collective | Rejoin) and set(action.order) != every, "order must hold every node"),
        (
            isinstance(action, InjectFault) and not set(parts(action.fault)) <= set(FAULTS),
            f"fault must be one of {', '.join(FAULTS)}",
        ),
    )
    return next((text for broken, text in rules if broken), None)


@dataclass(slots=True, kw_only=True)
class _Cluster:
    """What the steps so far leave: each node's version, whether the job runs, and how far it is."""

    versions: list[str]
    running: bool = False
    done: int = 0

    def carry_out(self, step: Step) -> str | None:
        """Simulate one more step; what it lacks, or None."""
        action = step.action
        if isinstance(action, ReplaceNodes):
            for node in action.nodes:
                self.versions[node] = step.versions[node]
        if not isinstance(action, Collective | Rejoin) and list(step.versions) != self.versions:
            return f"the nodes then run {', '.join(self.versions)}, not {', '.join(step.versions)}"
        if isinstance(action, NEEDS_JOB) is not self.running and not isinstance(action, Finalise):
            return "the job does not run then" if isinstance(action, NEEDS_JOB) else "the job still runs then"
        if step.training_step is not None and step.training_step < self.done:
            return f"the training is already past step {step.training_step}"
        self.done = step.training_step or self.done
        if isinstance(action, StartJob):
            self.running = action.expect is not Expect.REFUSE
        self.running = self.running and not isinstance(action, Drain | Finish)
        return None
