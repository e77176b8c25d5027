"""The first scenarios with forked ranks of a real release: right in worlds of two and three, and seeded faults."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from torchskew.planning.scenario import Scenario, World
from torchskew.workflows.inputs import read_scenarios

from tests.inside.driver import Driver

# Seconds. A busy machine may need some between the store of rank 0 and its address, which rank 1 waits for.
TIMEOUT = 10.0
NAMES = ("rendezvous_tcp", "rendezvous_file", "all_reduce", "broadcast", "all_gather", "barrier")
pytestmark = [pytest.mark.slow, pytest.mark.torch]


def start(agent: Driver, scenario: Scenario, size: int, variant, **more) -> None:
    """Ask for all ranks of a cell; a rank's id is variant:rank."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for rank in range(size):
        job = {
            "rank": rank,
            "world_size": size,
            "port": port,
            "timeout": TIMEOUT,
            **more,
            "params": dict(variant.params) if variant else {},
            "env": {**variant.env, **variant.rank_env.get(rank, {})} if variant else {},
        }
        name = f"{variant.name if variant else ''}:{rank}"
        agent.start(name, scenario.name, **job)


def prepared(agent: Driver, name: str) -> tuple[Scenario, dict[str, str]]:
    scenario = read_scenarios()[name]
    return scenario, agent.load(scenario.source, name)["lacks"]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_ranks_of_one_release_agree(agent: Driver, tmp_path: Path, name: str, size: int) -> None:
    scenario, skip = prepared(agent, name)
    for variant in scenario.variants:
        start(agent, scenario, size, variant, share=str(tmp_path / "share"), skip=skip)
        ends = {end["id"][-1]: end for end in (agent.until("exited") for _ in range(size))}
        payloads = [ends[str(rank)]["report"]["payload"] for rank in range(size)]
        params = variant.params if variant else {}
        world = World(size=size, skew=("a",) * size, params=params, skip=skip, seed=0)
        assert scenario.judge(payloads, world) == {}


def test_imports_of_a_release_are_whole(agent: Driver, tmp_path: Path) -> None:
    scenario, skip = prepared(agent, "import_smoke")
    for variant in scenario.variants:
        start(agent, scenario, 1, variant, share=str(tmp_path / "share"), skip=skip)
        payload = agent.until("exited")["report"]["payload"]
        world = World(size=1, skew=("a",), params=variant.params, skip=skip, seed=0)
        assert scenario.judge([payload], world) == {}
        assert payload["backends"]["gloo"]


def kind(end: dict) -> str:
    """The outcome of one rank."""
    if end["signal"]:
        return {"SIGKILL": "HANG"}.get(end["signal"], "CRASH")
    if end["report"]["error"]:
        return "TIMEOUT" if end["report"]["error_after"] >= 0.9 * TIMEOUT else "OPAQUE"
    return "OK"


def test_one_sided_settings_come_to_what_was_predicted(agent: Driver, tmp_path: Path) -> None:
    scenario, skip = prepared(agent, "env_skew")
    variants = {variant.name: variant for variant in scenario.variants if variant}
    for variant in variants.values():
        start(agent, scenario, 2, variant, share=str(tmp_path), skip=skip)
    ends: dict[str, dict] = {}
    hanging = {"lazy_init:0", "rank_as_sequence:0", "silent_store:0", "silent_store:1"}
    while len(ends) < 2 * len(variants):
        event = agent.get()
        if event["event"] == "exited":
            ends[event["id"]] = event
        running = {f"{name}:{rank}" for name in variants for rank in range(2)} - set(ends)
        if running <= hanging and event["event"] == "exited":
            for name in running:
                agent.send("stacks", id=name)
                agent.send("signal", id=name, signal="KILL")
    found = {name: [kind(ends[f"{name}:{rank}"]) for rank in range(2)] for name in variants}
    wanted = {name: [str(one) for one in variant.predicted] for name, variant in variants.items()}
    for name in ("lazy_init", "rank_as_sequence"):  # who waits and who is refused is a lottery
        survivor, fallen = found.pop(name)
        assert (survivor in {"HANG", "OPAQUE"}, fallen, wanted.pop(name)) == (True, "CRASH", []), name
    assert found == wanted
    assert all("in rendezvous" in ends[f"silent_store:{rank}"]["stacks"] for rank in range(2))
