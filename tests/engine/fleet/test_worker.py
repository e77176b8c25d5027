"""A worker by itself: what its driver no longer asks for ends, and what it can't do it says."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from torchskew.engine import attempt
from torchskew.engine.fleet import worker as worker_module
from torchskew.engine.fleet.messages import Briefing, Finished, Order, Stuck, Waiting
from torchskew.engine.fleet.worker import Worker
from torchskew.errors import MachineError
from torchskew.model.cells import Cell, Variant
from torchskew.planning.scenario import World
from torchskew.runtimes.fake import HANG, FakeRuntime
from torchskew.runtimes.ownership import cache_folder

from tests.engine.fleet import scripted
from tests.engine.fleet.desk import MEET, NAMES, cell, version
from tests.patience import PATIENCE, happens


@pytest.fixture(autouse=True)
def _at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that waits says so although this machine is busy."""
    monkeypatch.setattr(attempt, "busy", lambda: False)


BRIEFING = Briefing(run_id="worker-run", seed=0, scenarios={"meet": MEET.without_judge()}, imports={})


def briefed(runtime: FakeRuntime, *, lease: float = PATIENCE) -> Worker:
    worker = Worker("n", lambda _: runtime, lease)
    worker.use("venv")
    worker.provide(tuple(map(version, NAMES)))
    worker.brief(BRIEFING)
    return worker


def order(name: str = "0", **fields: object) -> Order:
    made: Cell = cell(variant=Variant(name=name), **fields)
    return Order(cell=made, ticket=7)


def test_what_happened_is_news_once_and_in_its_order() -> None:
    worker = briefed(FakeRuntime())
    worker.begin([order("0")])
    (first,) = worker.news(PATIENCE)
    worker.begin([order("1"), order("2")])
    later = [*worker.news(PATIENCE)]
    while len(later) < 2:
        later += worker.news(PATIENCE)
    assert isinstance(first, Finished)
    assert {item.cell for item in later} == {order("1").cell.id, order("2").cell.id}
    assert worker.news(0.01) == ()
    worker.release()


def test_a_repetition_makes_anew_what_an_earlier_one_made_for_all_of_a_run() -> None:
    worker = briefed(runtime := FakeRuntime())
    worker.begin([order()])
    assert worker.news(PATIENCE)
    assert [channel.forgot for channel in runtime.open_channels] == [0] * len(runtime.open_channels)
    worker.brief(BRIEFING)
    worker.begin([order()])
    assert worker.news(PATIENCE)
    assert [channel.forgot for channel in runtime.open_channels] == [1] * len(runtime.open_channels)
    assert runtime.open_channels
    worker.release()


def test_a_cell_that_merely_waits_is_news_before_its_end() -> None:
    worker = briefed(FakeRuntime(lambda *_: {HANG: True}))
    worker.begin([order(timeout=PATIENCE)])
    assert worker.news(PATIENCE) == (Waiting(cell=order().cell.id, ticket=7),)
    worker.release()


def test_attempts_lost_elsewhere_count_and_are_handed_back() -> None:
    worker = briefed(FakeRuntime())
    worker.begin([order()])
    (done,) = worker.news(PATIENCE)
    assert isinstance(done, Finished)
    worker.begin([Order(cell=order().cell, earlier=done.attempts)])
    (again,) = worker.news(PATIENCE)
    assert isinstance(again, Finished)
    assert [attempt.number for attempt in again.attempts] == [1, 2]
    worker.release()


def test_a_cell_for_a_run_that_has_ended_is_not_begun() -> None:
    worker = briefed(FakeRuntime())
    worker.release()
    worker.begin([order()])
    assert worker.news(PATIENCE) == (Stuck(cell=order().cell.id, why="the run has ended on this node", ticket=7),)


def test_a_driver_that_asks_for_nothing_loses_its_lease_and_nothing_is_left() -> None:
    runtime = FakeRuntime()
    worker = briefed(runtime, lease=0.5)
    worker.begin([order()])
    folder = cache_folder() / "runs" / "worker-run.n"
    assert happens(lambda: not folder.exists() and runtime.open_channels and runtime.open_channels[0]._gone)
    with pytest.raises(MachineError, match="its lease ran out: the driver asked for nothing"):
        worker.news(0.01)


def test_a_driver_that_waits_for_an_answer_keeps_its_lease() -> None:
    worker = briefed(FakeRuntime(), lease=0.3)
    for _ in range(5):
        assert worker.news(0.3) == ()
    worker.release()


def test_a_judge_stays_with_the_driver() -> None:
    assert MEET.without_judge() == MEET
    world = World(size=2, skew=NAMES, params={}, skip={}, seed=0)
    with pytest.raises(NotImplementedError, match="the reports of 1 of 2 ranks are judged by the driver"):
        MEET.without_judge().judge([None], world)


def test_a_lost_worker_that_does_not_end_is_ended_and_its_folder_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_DYING_SECONDS", 0.1)
    program = "import sys, time\nfrom torchskew.runtimes.ownership import opened, owner\n"
    program += "run = opened('worker-run.lost'); run.__enter__(); print(owner(), flush=True); time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as lost:
        assert lost.stdout is not None
        owner = lost.stdout.readline().strip()
        folder = cache_folder() / "runs" / "worker-run.lost"
        assert folder.exists()
        worker = Worker("n", scripted.make)
        worker.use("venv")
        assert str(folder) in worker.bury([owner])
        assert not folder.exists()
        assert lost.wait(PATIENCE) == -signal.SIGKILL


def test_whatever_goes_wrong_in_a_worker_is_its_machines_fault_in_words() -> None:
    class Broken(FakeRuntime):
        def describe(self) -> str:
            raise RuntimeError("can't start new thread")

    worker = Worker("n", lambda _: Broken())
    with pytest.raises(MachineError, match="RuntimeError: can't start new thread"):
        worker.use("venv")
    assert worker.greet().silent == {}
