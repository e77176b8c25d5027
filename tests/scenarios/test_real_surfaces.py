"""Every surface works between two ranks of one real release, or the release says in its own words what it lacks."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchskew.model.outcomes import Kind
from torchskew.model.versions import Environment
from torchskew.planning.scenario import Opinion, Scenario, World
from torchskew.workflows.inputs import read_scenarios

from tests.inside.driver import Driver

TIMEOUT = 10.0
# Tested on their own, or by their defects; a lock that a killed builder left keeps this release for ever.
ELSEWHERE = {"rendezvous_tcp", "rendezvous_file", "all_reduce", "broadcast", "all_gather", "barrier", "import_smoke"}
ELSEWHERE |= {"env_skew", "stale_lock", "state_dict_keys", "torch_save"}
# They compile, import or measure for longer than everything else here: their judges and statistics are tested instead.
ELSEWHERE |= {"abi_extension", "extension_upgrade", "extension_builds", "speed", "memory", "doctests", "aot_packages"}
# PyTorch's own tests need packages and an agent of their own: tests/workflows/test_suite_real.py runs them.
ELSEWHERE |= {name for name, scenario in read_scenarios().items() if scenario.agent}
# What this release refuses to load, and says so.
REFUSED = {f"load_default.{kind}" for kind in ("namespace", "path", "time", "numpy_state", "numpy_array", "library")}
REFUSED |= {"load_default.own", "load_default.module"}
REFUSED |= {"key_names.strict"}
SAID_BY_THE_RANK = {"programs"}  # its writer says what it can't save
NAMES = [name for name in read_scenarios() if name not in ELSEWHERE and not name.startswith("guard_")]
pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, torch_environment: Environment) -> Iterator[Driver]:
    """One agent for all tests here, which imports ahead what they need."""
    ahead = list(dict.fromkeys(module for name in NAMES for module in read_scenarios()[name].warm))
    change = (b'"imports": []', b'"imports": ' + json.dumps(ahead).encode())
    made = Driver(tmp_path_factory.mktemp("agent"), torch_environment.handle, change)
    try:
        made.until("ready")
        yield made
    finally:
        made.close()


def ends(agent: Driver, scenario: Scenario, variant, share: Path, skip: dict[str, str]) -> list[dict]:
    """Run a cell of two ranks, or of one where the scenario has no more; return each rank's outcome."""
    size = 1 if scenario.kind is Kind.SOLO else 2
    with socket.create_server(("127.0.0.1", 0)) as free:
        job = {"world_size": size, "port": free.getsockname()[1], "timeout": TIMEOUT, "share": str(share), "skip": skip}
    job |= {"variant": variant.name, "params": dict(variant.params), "env": dict(variant.env)} if variant else {}
    found: dict[str, dict] = {}
    for rank in range(size):
        agent.start(str(rank), scenario.name, **job, rank=rank)
        if scenario.kind is Kind.HANDOVER:
            found[str(rank)] = agent.until("exited", id=str(rank))
    while len(found) < size:
        end = agent.until("exited")
        found[end["id"]] = end
    return [found[str(rank)] for rank in range(size)]


@pytest.mark.parametrize("name", NAMES)
def test_a_surface_works_within_a_release(agent: Driver, tmp_path: Path, name: str) -> None:
    scenario = read_scenarios()[name]
    skip = agent.load(scenario.source, name)["lacks"]
    if "*" in skip:
        assert len(skip["*"]) > 20, "a version that lacks a surface says how"
        return
    for variant in scenario.variants:
        came_to = ends(agent, scenario, variant, tmp_path / f"share {variant and variant.name}", skip)
        if any(end["report"]["unsupported"] for end in came_to):
            assert variant is not None
            assert variant.name in skip or name in SAID_BY_THE_RANK
            continue
        problems = [(end["report"] or {}).get("error") or end["signal"] for end in came_to]
        if variant and f"{name}.{variant.name}" in REFUSED:
            assert problems[0] is None
            assert re.search("Weights only load failed|Missing key", problems[1]["text"])
            continue
        assert not any(problems), (variant, problems)
        world = World(
            size=len(came_to),
            skew=("a",) * len(came_to),
            params=variant.params if variant else {},
            skip=skip,
            seed=0,
        )
        wrong = [] if variant is None else [rank for rank, out in enumerate(variant.predicted or ()) if out == "WRONG"]
        said = scenario.judge([end["report"]["payload"] for end in came_to], world)
        assert list(said.wrong if isinstance(said, Opinion) else said) == wrong, variant
