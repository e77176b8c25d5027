"""Whether a plan's steps can be carried out in their order: a saved plan may have been edited or shortened; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchskew.faults import FAULTS
from torchskew.workflows.rehearsal.model import Do, Expect, Spec, Step

WORKS = (Do.TRAIN, Do.FAULT, Do.DRAIN, Do.FINISH)


def flaw(steps: Sequence[Step], spec: Spec) -> str | None:
    """What keeps the first such step from being carried out, in words; None when nothing does."""
    if not steps:
        return "it has no steps"
    walk = _Walk(versions=[spec.old.name] * spec.nodes)
    for step in steps:
        why = _malformed(step, spec) or walk.take(step)
        if why:
            return f"step {step.number} ({step.do}): {why}"
    return None


def _malformed(step: Step, spec: Spec) -> str | None:
    names, every = {spec.old.name, spec.new.name}, set(range(spec.nodes))
    strange = len(step.versions) != spec.nodes or not set(step.versions) <= names
    rules = (
        (strange, f"versions must name {' or '.join(sorted(names))} for each of {spec.nodes} nodes"),
        (not set(step.nodes) <= every, f"nodes must be from 0 to {spec.nodes - 1}"),
        (step.do in (Do.CHANGE, Do.READ, Do.FAULT) and not step.nodes, "it names no node"),
        (step.do is Do.PROBE and set(step.order) != every, "order must hold every node"),
        (step.do is Do.FAULT and step.fault not in FAULTS, f"fault must be one of {', '.join(FAULTS)}"),
        (step.do is Do.FAULT and step.lasts is None, "lasts is missing"),
        (step.do in (Do.TRAIN, Do.FINISH) and step.until is None, "until is missing"),
    )
    return next((text for broken, text in rules if broken), None)


@dataclass(slots=True, kw_only=True)
class _Walk:
    """What the steps so far leave: each node's version, whether the job runs, and how far it is."""

    versions: list[str]
    running: bool = False
    done: int = 0

    def take(self, step: Step) -> str | None:
        """Carry out one more step in thought; what it lacks, or None."""
        if step.do is Do.CHANGE:
            for node in step.nodes:
                self.versions[node] = step.versions[node]
        if step.do is not Do.PROBE and list(step.versions) != self.versions:
            return f"the nodes run {', '.join(self.versions)} then, not {', '.join(step.versions)}"
        if (step.do in WORKS) is not self.running and step.do is not Do.FINALISE:
            return "the job does not run then" if step.do in WORKS else "the job still runs then"
        if step.until is not None and step.until < self.done:
            return f"step {step.until} of the training lies behind it"
        self.done = step.until or self.done
        if step.do is Do.START:
            self.running = step.expect is not Expect.REFUSE
        self.running = self.running and step.do not in (Do.DRAIN, Do.FINISH)
        return None
