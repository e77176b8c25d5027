"""The cache key of a cell: a digest of everything its result depends on, so that nothing stale is ever reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

from torchskew.model.cells import Cell
from torchskew.model.outcomes import Store
from torchskew.model.versions import Environment
from torchskew.planning.scenario import Scenario
from torchskew.record.code_digest import digest_of_bridge, digest_of_code, digest_of_source


def key(cell: Cell, scenario: Scenario, environments: Mapping[str, Environment], seed: int) -> str:
    """Content key of a cell: the code of its scenario and of the harness, environments by content, settings."""
    parts = {
        "scenario": digest_of_source(scenario.source),
        "code": digest_of_code(),
        "skew": [[name, environments[name].identity, dict(environments[name].env)] for name in cell.provided],
        "runtime": cell.runtime,
        "guard": cell.guard,
        "placement": cell.placement,
        "bridge": digest_of_bridge() if cell.store is Store.BRIDGE else None,
        "policy": cell.policy,
        "variant": asdict(cell.variant) if cell.variant else None,
        "timeout": cell.timeout,
        "fault": cell.fault,
        "seed": seed,
        "content": scenario.place.content,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
