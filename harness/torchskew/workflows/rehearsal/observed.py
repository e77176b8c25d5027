"""The frozen records of what a rehearsal observed: generations of the job, the evidence of each step, the controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeAlias

from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Outcome
from torchskew.model.rehearsal import CheckpointFormat
from torchskew.workflows.rehearsal.planned import RehearsalPlan, StepKind


class State(StrEnum):
    """How a step ended; a step is skipped where an earlier one left nothing to do it with."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


# -- The training job


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a rank's step log. at: wall clock seconds; loss and norm exact, as floats."""

    rank: int
    step: int
    samples: tuple[int, ...]
    loss: float
    at: float
    hash: str | None = None
    norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A committed checkpoint: name, the step after which it was taken, hash of what it holds.

    by: the version of the rank that committed it, which wrote the plain file and the description of a distributed one.
    holds: the kinds of state that it holds, as the script says; empty: it says nothing.
    """

    name: str
    step: int
    hash: str | None = None
    at: float = 0.0
    by: str = ""
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A rank that loaded a checkpoint: which one, and the hash of what it then had."""

    rank: int
    checkpoint: str
    hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingDcp:
    """A rank that can't use torch.distributed.checkpoint. no_numpy: its environment lacks NumPy, not the release."""

    rank: int
    why: str
    no_numpy: bool


class EndKind(StrEnum):
    """How a generation of the job ended."""

    DRAINED = "drained"
    FINISHED = "finished"
    KILLED = "killed by a fault"
    REFUSED = "refused"
    STOPPED = "stopped, because it had to refuse"
    IGNORED_SIGTERM = "ignored SIGTERM"
    UNFINISHED = "did not finish"
    FAILED = "failed"


PLANNED_ENDS = (EndKind.DRAINED, EndKind.FINISHED, EndKind.KILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of a generation. ranks: those that ignored SIGTERM; detail: for a person, which ranks failed and how."""

    kind: EndKind
    ranks: tuple[int, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        if self.kind is EndKind.FAILED and self.detail:
            return self.detail
        who = f"rank {', '.join(map(str, self.ranks))} " if self.ranks else ""
        return who + str(self.kind) + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeUse:
    """The bridge of one start of the job. clients: era -> connections that spoke it; lost: why it ended too early."""

    clients: Mapping[str, int] = field(default_factory=dict)
    lost: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One start of the job on all nodes until its end. begun, ended: wall clock seconds.

    step: number of the plan's step that started it. resumed: the checkpoint it should load (None: a fresh start).
    outcomes: one per rank. missing_dcp: ranks that can't use torch.distributed.checkpoint although asked to.
    bridge: None where rank 0 hosted the store.
    """

    number: int
    step: int
    versions: tuple[str, ...]
    begun: float
    ended: float
    end: End
    resumed: Commit | None = None
    facts: tuple[RankFacts, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    lines: tuple[Line, ...] = ()
    commits: tuple[Commit, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    missing_dcp: tuple[MissingDcp, ...] = ()
    bridge: BridgeUse | None = None

    @property
    def mixed(self) -> bool:
        """Whether two releases ran side by side."""
        return len(set(self.versions)) > 1


# -- The evidence of each kind of step


class StartResult(StrEnum):
    """What a start of the job led to."""

    TRAINS = "trains"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAttempt:
    """One try to start the job. checkpoint: to be loaded (None: a fresh start); outcomes: by rank where it failed."""

    checkpoint: str | None
    formats: tuple[CheckpointFormat, ...]
    result: StartResult
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEvidence:
    """Every try to start the job, in order."""

    kind: ClassVar[StepKind] = StepKind.START
    attempts: tuple[StartAttempt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEvidence:
    """The training step that every rank has reached."""

    kind: ClassVar[StepKind] = StepKind.TRAIN
    reached: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A small all_reduce over all nodes beside the job. cases: how many were right; outcomes: where it went wrong."""

    healthy: bool
    cases: int | None = None
    outcomes: tuple[Outcome, ...] = ()

    def __str__(self) -> str:
        return "healthy" if self.healthy else f"all_reduce ended {', '.join(self.outcomes) or 'wrong'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEvidence:
    """Health before and after a fault, and what showed that it came and went; None: nothing did, or nobody asked."""

    kind: ClassVar[StepKind] = StepKind.FAULT
    before: Health | None = None
    observed: str | None = None
    healed: str | None = None
    after: Health | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceEvidence:
    """Node -> the version that its torch reports."""

    kind: ClassVar[StepKind] = StepKind.REPLACE
    torch: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatReading:
    """A checkpoint read in one format: the hash of what was read, or why not. missing: the release lacks the format.

    partial: the hash of what was read where what the checkpoint lacks was left out.
    """

    hash: str | None = None
    error: str | None = None
    missing: str | None = None
    partial: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A checkpoint that one node read alone. writer: who wrote it; written: its hash then; unchanged: its files.

    error: what the script's reader failed with, whatever the format. no_reader: why nothing of the script was called.
    """

    checkpoint: str
    by: str
    writer: str = ""
    written: str | None = None
    unchanged: bool | None = None
    formats: Mapping[str, FormatReading] = field(default_factory=dict)
    error: str | None = None
    no_reader: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEvidence:
    """What a newcomer read: the newest checkpoint, and the newest that its own release wrote."""

    kind: ClassVar[StepKind] = StepKind.READ
    newest: Reading | None = None
    kept: Reading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveEvidence:
    """An all_reduce over all nodes. cases: how many were compared; wrong: which were not right; the rest by rank.

    errors: each rank's error text; error_after: seconds from the start of the phase until the error.
    """

    kind: ClassVar[StepKind] = StepKind.COLLECTIVE
    outcomes: tuple[Outcome, ...] = ()
    wrong: tuple[str, ...] = ()
    cases: int | None = None
    seconds: float = 0.0
    errors: tuple[str | None, ...] = ()
    error_after: tuple[float | None, ...] = ()


Evidence: TypeAlias = (
    StartEvidence | TrainEvidence | FaultEvidence | ReplaceEvidence | ReadEvidence | CollectiveEvidence
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How one step of the plan ended. before, after: the version of each node.

    why: for a person. machine: the machine's error, where that ended the step. evidence: what its check observed.
    """

    number: int
    state: State
    seconds: float
    begun: float
    why: str = ""
    machine: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """A node's clock held against ours. It is off by no less than low and no more than high, in seconds."""

    node: int
    version: str
    low: float
    high: float


# -- The whole


class ControlKind(StrEnum):
    """The same job without an upgrade: on the old release, and on each release with the rehearsal's restarts."""

    OLD = "old"
    OLD_RESTARTED = "old restarted"
    NEW_RESTARTED = "new restarted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """What one seed gives on a release: name of a sampler or layer -> digest of the numbers that it draws."""

    samplers: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A control and the generation that it ran as. reading: its own release read its last checkpoint alone.

    draws: what one seed gives on its release.
    """

    name: ControlKind
    version: str
    generation: Generation
    reading: Reading | None = None
    draws: Draws | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything a rehearsal observed. reports: declared name -> the version that its torch reports.

    clocks: of nodes whose clocks are shifted. left_behind: what the cleanup could not remove; memory: kilobytes of a
    node, by declared name.
    """

    plan: RehearsalPlan
    results: tuple[StepResult, ...]
    generations: tuple[Generation, ...]
    controls: tuple[Control, ...]
    reports: Mapping[str, str] = field(default_factory=dict)
    left_behind: tuple[str, ...] = ()
    seconds: float = 0.0
    memory: Mapping[str, int] = field(default_factory=dict)
    clocks: tuple[ClockReading, ...] = ()
