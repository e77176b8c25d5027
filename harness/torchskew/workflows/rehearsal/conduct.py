"""Conduct: carry out a plan's steps on a cluster; every step has a deadline and leaves evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from torchskew import faults
from torchskew.errors import HarnessError, MachineError
from torchskew.faults.together import Together
from torchskew.guard.table import parse
from torchskew.model.outcomes import Outcome
from torchskew.workflows.rehearsal import controls, fitness
from torchskew.workflows.rehearsal.causes import core
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.fault_target import NodeTarget
from torchskew.workflows.rehearsal.observed import (
    ClockReading,
    CollectiveEvidence,
    Control,
    ControlKind,
    End,
    EndKind,
    Evidence,
    FaultEvidence,
    Generation,
    Observation,
    ReadEvidence,
    Reading,
    ReplaceEvidence,
    StartEvidence,
    StartResult,
    State,
    StepResult,
    TrainEvidence,
)
from torchskew.workflows.rehearsal.planned import (
    Collective,
    Drain,
    Expect,
    Finalise,
    Finish,
    InjectFault,
    ReadCheckpoint,
    RehearsalPlan,
    Rejoin,
    ReplaceNodes,
    StageKind,
    StartJob,
    Step,
    Train,
    at_a_bridge,
    next_stop,
)
from torchskew.workflows.rehearsal.step_log import newest
from torchskew.workflows.rehearsal.training import Failed, Skipped, Training

Say = Callable[[str], None]
# How many steps ahead of the plan nodes are warmed up.
AHEAD = 12


class Conductor:
    """One rehearsal under way. Failed steps don't end it: what can still be learned is worth the time.

    A step's method yields its evidence as it gathers it; the last one yielded is recorded, however the step ends.
    """

    def __init__(self, plan: RehearsalPlan, cluster: Cluster, say: Say, *, controlled: bool = True) -> None:
        """The cluster's runtime is open. controlled: without controls, samples and loss stay UNKNOWN."""
        self.plan, self.cluster, self.say, self.controlled = plan, cluster, say, controlled
        self.training = Training(plan.spec, cluster)
        self.results: list[StepResult] = []
        self.controls: list[Control] = []
        self.reports: dict[str, str] = {}
        self.clocks: list[ClockReading] = []
        self.began = time.monotonic()

    def run(self) -> Observation:
        """A control, the plan's steps, then the controls that restart where the job did."""
        spec = self.plan.spec
        first = [(node, spec.old.name) for node in range(spec.nodes)]
        self.cluster.prefetch([*first, *self._ahead(0)])
        for node, version in first:
            self.reports[version] = self.cluster.replace(node, version)
        try:
            self._look_at_clocks(range(spec.nodes))
            self._control(ControlKind.OLD, spec.old.name)
            if self._unfit():
                return self.observation()
            for step in self.plan.steps:
                self._step(step)
                if step.stage.kind is StageKind.BEFORE and self._unfit():
                    return self.observation()
            points = controls.restarts(self.training.generations)
            self._control(ControlKind.OLD_RESTARTED, spec.old.name, points)
            self._control(ControlKind.NEW_RESTARTED, spec.new.name, points)
        finally:
            self.training.close()
        return self.observation()

    def _unfit(self) -> bool:
        """Whether the job does not run on the old release alone; the rest could say nothing about releases."""
        why = fitness.problem(self.observation())
        if why:
            self.say(f"stopped    the job does not run on {self.plan.spec.old.name}: {why}")
        return why is not None

    def observation(self) -> Observation:
        """Everything observed so far."""
        return Observation(
            plan=self.plan,
            results=tuple(self.results),
            generations=tuple(self.training.generations),
            controls=tuple(self.controls),
            reports=dict(self.reports),
            seconds=time.monotonic() - self.began,
            memory=dict(self.training.memory),
            clocks=tuple(self.clocks),
        )

    def _control(self, name: ControlKind, version: str, points: Sequence[int] = ()) -> None:
        if not self.controlled:
            return
        try:
            generation = controls.run(self.training, version, name, points)
            reading = self._own_reading(name, version, generation)
            draws = None if name is ControlKind.OLD_RESTARTED else self.training.draws(self.cluster.seat(0, version))
        except HarnessError as error:
            self.say(f"control    {name} ({version}) could not run: {error}")
            return
        self.controls.append(Control(name=name, version=version, generation=generation, reading=reading, draws=draws))
        self.say(f"control    {name} ({version}): {generation.end}")

    def _look_at_clocks(self, nodes: Iterable[int]) -> None:
        """What these nodes take for the time of day, where the plan shifts it."""
        if self.plan.clock_offsets:
            self.clocks += [self.training.clock(self.cluster.seat(node)) for node in nodes]

    def _own_reading(self, name: ControlKind, version: str, generation: Generation) -> Reading | None:
        """The old release reads its own checkpoint: a reader that can't is no fault of the new one."""
        commit = newest(generation.commits)
        if name is not ControlKind.OLD or commit is None:
            return None
        return self.training.read(self.cluster.seat(0, version), commit, controls.place(name))

    def _ahead(self, at: int) -> list[tuple[int, str]]:
        """The nodes that the next steps need, as they need them."""
        return _needed(self.plan.steps[at : at + AHEAD])

    def _step(self, step: Step) -> None:
        # The old release is needed once more at the end, for its control.
        later = [*_needed(self.plan.steps[step.number :]), (0, self.plan.spec.old.name)]
        self.cluster.prefetch(self._ahead(step.number - 1), later)
        begun, clock, before = time.time(), time.monotonic(), self.cluster.versions()
        self.training.deadline = clock + step.deadline
        self.training.bridged = at_a_bridge(step, self.plan.spec)
        evidence: Evidence | None = None
        state, why, machine = State.DONE, "", None
        try:
            for evidence in self._carry_out(step):  # noqa: B007 - the last one is recorded
                pass
        except Failed as error:
            state, why = State.FAILED, str(error)
        except Skipped as error:
            state, why = State.SKIPPED, str(error)
        except HarnessError as error:
            state, machine = State.FAILED, str(error)
            why = f"the machine failed: {error}"
        seconds = time.monotonic() - clock
        if state is State.DONE and seconds > step.deadline:
            state, why = State.FAILED, f"took {seconds:.0f} s of {step.deadline:.0f} s allowed"
        result = StepResult(
            number=step.number, state=state, seconds=seconds, begun=begun, why=why, machine=machine, before=before,
            after=self.cluster.versions(), evidence=evidence,
        )  # fmt: skip
        self.results.append(result)
        self.say(_progress(step, result))

    def _carry_out(self, step: Step) -> Iterator[Evidence]:  # noqa: C901 - one case per kind of step
        match step.action:
            case StartJob() as start:
                yield from self.start(step, start)
            case Train() as train:
                yield from self.train(train)
            case InjectFault() as fault:
                yield from self.fault(step, fault)
            case Drain():
                self.drain()
            case ReplaceNodes() as replacement:
                yield from self.replace(step, replacement)
            case ReadCheckpoint() as reading:
                yield from self.read(step, reading)
            case Collective() as collective:
                yield from self.collective(step, collective)
            case Rejoin() as rejoin:
                yield from self.collective(step, Collective(order=rejoin.order, expect=Expect.REFUSE))
            case Finalise():
                self.training.guard = "exact"
            case Finish() as finish:
                yield from self.finish(finish)

    # -- what each kind of step does

    def start(self, step: Step, start: StartJob) -> Iterator[StartEvidence]:
        """The job starts, or refuses, as the plan expects."""
        refuse = start.expect is Expect.REFUSE
        evidence = StartEvidence()
        yield evidence
        for attempt in self.training.starts(step, None if refuse else next_stop(self.plan.steps[step.number :])):
            evidence = StartEvidence(attempts=(*evidence.attempts, attempt))
            yield evidence
        refused = evidence.attempts[-1].result is StartResult.REFUSED
        if refuse and not refused:
            self.training.end(End(kind=EndKind.STOPPED), kill=True)
            raise Failed("mixed silently: the job trains where every rank had to refuse")
        if start.expect is Expect.TRAIN and refused:
            raise Failed("every rank refused where the job had to train")

    def train(self, train: Train) -> Iterator[TrainEvidence]:
        """The job reaches a training step, and waits there."""
        self.training.advance(train.until)
        yield TrainEvidence(reached=self.training.least())

    def fault(self, step: Step, action: InjectFault) -> Iterator[FaultEvidence]:
        """Healthy, inject, observe, heal, observe, healthy."""
        if self.training.live is None:
            raise Skipped("the job does not run")
        until = next_stop(self.plan.steps[step.number :])
        targets = [
            (faults.fault(name), NodeTarget(self.training, self.cluster, node, until))
            for name, node in action.hits(self.plan.spec.nodes)
        ]
        several = Together(targets)
        before, observed = self.training.healthy(), None
        yield FaultEvidence(before=before)
        begun = time.monotonic()
        try:  # a fault that was injected half-way is undone as well
            several.inject(action.seconds)
            self.training.release(until)
            observed = several.observed(action.seconds)
            yield FaultEvidence(before=before, observed=observed)
        finally:
            several.heal()
            held = time.monotonic() - begun
        healed = several.healed(self.plan.spec.timeout)
        outlasted = healed is None and held > self.plan.spec.patience and self.training.died_of_a_fault()
        yield FaultEvidence(before=before, observed=observed, healed=healed)
        after = self.training.healthy()
        yield FaultEvidence(before=before, observed=observed, healed=healed, after=after)
        if outlasted:
            limit = f"the job's own timeout is {self.plan.spec.timeout:g} s"
            raise MachineError(f"{action.fault} held for {held:.1f} s where {limit}, so its end is no release's fault")
        if observed is None:
            raise Failed(f"nothing shows that {action.fault} happened")
        if healed is None:
            raise Failed(f"nothing shows that {action.fault} healed")

    def drain(self) -> None:
        """Every rank takes its checkpoint and leaves."""
        if self.training.live is None:
            raise Skipped("the job does not run")
        self.training.drain()

    def replace(self, step: Step, action: ReplaceNodes) -> Iterator[ReplaceEvidence]:
        """Other releases on some nodes; each reports what it is."""
        reported: dict[int, str] = {}
        for node in action.nodes:
            version = step.versions[node]
            reported[node] = self.reports[version] = self.cluster.replace(node, version)
            yield ReplaceEvidence(torch=dict(reported))
        self._look_at_clocks(action.nodes)
        release = {release.name: release.torch for release in (self.plan.spec.old, self.plan.spec.new)}
        for node, torch in reported.items():
            declared = release[step.versions[node]]
            if declared and parse(declared) != parse(torch):
                raise Failed(f"node {node} reports torch {torch}, declared is {declared}")

    def read(self, step: Step, action: ReadCheckpoint) -> Iterator[ReadEvidence]:
        """A newcomer reads the newest checkpoint, and the newest one that its own release alone wrote."""
        commit, own = self.training.newest(), self.training.newest_by(step.versions[action.node])
        if commit is None:
            raise Skipped("no checkpoint is committed yet")
        seat = self.cluster.seat(action.node)
        last = self.training.read(seat, commit)
        yield ReadEvidence(newest=last)
        kept = self.training.read(seat, own) if own is not None else None
        yield ReadEvidence(newest=last, kept=kept)
        if errors := [text for reading in (last, kept) if reading for text in _reading_errors(reading)]:
            raise Failed("; ".join(errors))

    def collective(self, step: Step, action: Collective) -> Iterator[CollectiveEvidence]:
        """A collective over all nodes in the given order, right or refused as the plan expects."""
        evidence = self.training.collective(action.order, step.versions)
        yield evidence
        outcomes = set(evidence.outcomes)
        if action.expect is Expect.REFUSE and outcomes != {Outcome.CLEAR}:
            raise Failed(f"every rank had to refuse: {', '.join(evidence.outcomes)}")
        if action.expect is Expect.TRAIN and (outcomes != {Outcome.OK} or evidence.wrong):
            raise Failed(f"all_reduce: {_collective_text(evidence)}")
        if action.expect is Expect.EITHER and outcomes not in ({Outcome.OK}, {Outcome.CLEAR}):
            raise Failed(f"neither right nor refused: {_collective_text(evidence)}")

    def finish(self, action: Finish) -> Iterator[TrainEvidence]:
        """The job trains to its last step and ends by itself."""
        self.training.finish(action.until)
        yield TrainEvidence(reached=action.until)


def _needed(steps: Sequence[Step]) -> list[tuple[int, str]]:
    """(node, version) of every node that these steps replace or bring back."""
    return [
        (node, step.versions[node])
        for step in steps
        if isinstance(step.action, ReplaceNodes | Rejoin)
        for node in step.nodes
    ]


def _reading_errors(reading: Reading) -> list[str]:
    errors: Mapping[str, str] = {name: read.error for name, read in reading.formats.items() if read.error is not None}
    whole = [f"{reading.checkpoint}: {core(reading.error)}"] if reading.error is not None else []
    return [*whole, *(f"{reading.checkpoint} as {name}: {core(error)}" for name, error in errors.items())]


def _collective_text(evidence: CollectiveEvidence) -> str:
    wrong = f"; wrong: {', '.join(evidence.wrong)}" if evidence.wrong else ""
    return ", ".join(evidence.outcomes) + wrong


def _progress(step: Step, result: StepResult) -> str:
    """A line for the person who watches."""
    fault = f" {step.action.fault}" if isinstance(step.action, InjectFault) else ""
    line = f"{step.number:>4}  {result.state:<7} {result.seconds:5.1f} s  {step.action.kind}{fault} {result.why[:160]}"
    return line.rstrip()
