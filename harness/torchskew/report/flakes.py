"""Prints how often cells fail that also passed, a line for each."""

from __future__ import annotations

from collections.abc import Sequence

from torchskew.judging.flakes import Rate
from torchskew.report.columns import aligned


def render(rates: Sequence[Rate]) -> str:
    """The page that `torchskew flakes` prints."""
    if not rates:
        return "no cell has shown both a pass and a failure"
    rows = [("fails", "rate", "95 % interval", "last failure", "cell"), *map(_row, rates)]
    return "\n".join(aligned(rows, right={0, 1, 2}))


def _row(rate: Rate) -> tuple[str, ...]:
    interval = f"{rate.low:.1%} to {rate.high:.1%}"
    failures = f"{rate.failures} of {rate.runs}"
    return failures, f"{rate.share:.1%}", interval, (rate.last_failure or "")[:19], rate.cell_id
