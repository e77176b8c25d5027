"""The faults that a rehearsal injects, one file and one row each: injection, heal and probe."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchskew.faults.base import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRow:
    """One fault, described without importing it. implementation: `module:class`; effect: what it does to a node."""

    name: str
    implementation: str
    effect: str


# Every option, check and help text that names faults reads them here.
FAULTS: dict[str, FaultRow] = {
    row.name: row
    for row in (
        FaultRow(name="kill", implementation="torchskew.faults.kill:Kill", effect="its rank is killed"),
        FaultRow(name="pause", implementation="torchskew.faults.pause:Pause", effect="its rank stops for a while"),
        FaultRow(name="partition", implementation="torchskew.faults.partition:Partition", effect="no packet passes"),
        FaultRow(name="slow", implementation="torchskew.faults.slow:Slow", effect="it sends at a fraction of its rate"),
        FaultRow(name="loss", implementation="torchskew.faults.loss:Loss", effect="a quarter of the packets is lost"),
        FaultRow(name="delay", implementation="torchskew.faults.delay:Delay", effect="what it sends arrives late"),
    )
}


def parts(name: str) -> tuple[str, ...]:
    """The faults that are injected together: `pause+loss` is two."""
    return tuple(name.split("+"))


def fault(name: str) -> Fault:
    """A fault by its name."""
    module, _, attribute = FAULTS[name].implementation.partition(":")
    instance: Fault = getattr(import_module(module), attribute)()
    return instance


def unsupported(runtime: str) -> dict[str, str]:
    """Fault -> why it can't be injected with this runtime on this machine."""
    reasons = {name: fault(name).available(runtime) for name in FAULTS}
    return {name: reason for name, reason in reasons.items() if reason is not None}
