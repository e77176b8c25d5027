"""Ranks of a cell meet at a bridge beside rank 0; what happens to the bridge is never a version's fault."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchskew.engine import bridge
from torchskew.engine.agents import Agents, Place
from torchskew.engine.ports import Ports
from torchskew.engine.rank_group import Seat
from torchskew.engine.run import Engine
from torchskew.errors import AgentError
from torchskew.model.cells import Cell, Plan, Variant
from torchskew.model.outcomes import Outcome, Store, Verdict
from torchskew.model.results import CellResult
from torchskew.model.versions import Environment, Source, SourceKind, Version
from torchskew.planning.scenario import Scenario
from torchskew.planning.scenario_file import parse_scenario
from torchskew.runtimes import ownership
from torchskew.runtimes.base import Runtime
from torchskew.runtimes.fake import FakeRuntime, right
from torchskew.runtimes.venv.runtime import VenvRuntime

from tests.patience import PATIENCE

# Rank 0 looks who listens at the port of the cell; it is a process of this agent, like the rank itself.
LOOKING = '''"""The store is where the harness put it."""
KIND = "group"


def rank(job):
    import os
    import signal

    job.rendezvous()
    if job.rank != 0:
        return {}
    owner = listens(job.port)
    if job.params.get("kill"):
        os.kill(owner, signal.SIGKILL)
        raise OSError("the store is gone")
    with open("/proc/%d/stat" % owner) as line:
        parent = int(line.read().rpartition(")")[2].split()[1])
    return {"rank": owner == os.getpid(), "beside": parent == os.getppid(), "libuv": backend()}


def backend():
    """Whether this rank is a client of libuv."""
    import torch.distributed as dist

    store = dist.distributed_c10d._get_default_store()
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    return store.libuvBackend


def listens(port):
    """The process that has the listening socket."""
    import glob
    import os

    rows = [line.split() for name in ("tcp", "tcp6") for line in open("/proc/net/" + name)]
    (inode,) = {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) == "socket:[%s]" % inode:
                return int(link.split("/")[2])
        except OSError:
            continue


def judge(reports, world):
    return {}
'''
PIP = (Source(kind=SourceKind.PIP, value="torch"),)


def ran(runtime: Runtime, environment: Environment, scenario: Scenario, cell: Cell) -> CellResult:
    """The result of one cell; every version of it is this environment."""
    agents = Agents(runtime)
    agents.provide({name: replace(environment, version=name) for name in cell.skew})
    versions = {name: Version(name=name, sources=PIP, torch=None) for name in cell.skew}
    engine = Engine(
        plan=Plan(cells=(cell,), runtime="venv", seed=0, digest=""),
        scenarios={scenario.name: scenario},
        versions=versions,
        agents=agents,
        jobs=2,
        observe=lambda _: None,
    )
    try:
        (result,) = engine.run({})
    finally:
        agents.close()
    return result


def bridged(name: str, **more: Any) -> Cell:
    return Cell(scenario=name, skew=("a", "b"), runtime="venv", store=Store.BRIDGE, **more)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VenvRuntime]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = VenvRuntime()
    with ownership.opened("run-of-a-test") as opened:
        made.open(opened)
        yield made
        made.close()


@pytest.mark.torch
@pytest.mark.slow
def test_ranks_of_a_real_release_meet_at_a_bridge_that_is_none_of_them(
    torch_environment: Environment, runtime: VenvRuntime
) -> None:
    looking = parse_scenario("looking", LOOKING, "looking.py")
    for store, report in (
        (Store.BRIDGE, {"rank": False, "beside": True, "libuv": True}),
        (Store.STOCK, {"rank": True, "beside": True, "libuv": True}),
    ):
        result = ran(runtime, torch_environment, looking, replace(bridged("looking"), store=store))
        assert (result.verdict, result.ranks[0].payload) == (Verdict.PASS, report), result.reason


@pytest.mark.torch
@pytest.mark.slow
def test_a_rank_that_may_not_use_libuv_is_another_client_of_the_bridge(
    torch_environment: Environment, runtime: VenvRuntime
) -> None:
    looking = parse_scenario("looking", LOOKING, "looking.py")
    cell = bridged("looking", variant=Variant(name="", rank_env={0: {"USE_LIBUV": "0"}}))
    result = ran(runtime, torch_environment, looking, cell)
    assert result.verdict is Verdict.PASS, result.reason
    assert result.ranks[0].payload == {"rank": False, "beside": True, "libuv": False}


@pytest.mark.torch
@pytest.mark.slow
def test_a_bridge_ends_with_its_attempt_and_a_port_in_use_is_named(
    torch_environment: Environment, runtime: VenvRuntime
) -> None:
    agents = Agents(runtime)
    agents.provide({"a": torch_environment})
    try:
        seat = Seat(version="a", agent=agents.get(Place(version="a", replica=0)))
        with Ports().lease() as port:
            with bridge.hosted(seat, "1", port):
                socket.create_connection(("127.0.0.1", port), PATIENCE).close()
                with pytest.raises(AgentError, match=f"could not be started: port {port} is in use"):
                    bridge.Bridge(seat, "2", port)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), PATIENCE)
            with bridge.hosted(seat, "3", port):
                socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    finally:
        agents.close()


@pytest.mark.torch
@pytest.mark.slow
def test_a_bridge_that_dies_leaves_an_unknown_and_never_a_failure(
    torch_environment: Environment, runtime: VenvRuntime
) -> None:
    looking = parse_scenario("looking", LOOKING, "looking.py")
    cell = bridged("looking", variant=Variant(name="", params={"kill": True}))
    result = ran(runtime, torch_environment, looking, cell)
    assert result.verdict is Verdict.UNKNOWN
    names_it = re.compile(r"the bridge at 127\.0\.0\.1:\d+ ended before its ranks: SIGKILL")
    assert all(names_it.search(each.fault or "") for each in result.attempts)
    assert all(names_it.search(rank.machine or "") for rank in result.ranks if not rank.finished), result.ranks


def test_a_bridge_that_does_not_start_is_the_machines_fault_and_no_rank_runs() -> None:
    started: list[int] = []

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        started.append(job["world_size"])
        return right(version, job)  # the bridge too: it ends, and has never listened

    meet = Scenario(name="meet", promise="p", doc="d", source="", path="", judge=lambda reports, world: {})
    environment = Environment(version="a", runtime="venv", identity="a", handle="")
    result = ran(FakeRuntime(script), environment, meet, bridged("meet"))
    assert (result.verdict, set(started)) == (Verdict.UNKNOWN, {1})
    assert result.outcomes == (Outcome.NOT_RUN,) * 2
    assert re.search(r"the bridge at \S+:\d+ could not be started: it ended by itself", result.reason)


def test_a_bridge_that_never_listens_is_waited_for_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "LISTEN_SECONDS", 0.05)
    signals: list[str] = []

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        signals.append(str(job["world_size"]))
        return {"hang": True}

    meet = Scenario(name="meet", promise="p", doc="d", source="", path="", judge=lambda reports, world: {})
    environment = Environment(version="a", runtime="venv", identity="a", handle="")
    result = ran(FakeRuntime(script), environment, meet, bridged("meet"))
    assert result.verdict is Verdict.UNKNOWN
    assert re.search(r"the bridge at \S+:\d+ could not be started: it did not listen within", result.reason)
    assert set(signals) == {"1"}


def test_what_an_agent_gets_is_all_that_the_bridge_imports() -> None:
    """It runs in versions that have no torchskew."""
    module = parse_scenario("b", bridge.scenario().source, "b.py")
    assert module.source.isascii()
    space: dict[str, Any] = {"__name__": "b"}
    exec(compile(bridge.scenario().source, "b.py", "exec"), space)
    assert {"torchskew.bridge.server", "torchskew.bridge.gloo", "torchskew.bridge"} <= set(space["SOURCES"])
