"""The driver of a fleet over hosts, in a process that runs on one of them: a line in, the results of its cells out.

    python -m tests.engine.fleet.hosts_driver ADDRESS PYTHON

A line is {"interface": NAME, "cells": {PLACEMENT: TIMEOUT}}; the answer says of each cell how it ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from torchskew.engine.fleet.fleet import Fleet
from torchskew.engine.fleet.ray_cluster import RayCluster
from torchskew.engine.fleet.spread import Spreading
from torchskew.engine.machines import Work
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import NO_FLEET
from torchskew.model.outcomes import Placement
from torchskew.model.results import CellResult
from torchskew.model.versions import Environment, Source, SourceKind, Version
from torchskew.workflows.inputs import read_scenarios

from tests.conftest import Silent


def work(fleet: Fleet, python: str, timeouts: Mapping[str, float]) -> Work:
    """The same group once for each placement, of one release on three ranks."""
    version = Version(name="real", sources=(Source(kind=SourceKind.INTERPRETER, value=python),), torch="2.13.0")
    made = fleet.provision([version], Silent())
    skew = ("real",) * 3
    cells = tuple(
        Cell(scenario="rendezvous_tcp", skew=skew, runtime="venv", placement=Placement(name), timeout=timeout)
        for name, timeout in timeouts.items()
    )
    return Work(
        run_id="hosts-run",
        plan=Plan(cells=cells, runtime="venv", seed=0, digest=""),
        scenarios=read_scenarios(),
        versions={"real": version},
        environments={name: each for name, each in made.items() if isinstance(each, Environment)},
        observe=lambda tally: None,
    )


def told(result: CellResult) -> Mapping[str, Any]:
    """What a test asks of a result."""
    return {
        "verdict": result.verdict,
        "outcomes": [*result.outcomes],
        "hosts": [facts.host for facts in result.ranks],
        "faults": [attempt.fault for attempt in result.attempts],
        "errors": [facts.error.text if facts.error else "" for facts in result.ranks],
    }


def main() -> None:
    """One fleet for all lines; another interface needs other agents and nothing else."""
    address, python = sys.argv[1:]
    cluster = RayCluster(address)
    fleet, interface = Fleet(cluster, NO_FLEET, Silent(), 4), ""
    try:
        fleet.gather()
        fleet.use("venv")
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["interface"] != interface:
                interface = asked["interface"]
                fleet._spreading.close()
                fleet._spreading = Spreading(cluster.tell, interface)
            results = fleet.run(work(fleet, python, asked["cells"]), {})
            answer = {str(result.cell.placement): told(result) for result in results}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        fleet.release()
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
