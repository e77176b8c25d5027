"""One execution as the record keeps it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torchskew.model.cells import Plan
from torchskew.model.declared import Expectation
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Guard, Outcome, Store, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult


class RunKind(StrEnum):
    """Which use of the harness a run belongs to."""

    MATRIX = "matrix"
    CHECK = "check"
    GATE = "gate"
    SURVEY = "survey"
    MERGE = "merge"
    SUITE = "suite"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The head of a run in the record. started, finished: ISO 8601 UTC; environments: version -> identity.

    command: what the user typed. rerun: the command that plans the same cells again. until: no package that was
    uploaded later was installed (ISO 8601, UTC); empty where that was not bounded.
    """

    run_id: str
    kind: RunKind
    command: str
    seed: int
    torchskew: str
    runtime: str
    runtime_why: str
    plan_digest: str
    started: str
    finished: str | None = None
    environments: Mapping[str, str] = field(default_factory=dict)
    rerun: Rerun = field(default_factory=Rerun)
    until: str = ""

    @property
    def day(self) -> dt.date:
        """The day on which it started, UTC."""
        return dt.datetime.fromisoformat(self.started).date()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as the record gives it back: its head, its plan, its results (fewer when interrupted)."""

    info: RunInfo
    plan: Plan
    results: tuple[CellResult, ...]
    expectations: tuple[Expectation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What one rank of a cell printed, and its stacks where it had to be stopped."""

    cell_id: CellId
    rank: int
    log: str = ""
    stacks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One earlier result of a cell: enough for a rate, a duration, a comparison."""

    run_id: str
    cell_id: CellId
    repeat: int
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    seconds: float
    cached: bool
    key: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a whole gate selects: runs of equal selections may be compared as a whole.

    package: the library whose gate it is, by name; empty for the gate of a torch.
    """

    runtime: str
    against: tuple[str, ...]
    tier: str
    guard: tuple[Guard, ...]
    base: bool
    package: str = ""
    store: tuple[Store, ...] = (Store.STOCK,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a gate's run was asked, kept with it, so that it can be decided again: a mark.

    subject: the candidate in words. problems: of the baseline. selection: what was selected; None where only
    some cells were, which no later run is compared with. of_library: the candidate is a library that every rank has,
    so that no cell is a control.
    """

    subject: str
    repeat: int = 1
    problems: tuple[str, ...] = ()
    selection: Selection | None = None
    of_library: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Which part of a plan a run had. whole: digest of the plan; positions: those of its cells there, from 0.

    durations: digest of the durations that balanced it; shards of different durations do not fit together.
    """

    index: int
    count: int
    whole: str
    cells: int
    positions: tuple[int, ...]
    durations: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """Mark: what is wrong with patterns of the baseline that match no cell of the plan before it was narrowed."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Mark: every planned cell has a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Mark: a green gate; later runs are compared with it."""

    selection: Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """Mark: a version whose environment was made after the run began."""

    version: str
    identity: str
