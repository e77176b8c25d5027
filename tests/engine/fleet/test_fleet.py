"""A fleet without Ray: who gets which cell, what a lost node means, who is left out; every cell has one result."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from torchskew.engine.fleet import fleet as fleet_module
from torchskew.engine.fleet.cluster import Answer, Lost, Refused
from torchskew.engine.fleet.fleet import Fleet
from torchskew.engine.fleet.messages import Stuck
from torchskew.engine.trial import ATTEMPTS
from torchskew.errors import ConfigError, MachineError, ProvisionError
from torchskew.model.cells import Cell, Variant
from torchskew.model.declared import NO_FLEET, FleetSpec, NodeNeed
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.model.versions import Environment, Version
from torchskew.runtimes.fake import HANG, REFUSE, FakeRuntime, ended, right

from tests.conftest import Silent
from tests.engine.fleet.desk import NAMES, LocalCluster, cell, gathered, node, version, work
from tests.patience import PATIENCE, happens

THREE = ("a", "b", "c")
Script = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet looks for nodes all the time, and gives up hope at once."""
    monkeypatch.setattr(fleet_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(fleet_module, "HOPE_SECONDS", 0.0)
    monkeypatch.setattr(fleet_module, "NEWS_SECONDS", 0.05)


def variants(count: int, name: str = "meet", **fields: Any) -> list[Cell]:
    return [cell(name, variant=Variant(name=str(number)), **fields) for number in range(count)]


def fails(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
    return ended(version, exit_code=1, error={"type": "RuntimeError", "text": "reset"}, error_after=0.01)


@contextmanager
def desk(
    *names: str, script: Script = right, spec: FleetSpec = NO_FLEET, jobs: int = 4
) -> Iterator[tuple[LocalCluster, Fleet, Silent]]:
    cluster, progress = LocalCluster({name: FakeRuntime(script) for name in names}), Silent()
    try:
        yield cluster, gathered(cluster, spec, jobs=jobs, progress=progress), progress
    finally:
        cluster.close()


def ran(fleet: Fleet, *cells: Cell, names: tuple[str, ...] = NAMES) -> list[CellResult]:
    results = list(fleet.run(work(fleet, *cells, names=names), {}))
    assert Counter(result.cell.id for result in results) == Counter(each.id for each in cells)
    return results


def test_every_cell_of_a_fleet_gets_exactly_one_result_and_every_node_runs_some() -> None:
    with desk(*THREE) as (cluster, fleet, _):
        cells = variants(300)
        results = ran(fleet, *cells)
        assert {result.verdict for result in results} == {Verdict.PASS}
        assert {len(result.attempts) for result in results} == {1}
        assert {name for name, _ in cluster.sent} == set(THREE)
        fleet.release()


def test_a_result_of_the_code_under_test_is_never_tried_again() -> None:
    with desk(*THREE, script=fails) as (cluster, fleet, _):
        results = ran(fleet, *variants(30))
        assert {result.verdict for result in results} == {Verdict.FAIL}
        assert {len(result.attempts) for result in results} == {1}
        assert len(cluster.sent) == 30


def test_a_failure_blocks_on_every_node_what_needs_it() -> None:
    with desk("a", "b", script=fails) as (_, fleet, _):
        meet = cell()
        needing = cell("after", needs=(meet.id,))
        results = {result.cell.id: result for result in ran(fleet, meet, needing)}
        assert (results[needing.id].verdict, results[needing.id].blocked_by) == (Verdict.BLOCKED, meet.id)


class Struck:
    """A script that hangs on one node until that is struck, which happens once `count` of its cells hang."""

    def __init__(self, cluster: LocalCluster, victim: str, count: int, *, stays: bool = False) -> None:
        self.cluster, self.victim, self.count, self.stays = cluster, victim, count, stays
        self.struck = False
        self._hanging: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._lock:
            if self.struck:
                return right(version, job)
            self._hanging.add(job["variant"])
            if len(self._hanging) == self.count and job["rank"] == job["world_size"] - 1:
                self.struck = True
                threading.Thread(target=self.cluster.lose, args=(self.victim,), kwargs={"stays": self.stays}).start()
            return {HANG: True}


@pytest.mark.parametrize("stays", [False, True])
def test_the_cells_of_a_lost_node_are_started_anew_and_the_record_shows_the_lost_attempt(stays: bool) -> None:
    cluster = LocalCluster({name: FakeRuntime() for name in THREE})
    cluster.runtimes["b"].script = Struck(cluster, "b", 4, stays=stays)
    progress = Silent()
    try:
        fleet = gathered(cluster, progress=progress)
        results = ran(fleet, *variants(60))
        assert {result.verdict for result in results} == {Verdict.PASS}
        lost = [result for result in results if len(result.attempts) > 1]
        assert len(lost) >= 4
        for result in lost:
            first, second = result.attempts
            assert (first.number, second.number, second.fault) == (1, 2, None)
            assert first.fault == "node b was lost: killed by the test"
            assert {rank.machine for rank in first.ranks} == {first.fault}
        assert "lost       b: killed by the test" in progress.said
        if not stays:
            assert set(fleet.nodes) == {"a", "c"}
    finally:
        cluster.close()


def test_attempts_that_a_node_retried_itself_are_in_the_record_when_it_is_lost() -> None:
    cluster = LocalCluster({"a": FakeRuntime(), "b": FakeRuntime()})
    tried, struck = Counter[int](), threading.Event()
    fleets: list[Fleet] = []

    def strike() -> None:
        """Once the driver has heard of the retried attempt."""
        assert happens(lambda: any(each.order.earlier for each in fleets[0].nodes["a"].open.values()))
        cluster.lose("a")

    def spoiled_then_lost(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        tried[job["rank"]] += 1
        if tried[job["rank"]] == 1:
            return {REFUSE: "the port was taken"}
        if not struck.is_set():
            struck.set()
            threading.Thread(target=strike).start()
        return {HANG: True}

    cluster.runtimes["a"].script = spoiled_then_lost
    try:
        fleets.append(gathered(cluster))
        (result,) = ran(fleets[0], *variants(1, timeout=PATIENCE))
        spoiled, gone, right_one = result.attempts
        assert result.verdict is Verdict.PASS
        assert [each.number for each in result.attempts] == [1, 2, 3]
        assert "the port was taken" in str(spoiled.fault)
        assert gone.fault == "node a was lost: killed by the test"
        assert right_one.fault is None
    finally:
        cluster.close()


def test_a_node_that_joins_in_the_middle_gets_cells() -> None:
    cluster = LocalCluster({name: FakeRuntime() for name in ("a", "b")}, node("a"))
    progress = Silent()
    try:
        fleet = gathered(cluster, progress=progress, jobs=1)
        asked = work(fleet, *variants(400))
        results = []
        for number, result in enumerate(fleet.run(asked, {})):
            results.append(result)
            if number == 5:
                cluster.living["b"] = node("b")
        assert len(results) == 400
        assert "joined     b" in progress.said
        assert {name for name, _ in cluster.sent} == {"a", "b"}
    finally:
        cluster.close()


def test_a_cell_that_loses_every_node_it_is_on_is_unknown_after_the_usual_attempts() -> None:
    names = ("a", "b", "c", "d")
    cluster = LocalCluster({name: FakeRuntime() for name in names})
    for name in names:
        cluster.runtimes[name].script = Struck(cluster, name, 1)
    try:
        (result,) = ran(gathered(cluster), cell(variant=Variant(name="killer")))
        assert (result.verdict, len(result.attempts)) == (Verdict.UNKNOWN, ATTEMPTS)
        assert set(result.outcomes) == {Outcome.NOT_RUN}
        assert len({attempt.fault for attempt in result.attempts}) == ATTEMPTS  # each on another node
    finally:
        cluster.close()


def test_a_fleet_without_a_node_says_how_much_is_left() -> None:
    cluster = LocalCluster({"a": FakeRuntime()})
    cluster.runtimes["a"].script = Struck(cluster, "a", 1)
    try:
        fleet = gathered(cluster)
        with pytest.raises(MachineError, match="no node of the fleet is left, and 2 cells have no result yet"):
            ran(fleet, *variants(2))
    finally:
        cluster.close()


def test_a_node_whose_machine_gives_up_is_left_and_its_cells_run_elsewhere() -> None:
    class Full(FakeRuntime):
        def start(self, *_: Any, **__: Any) -> Any:
            raise MachineError("no space left on the disk of this node")

    cluster, progress = LocalCluster({"a": Full(), "b": FakeRuntime()}), Silent()
    try:
        results = ran(gathered(cluster, progress=progress), *variants(40))
        assert {result.verdict for result in results} == {Verdict.PASS}
        assert cluster.hired.count("a") == fleet_module.HIRES
        assert progress.said.count("lost       a: no space left on the disk of this node") == fleet_module.HIRES
    finally:
        cluster.close()


def test_versions_run_only_where_the_declaration_lets_them() -> None:
    spec = FleetSpec(needs=(NodeNeed(versions="2.*", labels={"kind": "h100"}, resources={"CPU": 4}),))
    facts = (node("a"), node("b", 8, kind="h100"), node("c", 2, kind="h100"))
    cluster = LocalCluster({name: FakeRuntime() for name in THREE}, *facts)
    try:
        fleet = gathered(cluster, spec)
        free = variants(20, skew=("1.0.0", "1.0.0"))
        ran(fleet, *variants(20), *free)
        mixed = [name for name, cell_id in cluster.sent if "2.0.0" in cell_id]
        assert set(mixed) == {"b"}
        assert len(mixed) == 20
    finally:
        cluster.close()


def test_a_version_that_no_node_may_run_is_not_provided_and_says_why() -> None:
    spec = FleetSpec(needs=(NodeNeed(versions="2.*", labels={"kind": "h100"}),))
    with desk("a", spec=spec) as (_, fleet, _):
        made = fleet.provision((version("1.0.0"), version("2.0.0")), Silent())
        assert isinstance(made["1.0.0"], Environment)
        assert "no node of the fleet has the labels" in str(made["2.0.0"])


def test_a_version_that_one_node_can_provide_runs_there_and_failures_name_their_nodes() -> None:
    cluster = LocalCluster({"a": FakeRuntime(broken=("2.0.0",)), "b": FakeRuntime(broken=("3.0.0",))})
    cluster.runtimes["a"].broken += ("3.0.0",)
    try:
        fleet = gathered(cluster)
        made = fleet.provision(tuple(map(version, ("1.0.0", "2.0.0", "3.0.0"))), Silent())
        assert isinstance(made["3.0.0"], ProvisionError)
        assert str(made["3.0.0"]) == "a: 3.0.0 is broken by the test\nb: 3.0.0 is broken by the test"
        ran(fleet, *variants(10))
        assert {name for name, _ in cluster.sent} == {"b"}
    finally:
        cluster.close()


def test_a_cell_whose_versions_no_single_node_has_is_unknown_and_says_so() -> None:
    cluster = LocalCluster({"a": FakeRuntime(broken=("2.0.0",)), "b": FakeRuntime(broken=("1.0.0",))})
    try:
        (result,) = ran(gathered(cluster), cell())
        assert result.verdict is Verdict.UNKNOWN
        assert "no node of the fleet has all of 1.0.0, 2.0.0" in result.reason
    finally:
        cluster.close()


def test_an_environment_that_differs_from_the_first_is_not_used() -> None:
    class Other(FakeRuntime):
        def provision(self, version: Version, progress: Any) -> Environment:
            made = super().provision(version, progress)
            return Environment(version=made.version, runtime="venv", identity=f"other-{version.name}", handle="")

    cluster, progress = LocalCluster({"a": FakeRuntime(), "b": Other()}), Silent()
    try:
        ran(gathered(cluster, progress=progress), *variants(20))
        assert {name for name, _ in cluster.sent} == {"a"}
        assert any(line.startswith("left out   b: its 1.0.0 is other-1.0.0") for line in progress.said)
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"torchskew": "0.0.1"}, r"b has torchskew 0.0.1, this is .* Install torchskew\[fleet\]=="),
        ({"code": "0"}, "b has other code of torchskew"),
    ],
)
def test_another_torchskew_on_a_node_is_an_error_of_the_user(changed: dict[str, str], says: str) -> None:
    cluster = LocalCluster({"a": FakeRuntime(), "b": FakeRuntime()})
    cluster.changed["b"] = changed
    try:
        with pytest.raises(ConfigError, match=says):
            gathered(cluster)
    finally:
        cluster.close()


def test_a_node_where_the_runtime_does_not_answer_is_left_out() -> None:
    cluster, progress = LocalCluster({"a": FakeRuntime(), "b": FakeRuntime()}), Silent()
    cluster.changed["b"] = {"silent": {"venv": "uv is missing"}}
    try:
        fleet = gathered(cluster, progress=progress)
        assert set(fleet.nodes) == {"a"}
        assert progress.said == ["left out   b: venv does not answer there: uv is missing"]
    finally:
        cluster.close()


def test_a_cell_that_measures_has_its_node_for_itself() -> None:
    working: Counter[str] = Counter()
    wrong: list[str] = []
    lock = threading.Lock()

    def script(node: str) -> Script:
        def rank(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
            with lock:
                working[node] += 1
            alone = job["world_size"] == 1
            threading.Event().wait(0.01)
            with lock:
                if alone and working[node] > 1:
                    wrong.append(job["variant"])
                working[node] -= 1
            return right(version, job)

        return rank

    cluster = LocalCluster({name: FakeRuntime(script(name)) for name in ("a", "b")})
    try:
        measuring = variants(6, "alone", skew=("1.0.0",))
        results = ran(gathered(cluster), *variants(40), *measuring)
        assert {result.verdict for result in results} == {Verdict.PASS}
        assert wrong == []
    finally:
        cluster.close()


def test_an_interrupted_run_leaves_no_agent_and_the_next_one_starts_anew() -> None:
    with desk("a", "b") as (cluster, fleet, _):
        running = fleet.run(work(fleet, *variants(50)), {})
        next(running)
        running.close()
        fleet.release()
        channels = [channel for each in cluster.runtimes.values() for channel in each.open_channels]
        assert channels
        assert all(channel._gone for channel in channels)
        assert len(ran(fleet, *variants(20))) == 20
        fleet.release()


def test_what_came_in_at_once_is_heard_by_the_next_run_when_one_is_closed_in_the_middle_of_it() -> None:
    class AtOnce(LocalCluster):
        """Both nodes have news whenever it is asked: one of them is heard when the run is closed."""

        def answers(self, seconds: float) -> Sequence[Answer | Refused | Lost]:
            time.sleep(0.3)
            return super().answers(seconds)

    cluster = AtOnce({"a": FakeRuntime(), "b": FakeRuntime()})
    try:
        fleet = gathered(cluster)
        running = fleet.run(work(fleet, *variants(50)), {})
        next(running)
        running.close()
        fleet.release()
        results: list[CellResult] = []
        again = threading.Thread(target=lambda: results.extend(ran(fleet, *variants(20))), daemon=True)
        again.start()
        again.join(PATIENCE)
        assert len(results) == 20
        fleet.release()
    finally:
        cluster.close()


def test_a_late_refusal_of_news_is_not_the_answer_to_the_next_question() -> None:
    with desk("a", "b") as (cluster, fleet, _):
        ran(fleet, *variants(8))
        fleet._unheard.append(Refused(node="a", question="news", why="its lease ran out"))
        fleet.release()
        channels = [channel for each in cluster.runtimes.values() for channel in each.open_channels]
        assert channels
        assert all(channel._gone for channel in channels)
        assert set(fleet.nodes) == {"a", "b"}
        assert len(ran(fleet, *variants(8))) == 8
        fleet.release()


def test_what_a_lost_worker_said_last_is_not_taken_for_an_answer_of_the_next_worker_there() -> None:
    with desk("a", "b") as (cluster, fleet, progress):
        work(fleet, cell())
        fleet._unheard.append(Answer(node="a", question="brief", value=None))
        fleet.lose(fleet.nodes["a"], "by the test")
        list(fleet.events())
        assert cluster.hired.count("a") == 2
        assert "joined     a" not in progress.said


def test_news_of_an_earlier_run_says_nothing_about_the_same_cell_in_this_one() -> None:
    class Late(LocalCluster):
        def tell(self, node: str, what: str, *given: Any) -> None:
            for order in given[0]:
                old = Stuck(cell=order.cell.id, why="the run has ended on this node", ticket=order.ticket - 1)
                self.workers[node]._news.put(old)
            super().tell(node, what, *given)

    cluster = Late({"a": FakeRuntime()})
    try:
        results = ran(gathered(cluster), *variants(20))
        assert {(result.verdict, len(result.attempts)) for result in results} == {(Verdict.PASS, 1)}
        assert cluster.hired == ["a"]
    finally:
        cluster.close()


def test_known_results_only_unlock_what_needs_them() -> None:
    with desk("a") as (cluster, fleet, _):
        meet, needing = cell(), cell("after", needs=(cell().id,))
        (known,) = ran(fleet, meet)
        cluster.sent.clear()
        results = list(fleet.run(work(fleet, meet, needing), {meet.id: known}))
        assert [result.cell.id for result in results] == [needing.id]
        assert [cell_id for _, cell_id in cluster.sent] == [needing.id]
