"""What was observed of every rank in one attempt; nothing here is judged yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchskew.model.outcomes import Json, Phase


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
    start of the phase that failed until the error. machine: why the machine kept it from running; prevented: why what
    its user wanted to come first failed, which is not tried again.
    killed: we killed it at the deadline. payload: what the scenario reported. skipped: case -> why, for
    what a version of the group lacks. stacks: of every thread, taken before a kill. slow_imports: seconds by module
    of torch. inside: the command that looks into a rank that was kept alive.
    """

    rank: int
    declared: str
    torch: str | None = None
    git_version: str | None = None
    python: str | None = None
    numpy: str | None = None
    host: str | None = None
    phase: Phase = Phase.PROVISION
    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    error: ErrorFacts | None = None
    error_after: float | None = None
    unsupported: str | None = None
    prevented: str | None = None
    exit: int | None = None
    signal: str | None = None
    killed: bool = False
    finished: bool = False
    machine: str | None = None
    payload: Mapping[str, Json] = field(default_factory=dict)
    log: str = ""
    stacks: str = ""
    slow_imports: Mapping[str, float] = field(default_factory=dict)
    inside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a cell. fault: what the machine did wrong (then another attempt follows), or None."""

    number: int
    ranks: tuple[RankFacts, ...]
    seconds: float
    fault: str | None = None
