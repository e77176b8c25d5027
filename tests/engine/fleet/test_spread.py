"""Ranks of one cell on different nodes, without Ray: who gets which rank, what a lost node means, what is left."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from torchskew.engine.fleet import fleet as fleet_module
from torchskew.engine.fleet.fleet import Fleet
from torchskew.engine.fleet.messages import LineEnded, LineOpened, LineRequest, LineSpoke, Order, PortLeased, Relayed
from torchskew.engine.fleet.nodes import Need, Node, Placing, apart
from torchskew.engine.fleet.relay import Relay
from torchskew.engine.ports import Ports, bind_exclusively
from torchskew.engine.trial import ATTEMPTS
from torchskew.model.cells import Cell, Variant
from torchskew.model.declared import NO_FLEET, FleetSpec
from torchskew.model.outcomes import Outcome, Placement, Verdict
from torchskew.model.results import CellResult
from torchskew.runtimes.base import NO_FOLDERS
from torchskew.runtimes.fake import DIE, HANG, FakeChannel, FakeRuntime, ended, right

from tests.engine.fleet.desk import NAMES, LocalCluster, cell, gathered, node, work
from tests.patience import PATIENCE, happens

THREE = ("1", "2", "3")
Job = Mapping[str, Any]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(fleet_module, "HOPE_SECONDS", 0.0)
    monkeypatch.setattr(fleet_module, "NEWS_SECONDS", 0.05)


def apart_cells(count: int = 1, skew: tuple[str, ...] = NAMES, **fields: Any) -> list[Cell]:
    fields = {"placement": Placement.SPREAD, **fields}
    return [cell(variant=Variant(name=str(number)), skew=skew, **fields) for number in range(count)]


class Ranks:
    """A script for each node that notes which rank of which cell ran there, and what it was told."""

    def __init__(self, **special: Any) -> None:
        """special: what the ranks on a node answer with, by its name with an n before it."""
        self.special = special
        self.jobs: list[tuple[str, str, Job]] = []
        self._lock = threading.Lock()

    def on(self, name: str) -> FakeRuntime:
        def rank(version: str, job: Job) -> Job:
            with self._lock:
                self.jobs.append((name, version, job))
            answer = self.special.get(f"n{name}")
            return answer(version, job) if answer else right(version, job)

        return FakeRuntime(rank)

    def of(self, variant: str) -> dict[int, tuple[str, str, Job]]:
        return {job["rank"]: (name, version, job) for name, version, job in self.jobs if job["variant"] == variant}


@contextmanager
def desk(ranks: Ranks, *names: str, spec: FleetSpec = NO_FLEET, jobs: int = 4) -> Iterator[tuple[LocalCluster, Fleet]]:
    cluster = LocalCluster({name: ranks.on(name) for name in names})
    try:
        yield cluster, gathered(cluster, spec, jobs=jobs)
    finally:
        cluster.close()


def ran(fleet: Fleet, *cells: Cell, names: Sequence[str] = NAMES) -> list[CellResult]:
    results = list(fleet.run(work(fleet, *cells, names=names), {}))
    assert Counter(result.cell.id for result in results) == Counter(each.id for each in cells)
    return results


def test_each_rank_runs_on_a_node_of_its_own_and_meets_at_the_address_of_rank_0() -> None:
    ranks = Ranks()
    with desk(ranks, *THREE) as (_, fleet):
        results = ran(fleet, *apart_cells(12, ("1.0.0", "2.0.0", "2.0.0")))
        assert {(result.verdict, len(result.attempts)) for result in results} == {(Verdict.PASS, 1)}
        assert all("/placement-spread/" in result.cell.id for result in results)
        for number in range(12):
            placed = ranks.of(str(number))
            assert {name for name, _, _ in placed.values()} == set(THREE)
            assert [placed[rank][1] for rank in range(3)] == ["1.0.0", "2.0.0", "2.0.0"]
            assert {job["host"] for _, _, job in placed.values()} == {f"10.0.0.{placed[0][0]}"}
            assert len({job["port"] for _, _, job in placed.values()}) == 1
            assert {job["share"].rpartition("/")[2] for _, _, job in placed.values()} == {
                placed[0][2]["share"].rpartition("/")[2]
            }
        fleet.release()


def test_cells_of_both_placements_share_the_slots_of_a_node() -> None:
    working, most, lock = Counter[str](), Counter[str](), threading.Lock()

    def counted(name: str) -> Any:
        def rank(version: str, job: Job) -> Job:
            with lock:
                working[name] += 1
                most[name] = max(most[name], working[name])
            threading.Event().wait(0.01)
            with lock:
                working[name] -= 1
            return right(version, job)

        return rank

    with desk(Ranks(**{f"n{name}": counted(name) for name in THREE}), *THREE, jobs=1) as (cluster, fleet):
        together = [replace(each, placement=Placement.TOGETHER) for each in apart_cells(12)]
        results = ran(fleet, *together, *apart_cells(12))
        assert {result.verdict for result in results} == {Verdict.PASS}
        assert max(most.values()) == 1
        assert {name for name, _ in cluster.sent} == set(THREE)
        assert not any("spread" in cell_id for _, cell_id in cluster.sent)


def test_agents_of_the_nodes_stay_warm_over_many_cells_and_runs() -> None:
    with desk(Ranks(), "1", "2") as (cluster, fleet):
        for _ in range(2):
            ran(fleet, *apart_cells(10))
        assert [cluster.runtimes[name].started for name in ("1", "2")] == [1, 1]
        fleet.release()
        channels = [channel for each in cluster.runtimes.values() for channel in each.open_channels]
        assert happens(lambda: all(channel._gone for channel in channels))
        ran(fleet, *apart_cells(1))
        fleet.release()


def test_a_result_of_the_code_under_test_is_never_tried_again() -> None:
    def fails(version: str, job: Job) -> Job:
        return ended(version, exit_code=1, error={"type": "RuntimeError", "text": "No route to host"}, error_after=0.01)

    ranks = Ranks(n2=fails)
    with desk(ranks, "1", "2") as (_, fleet):
        results = ran(fleet, *apart_cells(8))
        assert {(result.verdict, len(result.attempts)) for result in results} == {(Verdict.FAIL, 1)}
        assert len(ranks.jobs) == 16


def test_a_group_that_hangs_has_the_stacks_of_its_ranks_and_gives_its_slots_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torchskew.engine.attempt.busy", lambda: False)
    monkeypatch.setattr("torchskew.engine.attempt.deadline", lambda cell: 1.0)

    def hangs(version: str, job: Job) -> Job:
        return {HANG: True} if job["variant"] != "0" or job["rank"] else right(version, job)

    with desk(Ranks(n1=hangs, n2=hangs), "1", "2", jobs=1) as (_, fleet):
        first, second = ran(fleet, *apart_cells(2))
        assert {first.verdict, second.verdict} == {Verdict.FAIL}
        assert Outcome.HANG in first.outcomes
        assert Outcome.HANG in second.outcomes
        assert all("wait" in facts.stacks for facts in first.ranks if facts.killed)


@pytest.mark.parametrize("stays", [False, True])
def test_a_lost_node_costs_its_cells_an_attempt_and_other_nodes_run_them_again(stays: bool) -> None:
    ranks, struck = Ranks(), threading.Event()
    with desk(ranks, *THREE) as (cluster, fleet):

        def once(version: str, job: Job) -> Job:
            if struck.is_set():
                return right(version, job)
            struck.set()
            threading.Thread(target=cluster.lose, args=("2",), kwargs={"stays": stays}).start()
            return {HANG: True}

        ranks.special["n2"] = once
        cells = apart_cells(20, timeout=PATIENCE)
        results = ran(fleet, *cells)
        assert {result.verdict for result in results} == {Verdict.PASS}
        again = [result for result in results if len(result.attempts) > 1]
        assert again
        for result in again:
            first, second = result.attempts
            assert (first.number, second.number, second.fault) == (1, 2, None)
            assert "node 2 was lost: killed by the test" in str(first.fault)
            assert "ranks on" in str(first.fault)
        fleet.release()


def test_an_agent_that_dies_is_the_machines_fault_three_times_at_most() -> None:
    dying = Ranks(n1=lambda version, job: {DIE: True} if job["rank"] == 0 else {HANG: True}, n2=lambda *_: {HANG: True})
    with desk(dying, "1", "2") as (_, fleet):
        (result,) = ran(fleet, *apart_cells(1, timeout=PATIENCE))
        assert (result.verdict, len(result.attempts)) == (Verdict.UNKNOWN, ATTEMPTS)
        assert [attempt.number for attempt in result.attempts] == [1, 2, 3]
        assert all("the agent is gone" in str(attempt.fault) for attempt in result.attempts)


def test_a_node_that_can_not_start_the_agent_says_why() -> None:
    class Full(FakeRuntime):
        def start(self, *_: Any, **__: Any) -> Any:
            raise OSError("no space left on the disk of this node")

    cluster = LocalCluster({"1": FakeRuntime(), "2": Full()})
    try:
        (result,) = ran(gathered(cluster), *apart_cells())
        assert (result.verdict, len(result.attempts)) == (Verdict.UNKNOWN, ATTEMPTS)
        assert "no space left on the disk of this node" in str(result.attempts[0].fault)
    finally:
        cluster.close()


def test_a_group_that_is_larger_than_the_fleet_is_unknown_and_says_so() -> None:
    with desk(Ranks(), "1", "2") as (_, fleet):
        large, small = apart_cells(1, ("1.0.0", "2.0.0", "1.0.0")), apart_cells(1)
        results = {result.cell.id: result for result in ran(fleet, *large, *small)}
        assert results[small[0].id].verdict is Verdict.PASS
        assert results[large[0].id].verdict is Verdict.UNKNOWN
        assert "the fleet has no 3 nodes for ranks of 1.0.0, 2.0.0, 1.0.0" in results[large[0].id].reason


def test_a_run_that_is_closed_ends_its_attempts_and_the_next_one_starts_anew() -> None:
    hanging = threading.Event()

    def hangs(version: str, job: Job) -> Job:
        if hanging.is_set() or job["variant"] == "0":
            return right(version, job)
        return {HANG: True}

    with desk(Ranks(n1=hangs, n2=hangs), "1", "2") as (_, fleet):
        running = fleet.run(work(fleet, *apart_cells(4, timeout=PATIENCE)), {})
        assert next(running).cell.variant == Variant(name="0")
        running.close()
        before = [thread.name for thread in threading.enumerate() if "placement-spread" in thread.name]
        assert happens(lambda: not any("placement-spread" in thread.name for thread in threading.enumerate())), before
        hanging.set()
        assert {result.verdict for result in ran(fleet, *apart_cells(4))} == {Verdict.PASS}
        fleet.release()


def test_the_ranks_of_a_cell_get_distinct_nodes_whatever_the_order_in_which_nodes_are_taken() -> None:
    def has(name: str, *versions: str) -> Node:
        return Node(facts=node(name), slots=1, ready=True, versions=frozenset(versions))

    need = Need.of(cell(skew=("a", "b", "c"), placement=Placement.SPREAD), alone=False)
    everything, few = has("1", "a", "b", "c"), has("2", "a")
    chosen = apart(need.of_ranks, (everything, few, has("3", "a", "b")), Node.free)
    assert [each.facts.name for each in chosen] == ["2", "3", "1"]
    assert apart(need.of_ranks, (everything, few, has("3", "a")), Node.free) == ()


def test_only_free_nodes_get_a_rank_and_each_of_them_has_one_slot_less() -> None:
    among = [Node(facts=node(name), slots=1, ready=True, versions=frozenset(NAMES)) for name in THREE]
    need = Need.of(cell(placement=Placement.SPREAD), alone=False)
    placing = Placing(among)
    first, second = apart_cells(2)
    assert [each.facts.name for each in placing.spread(Order(cell=first), need, 0.0)] == ["1", "2"]
    assert placing.room == 1
    assert placing.spread(Order(cell=second), need, 0.0) == ()
    assert [each.working for each in among] == [1, 1, 0]


class Told:
    """What a relay says, by key."""

    def __init__(self, ports: Ports | None = None) -> None:
        self.heard: list[Relayed] = []
        self.relay = Relay(self.heard.append, ports or Ports())

    def of(self, kind: type[Relayed]) -> list[Any]:
        return [each for each in self.heard if isinstance(each, kind)]


def request(**fields: Any) -> LineRequest:
    return LineRequest(**{"key": 1, "version": "1.0.0", "folders": NO_FOLDERS, "address": "10.0.0.7", **fields})


def test_lines_reach_an_agent_in_the_order_of_their_numbers() -> None:
    sent: list[bytes] = []

    class Quiet(FakeChannel):
        def send(self, line: bytes) -> None:
            sent.append(line)

    told = Told()
    told.relay.open(request(), lambda: Quiet("1.0.0", right, {}))
    for number in (2, 0, 3, 1):
        told.relay.write(1, number, b"%d" % number)
    assert sent == [b"0", b"1", b"2", b"3"]
    told.relay.hang_up(1)
    assert happens(lambda: told.of(LineEnded))
    told.relay.write(1, 4, b"4")
    assert [each.why for each in told.of(LineEnded)] == ["", "the agent is no longer there"]


def test_ranks_are_reached_by_the_nodes_address_or_by_the_interface_that_was_chosen() -> None:
    told = Told()
    start = lambda: FakeChannel("1.0.0", right, {})  # noqa: E731 - three requests start the same
    told.relay.open(request(), start)
    told.relay.open(request(key=2, interface="lo"), start)
    told.relay.open(request(key=3, interface="127.0.0.0/8"), start)
    told.relay.open(request(key=4, interface="10.255.255.0/30"), start)
    own, by_name, by_network = told.of(LineOpened)
    assert (own.host, own.rank_env) == ("10.0.0.7", {})
    assert (by_name.host, by_name.rank_env) == ("127.0.0.1", {"GLOO_SOCKET_IFNAME": "lo"})
    assert (by_network.host, by_network.rank_env) == ("127.0.0.1", {"GLOO_SOCKET_IFNAME": "lo"})
    (refused,) = told.of(LineEnded)
    assert refused.key == 4
    assert "fleet.interface '10.255.255.0/30': " in refused.why
    assert "lo 127.0.0.1" in refused.why
    for key in (1, 2, 3):
        told.relay.hang_up(key)


def test_a_port_is_held_until_it_is_given_back_or_the_run_ends_and_none_left_is_told() -> None:
    ports = Ports()
    told = Told(ports)
    told.relay.lease(1)
    told.relay.lease(2)
    first, second = told.of(PortLeased)
    assert first.port != second.port
    assert bind_exclusively(first.port) is None
    told.relay.give_back(1)
    told.relay.end()
    for leased in (first, second):
        free = bind_exclusively(leased.port)
        assert free is not None
        free.close()
    ports._count = 0
    told.relay.lease(3)
    assert "no free port" in told.of(LineEnded)[0].why


def test_what_an_agent_writes_comes_line_by_line() -> None:
    told = Told()
    told.relay.open(request(), lambda: FakeChannel("1.0.0", right, {}))
    told.relay.write(1, 0, b'{"op": "boot", "imports": []}')
    assert happens(lambda: told.of(LineSpoke))
    assert b'"ready"' in told.of(LineSpoke)[0].text
    told.relay.hang_up(1)
