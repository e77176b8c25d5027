"""The frozen records that flow from the declaration to the report; no behaviour beyond derived facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


class Outcome(StrEnum):
    """What one rank did, from facts. docs/results.md explains each to a reader."""

    OK = "OK"
    WRONG = "WRONG"
    CLEAR = "CLEAR"
    OPAQUE = "OPAQUE"
    TIMEOUT = "TIMEOUT"
    HANG = "HANG"
    CRASH = "CRASH"
    UNSUPPORTED = "UNSUPPORTED"
    NOT_RUN = "NOT_RUN"


class Verdict(StrEnum):
    """What a cell came to, computed once from all its ranks' outcomes."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"
    UNSUPPORTED = "UNSUPPORTED"
    BLOCKED = "BLOCKED"


class Kind(StrEnum):
    """How a scenario starts its ranks: all at once, one after another, or one alone."""

    GROUP = "group"
    HANDOVER = "handover"
    SOLO = "solo"


class Guard(StrEnum):
    """Which ranks install the guard before init_process_group; host is rank 0."""

    OFF = "off"
    ON = "on"
    HOST = "host"
    JOINERS = "joiners"


class Policy(StrEnum):
    """What a cell promises: right or refused, always right, or always refused."""

    RIGHT_OR_REFUSED = "right-or-refused"
    INTEROPERATE = "interoperate"
    REFUSE = "refuse"


class Phase(StrEnum):
    """How far a rank got."""

    PROVISION = "provision"
    RENDEZVOUS = "rendezvous"
    RUN = "run"
    TEARDOWN = "teardown"
    DONE = "done"


class SourceKind(StrEnum):
    """Where a version comes from."""

    PIP = "pip"
    WHEEL = "wheel"
    INTERPRETER = "interpreter"
    DEBIAN = "debian"
    IMAGE = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One way to get a version: the kind and its value (requirement, path, suite, reference)."""

    kind: SourceKind
    value: str
    python: str | None = None
    index: str | None = None
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A declared version: its label, its sources (each runtime takes the first it can use), its facts.

    torch: the release it is expected to be, for predictions ("2.6.0"), or None when only running tells.
    reports: what `torch.__version__` must say (public part compared), or None when anything goes.
    env: settings that every rank of this version needs.
    """

    name: str
    sources: tuple[Source, ...]
    torch: str | None = None
    reports: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A verdict declared in advance for the cells a pattern matches, with its reason.

    outcomes: when given, the class of each rank must match as well. flaky: the cells are known to show
    more than one verdict; until is required then, a failure is reported and does not gate.
    """

    cells: str
    verdict: Verdict
    reason: str
    outcomes: tuple[Outcome, ...] | None = None
    link: str | None = None
    until: str | None = None
    flaky: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixSpec:
    """What to combine. pairs: "all", "boundary", "neighbours", or explicit ordered skews; worlds: skews besides."""

    versions: tuple[str, ...]
    runtime: str = "auto"
    pairs: str | tuple[tuple[str, ...], ...] = "all"
    world_sizes: tuple[int, ...] = (2,)
    worlds: tuple[tuple[str, ...], ...] = ()
    scenarios: tuple[str, ...] = ("*",)
    guard: tuple[Guard, ...] = (Guard.OFF,)
    timeout: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A whole torchskew.toml with the expectations beside it. matrix: one per runtime name."""

    path: str
    versions: Mapping[str, Version]
    matrix: Mapping[str, MatrixSpec]
    expectations: tuple[Expectation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One case of a scenario: its name, parameters for the rank function, settings per rank.

    env: settings for every rank; rank_env: by rank; predicted: outcomes per rank where the scenario knows.
    """

    name: str
    params: Mapping[str, Json] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    rank_env: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    predicted: tuple[Outcome, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """scenario x skew x conditions: the unit that is planned, run, judged and recorded.

    skew: declared version names, rank 0 first. needs: ids of cells whose failure blocks this one.
    """

    id: str
    scenario: str
    skew: tuple[str, ...]
    runtime: str
    kind: Kind = Kind.GROUP
    variant: Variant | None = None
    guard: Guard = Guard.OFF
    policy: Policy = Policy.RIGHT_OR_REFUSED
    timeout: float = 10.0
    fault: str | None = None
    predicted: tuple[Outcome, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return len(self.skew)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The ordered cells of a run. digest names the plan: same declaration and seed, same digest."""

    cells: tuple[Cell, ...]
    runtime: str
    seed: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A provisioned version. identity: digest of its content (image id, or lock of the environment).

    handle: what the runtime needs to start it (an image id, a path of an interpreter).
    """

    version: str
    runtime: str
    identity: str
    handle: str
    env: Mapping[str, str] = field(default_factory=dict)
    reports: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFacts:
    """The exception a rank ended with: qualified type name and full text."""

    type: str
    text: str

    @property
    def headline(self) -> str:
        """The text in one line: the first, with the one that it announces, or with the last of a traceback."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()] or [""]
        if len(lines) > 1 and lines[0].endswith(":"):
            return f"{lines[0]} {lines[1]}"
        return f"{lines[0]}: {lines[-1]}" if len(lines) > 2 and lines[1].startswith("Traceback") else lines[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFacts:
    """Everything observed of one rank in one attempt; times in seconds.

    seconds: from fork to exit. phases: seconds spent in each phase, by name. error_after: seconds from the
    start of the phase that failed until the error. machine: why the machine kept it from running.
    killed: we killed it at the deadline. payload: what the scenario reported. skipped: case -> why, for
    what a version of the group lacks. stacks: of every thread, taken before a kill.
    """

    rank: int
    declared: str
    torch: str | None = None
    git_version: str | None = None
    python: str | None = None
    host: str | None = None
    phase: Phase = Phase.PROVISION
    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    error: ErrorFacts | None = None
    error_after: float | None = None
    unsupported: str | None = None
    exit: int | None = None
    signal: str | None = None
    killed: bool = False
    finished: bool = False
    machine: str | None = None
    payload: Mapping[str, Json] = field(default_factory=dict)
    log: str = ""
    stacks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a cell. fault: what the machine did wrong (then another attempt follows), or None."""

    number: int
    ranks: tuple[RankFacts, ...]
    seconds: float
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """A judged cell. outcomes: one per rank of the last attempt. skipped: case -> why (a version lacks it).

    reason: one line in words. key: content key for the cache. phases: seconds by phase, slowest rank.
    seen, seen_outcomes: of a repeated cell, the verdict and the outcomes of each repetition, in their order.
    inferred_from: of a cell that was not run because others tell what it comes to, their ids.
    """

    cell: Cell
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    reason: str
    attempts: tuple[Attempt, ...] = ()
    blocked_by: str | None = None
    cached: bool = False
    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    seen: tuple[Verdict, ...] = ()
    seen_outcomes: tuple[tuple[Outcome, ...], ...] = ()
    inferred_from: tuple[str, ...] = ()

    @property
    def flaky(self) -> bool:
        """Its repetitions showed more than one verdict."""
        return len(set(self.seen)) > 1

    @property
    def ranks(self) -> tuple[RankFacts, ...]:
        """The facts of the attempt that was judged."""
        return self.attempts[-1].ranks if self.attempts else ()

    @property
    def surprising(self) -> bool:
        """A cell that ran and whose outcomes differ from the prediction."""
        ran = self.verdict not in (Verdict.BLOCKED, Verdict.UNKNOWN, Verdict.UNSUPPORTED)
        ran = ran and not self.inferred_from
        return ran and bool(self.cell.predicted) and self.outcomes != self.cell.predicted


class Status(StrEnum):
    """A cell against the baseline; all but the first four shut the gate."""

    EXPECTED = "expected"
    KNOWN_FAILURE = "known-failure"
    KNOWN_FLAKY = "known-flaky"
    NOT_JUDGED = "not-judged"
    FLAKY = "flaky"
    REGRESSION = "regression"
    UNEXPECTED_PASS = "unexpected-pass"
    FAILS_DIFFERENTLY = "fails-differently"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A result held against its expectation. status: as-expected, known-failure, regression, ...

    expectation: the matching entry, when one does.
    """

    result: CellResult
    status: Status
    expectation: Expectation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the run came to: every planned cell checked, problems in words, and the exit code.

    difference: what changed since the run it was compared with, as text; empty when it was compared with none.
    """

    checked: tuple[Checked, ...]
    problems: tuple[str, ...]
    exit_code: int
    sentence: str
    difference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The head of a run in the record. started, finished: ISO 8601 UTC; environments: version -> identity."""

    run_id: str
    command: str
    seed: int
    torchskew: str
    runtime: str
    runtime_why: str
    plan_digest: str
    started: str
    finished: str | None = None
    environments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as the record gives it back: its head, its plan, its results (fewer when interrupted)."""

    info: RunInfo
    plan: Plan
    results: tuple[CellResult, ...]
    expectations: tuple[Expectation, ...] = ()
