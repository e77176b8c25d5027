"""Why ranks did not end well, in words; pure."""

from __future__ import annotations

from torchskew.judging.stacks import waiting_in
from torchskew.model.facts import RankFacts


def ending(facts: RankFacts) -> str:
    """How a rank ended that did not end well: its error, its signal, or where it hung."""
    if facts.error is not None:
        return f"{facts.error.type}: {facts.error.text}"
    if facts.machine is not None:
        return f"the machine failed: {facts.machine}"
    if facts.killed:
        place = waiting_in(facts.stacks)
        return f"it hung{f' at {place}' if place else ''}, and was killed"
    if facts.signal is not None:
        return f"it was ended by {facts.signal}"
    return f"it left without a report, with exit code {facts.exit}"
