"""What a rehearsal is asked to do: the two releases, the strategy and policy, faults, rollback and the training job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Fewest and most nodes of a rehearsal, which all run on one machine.
NODES = (2, 16)


class CheckpointFormat(StrEnum):
    """How the training job writes a checkpoint: torch.distributed.checkpoint, or one torch.save file.

    PARTIAL: written as DCP, loaded with `allow_partial_load`: what a checkpoint lacks keeps its fresh value.
    """

    DCP = "dcp"
    PARTIAL = "dcp-partial"
    PLAIN = "plain"

    @property
    def distributed(self) -> bool:
        """Whether torch.distributed.checkpoint writes it."""
        return self is not CheckpointFormat.PLAIN


class StateKind(StrEnum):
    """What a training run may have to bring back. A script names what its checkpoints hold; docs/rehearsal.md."""

    MODEL = "model"
    OPTIMIZER = "optimizer"
    SCHEDULER = "scheduler"
    STEP = "step"
    LOADER = "loader"
    GENERATORS = "generators"
    SCALER = "scaler"
    AVERAGES = "averages"


class MixedPolicy(StrEnum):
    """What a mixed group must do; `auto` follows the table of eras."""

    INTEROPERATE = "interoperate"
    REFUSE = "refuse"
    AUTO = "auto"


class StrategyKind(StrEnum):
    """Which nodes are replaced together, and in which order."""

    ROLLING = "rolling"
    STOP_THE_WORLD = "stop-the-world"
    HOST_FIRST = "host-first"
    HOST_LAST = "host-last"
    GROUP = "group"
    BRIDGED = "bridged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A strategy. size: nodes replaced at a time, which only `group:N` sets."""

    kind: StrategyKind
    size: int = 1

    def __str__(self) -> str:
        return f"{self.kind}:{self.size}" if self.kind is StrategyKind.GROUP else str(self.kind)

    @property
    def bridged(self) -> bool:
        """Whether the job meets at a bridge instead of at rank 0, until the upgrade is finalised."""
        return self.kind is StrategyKind.BRIDGED

    def nodes_at_once(self, nodes: int) -> int:
        """How many of the cluster's nodes are replaced together."""
        return nodes if self.kind is StrategyKind.STOP_THE_WORLD else self.size

    def replacements(self, nodes: int) -> int:
        """How many replacements upgrade the whole cluster."""
        return -(-nodes // max(1, self.nodes_at_once(nodes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Roll back after these replacements; with none listed the seed chooses one, and the last is added."""

    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A user's own training script: its file's name and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredRelease:
    """A declared version by name, and the torch release it should be (None: unknown until it runs)."""

    name: str
    torch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalSpec:
    """One rehearsal. Nothing has a default, so that a saved plan states everything; what came later is off by default.

    training_steps: of the whole job; checkpoint_every: training steps between two checkpoints. timeout: seconds given
    to the process group. pace: shortest training step in seconds, so that faults and drains hit a job at work.
    formats: checkpoint formats that the job writes. clock_skew: seconds by which a node's clock is off at most.
    """

    old: DeclaredRelease
    new: DeclaredRelease
    nodes: int
    strategy: Strategy
    policy: MixedPolicy
    faults: tuple[str, ...]
    training_steps: int
    checkpoint_every: int
    seed: int
    rollback: Rollback | None
    runtime: str
    timeout: float
    pace: float
    formats: tuple[CheckpointFormat, ...]
    script: Script | None
    clock_skew: float = 0.0

    @property
    def patience(self) -> float:
        """How long a fault may hold, in seconds: TCP may take as long again until the job goes on."""
        return self.timeout / 2
