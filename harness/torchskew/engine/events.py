"""What an agent writes, as records: the one reader of the lines that docs/protocol.md describes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Phase

T = TypeVar("T")
# What a rank says instead of a phase once it has reported: its interpreter ends, and nothing else is to come.
_LEAVING = "exit"


class ProtocolError(ValueError):
    """A line that docs/protocol.md does not allow."""


class Milestone(StrEnum):
    """What a rank reports while it works. OTHER: an event that only the script's own log needs."""

    STEP = "step"
    LISTENING = "listening"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What an agent said of its version. resolver_seconds: a reverse look-up of its own address."""

    protocol: int
    torch: str
    git_version: str
    python: str
    numpy: str | None = None
    host: str
    pid: int
    import_seconds: float
    resolver_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportFailed:
    """Torch can't be imported in the version. where: the innermost line."""

    type: str
    text: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The agent did not understand a line."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A scenario was loaded. lacks: case pattern -> why; error: why it could not be loaded."""

    scenario: str
    lacks: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The agent has imported modules ahead, or found that it can't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A rank was forked. at: when the harness read it (monotonic). pid: in the version."""

    at: float
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEntered:
    """A rank entered a phase."""

    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """A rank has reported and is ending its interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A rank reached a milestone of its work, at this step."""

    milestone: Milestone
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A rank's event holds other types than the protocol's, which harms this rank only. last: it was the rank's end."""

    why: str
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A rank was not started."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a rank said at its end. phase: the last one it entered; phases: seconds by name.

    slow_imports: seconds by module of torch, of imports that are worth doing ahead of the fork.
    """

    finished: bool
    payload: Mapping[str, Any]
    error: ErrorFacts | None
    error_after: float | None
    unsupported: str | None
    prevented: str | None = None
    phase: Phase | None
    phases: Mapping[str, float]
    torch: str | None
    git_version: str | None
    python: str | None
    numpy: str | None = None
    host: str | None
    slow_imports: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A rank is gone. report: None when it sent none; signal: a name such as SIGSEGV.

    held: it stays alive instead, as its job asked for, until its agent ends.
    """

    exit: int | None
    signal: str | None
    seconds: float
    report: Report | None
    log: str
    stacks: str
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The agent itself is gone, and its ranks with it: written by the harness, never by an agent."""

    why: str


AgentEvent = Ready | ImportFailed | Rejected | Loaded | Imported | Gone
RankEvent = Started | PhaseEntered | Leaving | Progress | Unreadable | Refused | Exited | Gone
End = Refused | Exited | Gone | Unreadable
_LAST = ("refused", "exited", "held")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLine:
    """A line about the agent itself."""

    event: AgentEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLine:
    """A line about one of its ranks."""

    rank_id: str
    event: RankEvent

    @property
    def last(self) -> bool:
        """Whether nothing else comes from this rank."""
        match self.event:
            case Refused() | Exited() | Gone() | Unreadable(last=True):
                return True
        return False


Line = AgentLine | RankLine


def read_line(message: object) -> Line | None:
    """The event in a decoded line; None for one that this version of the protocol doesn't know.

    Raises:
        ProtocolError: the line is no event, or one about the agent holds other types than the protocol's.
    """
    if not isinstance(message, Mapping):
        raise ProtocolError(f"a line must be an object, got {type(message).__name__}")
    kind, rank_id = message.get("event"), message.get("id")
    if rank_id is None:
        event = _agent_event(kind, message)
        return None if event is None else AgentLine(event=event)
    try:
        rank_event = _rank_event(kind, message)
    except ValueError as problem:
        rank_event = Unreadable(why=f"the rank's report can't be read: {problem}", last=kind in _LAST)
    return None if rank_event is None else RankLine(rank_id=str(rank_id), event=rank_event)


def _agent_event(kind: object, message: Mapping[str, Any]) -> AgentEvent | None:
    match kind:
        case "ready":
            return Ready(
                protocol=_optional(message, "protocol", int) or 0,
                torch=str(message.get("torch")),
                git_version=str(message.get("git_version")),
                python=str(message.get("python")),
                numpy=_optional(message, "numpy", str),
                host=str(message.get("host")),
                pid=_optional(message, "pid", int) or 0,
                import_seconds=_seconds(message, "import_seconds") or 0.0,
                resolver_seconds=_seconds(message, "resolver_seconds") or 0.0,
            )
        case "failed":
            return ImportFailed(**{name: str(message.get(name)) for name in ("type", "text", "where")})
        case "rejected":
            return Rejected(why=str(message.get("why")))
        case "imported":
            return Imported()
        case "loaded":
            lacks = _optional(message, "lacks", dict) or {}
            return Loaded(
                scenario=_need(message, "scenario", str),
                lacks={str(case): str(why) for case, why in lacks.items()},
                error=_optional(message, "error", str),
            )
    return None


def _rank_event(kind: object, message: Mapping[str, Any]) -> RankEvent | None:
    match kind:
        case "started":
            return Started(at=time.monotonic(), pid=_optional(message, "pid", int) or 0)
        case "phase":
            name = _need(message, "phase", str)
            return Leaving() if name == _LEAVING else PhaseEntered(phase=Phase(name))
        case "progress":
            return Progress(milestone=_milestone(message), step=_need(message, "step", int))
        case "refused":
            return Refused(why=_need(message, "why", str))
        case "exited" | "held":
            report = _optional(message, "report", dict)
            return Exited(
                exit=_optional(message, "exit", int),
                signal=_optional(message, "signal", str),
                seconds=_seconds(message, "seconds") or 0.0,
                report=_report(report) if report else None,
                log=_optional(message, "log", str) or "",
                stacks=_optional(message, "stacks", str) or "",
                held=kind == "held",
            )
    return None


def _milestone(message: Mapping[str, Any]) -> Milestone:
    name = _need(message, "name", str)
    return Milestone(name) if name in set(Milestone) else Milestone.OTHER


def _report(fields: Mapping[str, Any]) -> Report:
    error, phase = _optional(fields, "error", dict), _optional(fields, "phase", str)
    phases, slow = (_optional(fields, name, dict) or {} for name in ("phases", "slow_imports"))
    return Report(
        finished=bool(fields.get("finished")),
        payload=_optional(fields, "payload", dict) or {},
        error=ErrorFacts(type=_need(error, "type", str), text=_need(error, "text", str)) if error else None,
        error_after=_seconds(fields, "error_after"),
        unsupported=_optional(fields, "unsupported", str),
        prevented=_optional(fields, "prevented", str),
        phase=Phase(phase) if phase else None,
        phases={str(name): _seconds(phases, name) or 0.0 for name in phases},
        torch=_optional(fields, "torch", str),
        git_version=_optional(fields, "git_version", str),
        python=_optional(fields, "python", str),
        numpy=_optional(fields, "numpy", str),
        host=_optional(fields, "host", str),
        slow_imports={str(name): _seconds(slow, name) or 0.0 for name in slow},
    )


def _need(fields: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = _optional(fields, name, kind)
    if value is None:
        raise ProtocolError(f"`{name}` is missing")
    return value


def _optional(fields: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise ProtocolError(f"`{name}` must be {kind.__name__}, got {type(value).__name__}")
    return value


def _seconds(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ProtocolError(f"`{name}` must be a number, got {type(value).__name__}")
    return None if value is None else float(value)
