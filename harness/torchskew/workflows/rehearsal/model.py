"""The frozen records of a rehearsal: what was asked, the plan's steps, and what each step and rank did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torchskew.model.facts import RankFacts
from torchskew.model.outcomes import Json, Outcome, Verdict

# Seconds that the three controls of a rehearsal take together.
CONTROLS = 8.0


class Do(StrEnum):
    """What a step of a plan does. docs/rehearsal.md explains each to an operator."""

    START = "start"
    TRAIN = "train"
    FAULT = "fault"
    DRAIN = "drain"
    CHANGE = "change"
    READ = "read"
    PROBE = "probe"
    FINALISE = "finalise"
    FINISH = "finish"


class Expect(StrEnum):
    """What a mixed group is to do: go on, refuse clearly, or (where nobody can tell) either."""

    TRAIN = "train"
    REFUSE = "refuse"
    EITHER = "either"


class State(StrEnum):
    """How a step ended; a step is skipped where an earlier one left nothing to do it with."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A declared version by name, and the torch release it is expected to be (None: only running tells)."""

    name: str
    torch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is rehearsed. steps: of training in all; every: steps between checkpoints; timeout, pace: seconds.

    pace: shortest time of one training step, so that faults and drains meet a job at work. script: the text of
    somebody's own training script; script_name: its file's name. formats: checkpoint formats to write.
    rollback_after: how many replacements; empty: a number that the seed decides, and all of them.
    """

    old: Release
    new: Release
    nodes: int = 4
    strategy: str = "rolling"
    policy: str = "auto"
    faults: tuple[str, ...] = ()
    steps: int = 60
    every: int = 5
    seed: int = 0
    rollback: bool = False
    rollback_after: tuple[int, ...] = ()
    runtime: str = "venv"
    timeout: float = 10.0
    pace: float = 0.03
    formats: tuple[str, ...] = ("dcp", "plain")
    script_name: str | None = None
    script: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One numbered step. versions: declared name per node once it is done. until: training steps done by then.

    nodes: those it changes or harms. hold: of a start, where its job waits for the drain. deadline, estimate and
    lasts (of a fault) in seconds.
    """

    number: int
    stage: str
    do: Do
    versions: tuple[str, ...]
    deadline: float
    estimate: float
    nodes: tuple[int, ...] = ()
    until: int | None = None
    hold: int | None = None
    expect: Expect | None = None
    fault: str | None = None
    lasts: float | None = None
    order: tuple[int, ...] = ()

    @property
    def mixed(self) -> bool:
        """Whether two releases run side by side."""
        return len(set(self.versions)) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A whole plan. unsupported: fault -> why this runtime can't inject it; notes: what was predicted and why."""

    spec: Spec
    steps: tuple[Step, ...]
    unsupported: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    digest: str = ""

    @property
    def estimate(self) -> float:
        """Seconds that the steps and the controls are expected to take, once the nodes are up."""
        return CONTROLS + sum(step.estimate for step in self.steps)


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
    """A committed checkpoint: name, the step after which it was taken, hash of parameters and optimizer."""

    name: str
    step: int
    hash: str | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A rank that took up a checkpoint: which one, and the hash of what it then had."""

    rank: int
    checkpoint: str
    hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One start of the job on all nodes until its end. begun, ended: wall clock seconds.

    step: number of the plan's step that started it. resumed: the checkpoint it was to take up (None: from nothing).
    outcomes: one per rank. why: drained, finished, killed by a fault, refused, or what went wrong. lacks: rank -> why
    it can't use torch.distributed.checkpoint although that was asked for.
    """

    number: int
    step: int
    versions: tuple[str, ...]
    begun: float
    ended: float
    why: str
    resumed: Commit | None = None
    facts: tuple[RankFacts, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    lines: tuple[Line, ...] = ()
    commits: tuple[Commit, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    lacks: Mapping[int, str] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        """Whether two releases ran side by side."""
        return len(set(self.versions)) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What came of a plan's step. seconds: it took; evidence: what its check saw, by name."""

    number: int
    state: State
    seconds: float
    begun: float
    why: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The same job without an upgrade. name: old, old restarted, new restarted."""

    name: str
    version: str
    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything a rehearsal saw. reports: declared name -> what torch said of itself. left: what stayed behind."""

    plan: Rehearsal
    results: tuple[StepResult, ...]
    generations: tuple[Generation, ...]
    controls: tuple[Control, ...]
    reports: Mapping[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    seconds: float = 0.0
    memory: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """R1..R16 judged: its verdict and what shows it. bad: numbers of the plan's steps that broke it."""

    name: str
    promise: str
    verdict: Verdict
    evidence: str
    bad: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an operator reads. answer: safe, needs stop-the-world, not safe or unknown; steps: training steps."""

    answer: str
    because: str
    redone: int
    idle: float
    invariants: tuple[Invariant, ...]
    verdict: Verdict
    first_bad: int | None = None
