"""The frozen records of a plan: stages, what each step does, and what was predicted of mixed groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeAlias

from torchskew import faults
from torchskew.model.rehearsal import RehearsalSpec

# What a plan calls clocks that differ, beside the names of faults.
CLOCK_SKEW = "clock skew"
# Seconds that the three controls of a rehearsal take together.
CONTROLS_SECONDS = 8.0


class Expect(StrEnum):
    """What a group must do: train, refuse clearly, or (where nothing predicts it) either."""

    TRAIN = "train"
    REFUSE = "refuse"
    EITHER = "either"


class StageKind(StrEnum):
    """Which part of the upgrade a stage is."""

    BEFORE = "before"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    UPGRADE_AGAIN = "upgrade again"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a plan. version: the release that nodes run or move to; replaced: replacements so far, of all."""

    kind: StageKind
    version: str
    replaced: int = 0
    of: int = 0

    def __str__(self) -> str:
        texts = {
            StageKind.BEFORE: f"before: all on {self.version}",
            StageKind.UPGRADE: f"upgrade {self.replaced} of {self.of}",
            StageKind.ROLLBACK: f"rollback after {self.replaced} of {self.of}",
            StageKind.UPGRADE_AGAIN: f"upgrade again to {self.replaced} of {self.of}",
            StageKind.AFTER: f"after: finalised on {self.version}",
        }
        return texts[self.kind]


class StepKind(StrEnum):
    """What a step of a plan does. docs/rehearsal.md explains each to an operator."""

    START = "start"
    TRAIN = "train"
    FAULT = "fault"
    DRAIN = "drain"
    REPLACE = "replace"
    READ = "read"
    COLLECTIVE = "collective"
    FINALISE = "finalise"
    REJOIN = "rejoin"
    FINISH = "finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartJob:
    """Start the job on all nodes from its last checkpoint."""

    kind: ClassVar[StepKind] = StepKind.START
    expect: Expect


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Train through a training step, and wait there."""

    kind: ClassVar[StepKind] = StepKind.TRAIN
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectFault:
    """Inject a fault into one node while the job waits at a training step; heal it after so many seconds.

    fault: its name, or several like `pause+loss`, which hit this node and the following ones at once.
    """

    kind: ClassVar[StepKind] = StepKind.FAULT
    fault: str
    node: int
    seconds: float
    at: int

    def hits(self, nodes: int) -> tuple[tuple[str, int], ...]:
        """Each fault with its node, of so many nodes."""
        return tuple((name, (self.node + index) % nodes) for index, name in enumerate(faults.parts(self.fault)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Ask every rank to take a checkpoint and leave. nodes: those that are replaced next."""

    kind: ClassVar[StepKind] = StepKind.DRAIN
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceNodes:
    """Start these nodes with the release that the step's versions name."""

    kind: ClassVar[StepKind] = StepKind.REPLACE
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCheckpoint:
    """One node reads the newest checkpoint alone, and the newest one that its own release wrote."""

    kind: ClassVar[StepKind] = StepKind.READ
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """Run all_reduce over all nodes. order: the nodes by rank; the first hosts the store."""

    kind: ClassVar[StepKind] = StepKind.COLLECTIVE
    order: tuple[int, ...]
    expect: Expect


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalise:
    """From here on the guard admits one build only."""

    kind: ClassVar[StepKind] = StepKind.FINALISE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoin:
    """After finalise a node comes back with the old release, and must be refused."""

    kind: ClassVar[StepKind] = StepKind.REJOIN
    node: int
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Train through the last training step; the job ends by itself."""

    kind: ClassVar[StepKind] = StepKind.FINISH
    until: int


Action: TypeAlias = (
    StartJob | Train | InjectFault | Drain | ReplaceNodes | ReadCheckpoint | Collective | Finalise | Rejoin | Finish
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One numbered step. versions: the declared version of each node once it is done; deadline, estimate: seconds."""

    number: int
    stage: Stage
    action: Action
    versions: tuple[str, ...]
    deadline: float
    estimate: float

    @property
    def mixed(self) -> bool:
        """Whether two releases run side by side."""
        return len(set(self.versions)) > 1

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes that the step touches."""
        match self.action:
            case Drain(nodes=nodes) | ReplaceNodes(nodes=nodes):
                return nodes
            case InjectFault() as fault:
                return tuple(node for _, node in fault.hits(len(self.versions)))
            case ReadCheckpoint(node=node) | Rejoin(node=node):
                return (node,)
            case _:
                return ()

    @property
    def training_step(self) -> int | None:
        """The training step that the job is at once this step is done; None where the step does not train."""
        match self.action:
            case Train(until=at) | Finish(until=at) | InjectFault(at=at):
                return at
            case _:
                return None


class PredictionKind(StrEnum):
    """What the table of eras can tell about a plan."""

    GROUP = "group"
    UNREADABLE = "unreadable"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPrediction:
    """What the table of eras expects of a stage's mixed group."""

    kind: ClassVar[PredictionKind] = PredictionKind.GROUP
    stage: Stage
    versions: tuple[str, ...]
    expect: Expect


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadablePrediction:
    """That the old release can't read the DCP checkpoints of the new one, so that rolling back needs an older one."""

    kind: ClassVar[PredictionKind] = PredictionKind.UNREADABLE
    reader: str
    writer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeProposal:
    """That strategy `bridged` avoids the refusals that the plan expects. groups: how many of its stages refuse."""

    kind: ClassVar[PredictionKind] = PredictionKind.BRIDGE
    groups: int


Prediction: TypeAlias = GroupPrediction | UnreadablePrediction | BridgeProposal


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalPlan:
    """A whole plan. unsupported: fault -> why this runtime can't inject it.

    clock_offsets: by how many seconds each node's clock is off; empty where all are right.
    """

    spec: RehearsalSpec
    steps: tuple[Step, ...]
    unsupported: Mapping[str, str] = field(default_factory=dict)
    predictions: tuple[Prediction, ...] = ()
    clock_offsets: tuple[float, ...] = ()
    digest: str = ""

    @property
    def estimate(self) -> float:
        """Seconds that the steps and the controls should take once the nodes are up."""
        return CONTROLS_SECONDS + sum(step.estimate for step in self.steps)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage, in order."""
        return tuple(dict.fromkeys(step.stage for step in self.steps))


def at_a_bridge(step: Step, spec: RehearsalSpec) -> bool:
    """Whether the ranks of this step meet at a bridge; once all run one release, rank 0 hosts their store again."""
    return spec.strategy.bridged and step.stage.kind is not StageKind.AFTER


def next_stop(steps: Sequence[Step]) -> int | None:
    """The training step at which the job waits next; None where it trains to its end."""
    for step in steps:
        if isinstance(step.action, Train):
            return step.action.until
        if isinstance(step.action, Finish):
            return None
    return None
