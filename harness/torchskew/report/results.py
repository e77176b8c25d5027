"""Writes results.json, the run as data; docs/results.md names every field, and fields are only ever added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torchskew.model.facts import Attempt, RankFacts
from torchskew.model.outcomes import Json, Outcome, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult, Checked, Decision, Status
from torchskew.model.runs import Run
from torchskew.report.findings import Findings
from torchskew.report.logs import Logs, Written
from torchskew.report.tables import environments

SCHEMA: Final = "1.0"


def write_results(run: Run, decision: Decision, written: Written, path: Path) -> None:
    """Write cell by cell, one line each: 10,000 cells are never in memory as text at once."""
    with path.open("w", encoding="utf-8") as file:
        top = json.dumps(_head(run, decision, written.findings), indent=1)
        file.write(top.removesuffix("\n}") + ',\n "cells": [')
        for index, item in enumerate(decision.checked):
            file.write((",\n  " if index else "\n  ") + json.dumps(_cell(item, written.logs, run.info.rerun)))
        file.write("\n ]\n}\n")


def _head(run: Run, decision: Decision, findings: Findings) -> dict[str, Json]:
    counts, info = findings.counts, run.info
    return {
        "schema": SCHEMA,
        "run_id": info.run_id,
        "seed": info.seed,
        "torchskew": info.torchskew,
        "runtime": run.plan.runtime,
        "planned": counts.planned,
        "repeat": counts.repeat,
        "counts": {verdict.lower(): counts.verdicts[verdict] for verdict in Verdict},
        "unexpected": {
            "regressions": counts.regressions,
            "unexpected_passes": counts.statuses.get(Status.UNEXPECTED_PASS, 0),
            "fails_differently": counts.statuses.get(Status.FAILS_DIFFERENTLY, 0),
            "unknown": counts.statuses.get(Status.UNKNOWN, 0),
            "expired": counts.statuses.get(Status.EXPIRED, 0),
            "flaky": counts.statuses.get(Status.FLAKY, 0),
            "missing": counts.missing,
        },
        "known_failures": counts.known,
        "known_flaky": counts.statuses.get(Status.KNOWN_FLAKY, 0),
        "surprises": len(findings.surprises),
        "cached": counts.cached,
        "exit_code": decision.exit_code,
        "decision": decision.sentence,
        "part": f"{decision.part.index}/{decision.part.count}" if decision.part else None,
        "problems": [*decision.problems],
        "difference": decision.difference,
        "command": info.command,
        "engine": info.runtime,
        "runtime_why": info.runtime_why,
        "plan_digest": info.plan_digest,
        "started": info.started,
        "finished": info.finished,
        "environments": dict(environments(run)),
    }


def _cell(item: Checked, logs: Logs, again: Rerun) -> dict[str, Json]:
    result = item.result
    cell, entry = result.cell, item.expectation
    return {
        "id": cell.id,
        "scenario": cell.scenario,
        "variant": cell.variant.name if cell.variant else None,
        "kind": cell.kind,
        "skew": [*cell.skew],
        "runtime": cell.runtime,
        "guard": cell.guard,
        "store": cell.store,
        "placement": cell.placement,
        "policy": cell.policy,
        "world_size": cell.world_size,
        "timeout": cell.timeout,
        "fault": cell.fault,
        "cached": result.cached,
        "predicted": [*cell.predicted],
        "outcomes": [*result.outcomes],
        "surprising": result.surprising,
        "verdict": result.verdict,
        "expected": entry.verdict if entry else Verdict.PASS,
        "status": item.status,
        "expectation": _expectation(item),
        "reason": result.reason,
        "blocked_by": result.blocked_by,
        "inferred_from": [*result.inferred_from],
        "seen": [*result.seen],
        "seconds": _rounded(result.seconds),
        "phases": _phases(result.phases),
        "skipped": dict(result.skipped),
        "key": result.key,
        "rerun": str(again.of_cell(cell.id)),
        "attempts": [_attempt(attempt) for attempt in result.attempts],
        "ranks": [_rank(result, facts, logs) for facts in result.ranks],
    }


def _expectation(item: Checked) -> dict[str, Json] | None:
    entry = item.expectation
    if entry is None:
        return None
    outcomes: list[Json] | None = [*entry.outcomes] if entry.outcomes else None
    fields: dict[str, Json] = {"cells": entry.cells, "reason": entry.reason, "outcomes": outcomes}
    return fields | {"link": entry.link, "until": entry.until}


def _attempt(attempt: Attempt) -> dict[str, Json]:
    return {"number": attempt.number, "seconds": _rounded(attempt.seconds), "fault": attempt.fault}


def _rank(result: CellResult, facts: RankFacts, logs: Logs) -> dict[str, Json]:
    error = {"type": facts.error.type, "text": facts.error.text} if facts.error else None
    return {
        "rank": facts.rank,
        "declared": facts.declared,
        "torch": facts.torch,
        "git_version": facts.git_version,
        "python": facts.python,
        "numpy": facts.numpy,
        "host": facts.host,
        "outcome": _outcome(result, facts.rank),
        "phase": facts.phase,
        "seconds": _rounded(facts.seconds),
        "phases": _phases(facts.phases),
        "error": dict(error) if error else None,
        "error_after": None if facts.error_after is None else _rounded(facts.error_after),
        "unsupported": facts.unsupported,
        "prevented": facts.prevented,
        "machine": facts.machine,
        "killed": facts.killed,
        "exit": facts.exit,
        "signal": facts.signal,
        "log": logs.paths.get((result.cell.id, facts.rank)),
    }


def _outcome(result: CellResult, rank: int) -> Outcome | None:
    return result.outcomes[rank] if rank < len(result.outcomes) else None


def _phases(phases: Mapping[str, float]) -> dict[str, Json]:
    return {name: _rounded(value) for name, value in phases.items()}


def _rounded(value: float) -> float:
    """Seconds to a tenth of a millisecond: more would only be noise."""
    return round(value, 4)
