"""Conduct: carry out a plan's steps on a cluster; every step has a deadline and leaves evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torchskew import faults
from torchskew.errors import HarnessError
from torchskew.guard.table import parse
from torchskew.model.outcomes import Json, Outcome
from torchskew.workflows.rehearsal import controls, logs
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.model import Control, Do, Expect, Observed, Rehearsal, State, Step, StepResult
from torchskew.workflows.rehearsal.target import NodeTarget
from torchskew.workflows.rehearsal.training import Failed, Skipped, Training

Say = Callable[[str], None]
# How far ahead of the plan nodes are warmed up.
AHEAD = 12


class Conductor:
    """One rehearsal under way. Failed steps don't end it: what still can be learned is worth the time."""

    def __init__(self, plan: Rehearsal, cluster: Cluster, say: Say, *, controlled: bool = True) -> None:
        """The cluster's runtime is open. controlled: without controls, samples and loss stay UNKNOWN."""
        self.plan, self.cluster, self.say, self.controlled = plan, cluster, say, controlled
        self.training = Training(plan.spec, cluster)
        self.results: list[StepResult] = []
        self.controls: list[Control] = []
        self.reports: dict[str, str] = {}
        self.began = time.monotonic()

    def run(self) -> Observed:
        """A control, the plan's steps, the controls that restart where the job did; everything that was seen."""
        spec = self.plan.spec
        first = [(node, spec.old.name) for node in range(spec.nodes)]
        self.cluster.prefetch([*first, *self._ahead(0)])
        for node, version in first:
            self.reports[version] = self.cluster.replace(node, version)
        try:
            self._control("old", spec.old.name)
            for step in self.plan.steps:
                self._step(step)
            points = controls.restarts(self.training.generations)
            self._control("old restarted", spec.old.name, points)
            self._control("new restarted", spec.new.name, points)
        finally:
            self.training.close()
        return self.seen()

    def seen(self) -> Observed:
        """Everything that was seen until now."""
        return Observed(
            plan=self.plan,
            results=tuple(self.results),
            generations=tuple(self.training.generations),
            controls=tuple(self.controls),
            reports=dict(self.reports),
            seconds=time.monotonic() - self.began,
            memory=dict(self.training.memory),
        )

    def _control(self, name: str, version: str, points: Sequence[int] = ()) -> None:
        if not self.controlled:
            return
        try:
            generation = controls.run(self.training, version, name, points)
        except HarnessError as error:
            self.say(f"control    {name} ({version}) could not run: {error}")
            return
        self.controls.append(Control(name=name, version=version, generation=generation))
        self.say(f"control    {name} ({version}): {generation.why}")

    def _ahead(self, at: int) -> list[tuple[int, str]]:
        """The nodes that the next steps need, as they need them."""
        return _needed(self.plan.steps[at : at + AHEAD])

    def _step(self, step: Step) -> None:
        # The old release is wanted once more in the end, for its control.
        later = [*_needed(self.plan.steps[step.number :]), (0, self.plan.spec.old.name)]
        self.cluster.prefetch(self._ahead(step.number - 1), later)
        begun, clock, before = time.time(), time.monotonic(), self.cluster.versions()
        evidence: dict[str, Json] = {}
        state, why = State.DONE, ""
        self.training.deadline = clock + step.deadline
        try:
            HANDLERS[step.do](self, step, evidence)
        except Failed as error:
            state, why = State.FAILED, str(error)
        except Skipped as error:
            state, why = State.SKIPPED, str(error)
        except HarnessError as error:
            state, why = State.FAILED, f"the machine failed: {error}"
            evidence["machine"] = str(error)
        seconds = time.monotonic() - clock
        if state is State.DONE and seconds > step.deadline:
            state, why = State.FAILED, f"took {seconds:.0f} s of {step.deadline:.0f} s allowed"
        result = StepResult(
            number=step.number, state=state, seconds=seconds, begun=begun, why=why, before=before,
            after=self.cluster.versions(), evidence=evidence,
        )  # fmt: skip
        self.results.append(result)
        self.say(f"{step.number:>4}  {state:<7} {seconds:5.1f} s  {step.do} {step.fault or ''} {why[:160]}".rstrip())

    # -- what each kind of step does

    def start(self, step: Step, evidence: dict[str, Json]) -> None:
        """The job comes up, or refuses, as the plan expects."""
        outcome = self.training.start(step, evidence)
        if step.expect is Expect.REFUSE and outcome != "refused":
            self.training.end("stopped: it was to refuse", kill=True)
            raise Failed("mixed silently: the job trains where every rank was to refuse")
        if step.expect is Expect.TRAIN and outcome == "refused":
            raise Failed("every rank refused where the job was to train")

    def train(self, step: Step, evidence: dict[str, Json]) -> None:
        """The job reaches a step, and waits there."""
        self.training.advance(step.until)
        evidence["reached"] = self.training.least()

    def fault(self, step: Step, evidence: dict[str, Json]) -> None:
        """Healthy, inject, observe, heal, observe, healthy."""
        if self.training.live is None:
            raise Skipped("the job does not run")
        fault = faults.fault(step.fault or "")
        lasts = step.lasts or 0.0
        target = NodeTarget(self.training, self.cluster, step.nodes[0], self._next_until(step))
        evidence["before"] = self.training.healthy()
        try:  # a fault that came half-way is undone as well
            fault.inject(target)
            target.release()
            evidence["observed"] = fault.observed(target, lasts)
        finally:
            fault.heal(target)
        evidence["healed"] = fault.healed(target, self.plan.spec.timeout)
        evidence["after"] = self.training.healthy()
        if evidence["observed"] is None:
            raise Failed(f"nothing shows that {fault.name} happened")
        if evidence["healed"] is None:
            raise Failed(f"nothing shows that {fault.name} healed")

    def _next_until(self, step: Step) -> int | None:
        after = next(one for one in self.plan.steps[step.number :] if one.do in (Do.TRAIN, Do.FINISH))
        return after.until if after.do is Do.TRAIN else None

    def drain(self, step: Step, evidence: dict[str, Json]) -> None:
        """Every rank takes its checkpoint and leaves."""
        if self.training.live is None:
            raise Skipped("the job does not run")
        evidence["nodes"] = list(step.nodes)
        self.training.drain()

    def change(self, step: Step, evidence: dict[str, Json]) -> None:
        """Other releases on some nodes; each says what it is."""
        said: dict[str, Json] = {}
        for node in step.nodes:
            version = step.versions[node]
            said[str(node)] = self.reports[version] = self.cluster.replace(node, version)
        evidence["torch"] = said
        release = {one.name: one.torch for one in (self.plan.spec.old, self.plan.spec.new)}
        for name, torch in said.items():
            declared = release[step.versions[int(name)]]
            if declared and parse(declared) != parse(str(torch)):
                raise Failed(f"node {name} reports torch {torch}, declared is {declared}")

    def read(self, step: Step, evidence: dict[str, Json]) -> None:
        """A newcomer reads the newest checkpoint, and the newest one that its own release alone wrote."""
        newest, own = self.training.newest(), self.training.newest_by(step.versions[step.nodes[0]])
        if newest is None:
            raise Skipped("no checkpoint is committed yet")
        bad = []
        for what, commit in (("newest", newest), ("kept", own)):
            if commit is not None:
                told = self.training.read(step.nodes[0], commit)
                evidence[what] = told
                errors = {one: got["error"] for one, got in told["formats"].items() if "error" in got}
                bad += [f"{commit.name} as {one}: {logs.core(error)}" for one, error in errors.items()]
        if bad:
            raise Failed("; ".join(bad))

    def probe(self, step: Step, evidence: dict[str, Json]) -> None:
        """A collective over all nodes in the given order, right or refused as the plan expects."""
        outcomes, told = self.training.probe(step)
        evidence.update(told)
        kinds = set(outcomes)
        if step.expect is Expect.REFUSE and kinds != {Outcome.CLEAR}:
            raise Failed(f"was to be refused on every rank: {', '.join(outcomes)}")
        if step.expect is Expect.TRAIN and (kinds != {Outcome.OK} or told.get("wrong")):
            raise Failed(f"all_reduce: {', '.join(outcomes)}{_wrong(told)}")
        if step.expect is Expect.EITHER and kinds not in ({Outcome.OK}, {Outcome.CLEAR}):
            raise Failed(f"neither right nor refused: {', '.join(outcomes)}{_wrong(told)}")

    def finalise(self, step: Step, evidence: dict[str, Json]) -> None:
        """From here on the guard admits exactly one build."""
        del step
        self.training.guard = "exact"
        evidence["guard"] = self.training.guard

    def finish(self, step: Step, evidence: dict[str, Json]) -> None:
        """The job trains to its last step and ends by itself."""
        self.training.finish(step.until)
        evidence["reached"] = step.until


def _needed(steps: Sequence[Step]) -> list[tuple[int, str]]:
    return [(node, step.versions[node]) for step in steps if step.do in (Do.CHANGE, Do.PROBE) for node in step.nodes]


def _wrong(told: Mapping[str, Any]) -> str:
    return f"; wrong: {', '.join(told['wrong'])}" if told.get("wrong") else ""


HANDLERS: dict[Do, Callable[[Conductor, Step, dict[str, Json]], None]] = {
    Do.START: Conductor.start,
    Do.TRAIN: Conductor.train,
    Do.FAULT: Conductor.fault,
    Do.DRAIN: Conductor.drain,
    Do.CHANGE: Conductor.change,
    Do.READ: Conductor.read,
    Do.PROBE: Conductor.probe,
    Do.FINALISE: Conductor.finalise,
    Do.FINISH: Conductor.finish,
}


def left_over(observed: Observed, lines: tuple[str, ...]) -> Observed:
    """The same with what the cleanup found."""
    return replace(observed, left=lines)
