"""What the reports of a run have in common, worked out once and handed to each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchskew.model.results import Checked, Decision
from torchskew.model.runs import Run
from torchskew.report import view
from torchskew.report.failures import FailureGroup, groups
from torchskew.report.tables import CellTable, tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """counts: of planned cells. unexpected: cells that shut the gate, worst first; failures: the same by their cause.

    surprises: cells that differ from the prediction. known: known failures by reason and link. tables: every cell.
    """

    counts: view.Counts
    unexpected: tuple[Checked, ...]
    failures: tuple[FailureGroup, ...]
    surprises: tuple[Checked, ...]
    known: Mapping[tuple[str, str | None], tuple[Checked, ...]]
    tables: tuple[CellTable, ...]


def findings_of(run: Run, decision: Decision) -> Findings:
    """Work it out."""
    unexpected = view.unexpected(decision)
    return Findings(
        counts=view.counts(run, decision),
        unexpected=unexpected,
        failures=groups(unexpected),
        surprises=view.surprises(decision),
        known=view.known_failures(decision),
        tables=tables(run, decision),
    )
