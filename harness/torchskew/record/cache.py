"""The cache key of a cell: a digest of everything its result depends on, so that nothing stale is ever reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

from torchskew.inside.protocol import agent_digest
from torchskew.model.cells import Cell
from torchskew.model.versions import Environment
from torchskew.planning.scenario import Scenario

# The files that decide how a cell is run and judged; a change in any of them makes every result stale.
ENGINE = ("engine/attempt.py", "judging/judge.py", "judging/oracle.py", "planning/plan.py")


def key(cell: Cell, scenario: Scenario, environments: Mapping[str, Environment], seed: int) -> str:
    """Content key of a cell: scenario, agent, runtimes by content, settings."""
    parts = {
        "scenario": scenario.digest,
        "agent": agent_digest(),
        "engine": _engine(),
        "skew": [[name, environments[name].identity, dict(environments[name].env)] for name in cell.skew],
        "runtime": cell.runtime,
        "guard": cell.guard,
        "policy": cell.policy,
        "variant": asdict(cell.variant) if cell.variant else None,
        "timeout": cell.timeout,
        "fault": cell.fault,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _engine() -> str:
    here = Path(__file__).resolve().parents[1]
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in ENGINE)).hexdigest()
