"""A fleet over a real Ray cluster of three nodes on this machine: nothing is lost or counted twice, nothing is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from torchskew.engine.fleet.fleet import Fleet  # noqa: E402
from torchskew.engine.fleet.ray_cluster import RayCluster, local_nodes  # noqa: E402
from torchskew.errors import ConfigError, MachineError  # noqa: E402
from torchskew.model.cells import Cell, Variant  # noqa: E402
from torchskew.model.outcomes import Placement, Verdict  # noqa: E402
from torchskew.model.results import CellResult  # noqa: E402
from torchskew.runtimes import processes  # noqa: E402

from tests.engine.fleet import scripted  # noqa: E402
from tests.engine.fleet.desk import cell, gathered, work  # noqa: E402
from tests.patience import PATIENCE  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def three() -> Iterator[str]:
    """The address of three nodes."""
    with local_nodes(3) as address:
        yield address


@contextmanager
def fleet_at(address: str) -> Iterator[tuple[RayCluster, Fleet]]:
    cluster = RayCluster(address, scripted.make)
    try:
        yield cluster, gathered(cluster)
    finally:
        cluster.close()


def variants(count: int, **params: Any) -> list[Cell]:
    # A cell's deadline must not come while a node that died is being noticed.
    return [cell(variant=Variant(name=str(number), params=params), timeout=PATIENCE) for number in range(count)]


def ran(fleet: Fleet, *cells: Cell) -> list[CellResult]:
    results = list(fleet.run(work(fleet, *cells), {}))
    assert Counter(result.cell.id for result in results) == Counter(each.id for each in cells)
    return results


def once_hanging(folder: Path, strike: Callable[[int], None]) -> threading.Thread:
    """Strike the process in which cells hang, once two do."""

    def wait() -> None:
        until = time.monotonic() + PATIENCE
        while len(found := sorted({path.name for path in folder.glob("pid-*")})) < 2 and time.monotonic() < until:
            threading.Event().wait(0.05)
        (folder / scripted.STRUCK).touch()
        strike(int(found[0].split("-")[1]))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill_worker(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_raylet(pid: int) -> None:
    worker = processes.look_up(pid)
    assert worker is not None
    os.kill(worker.parent, signal.SIGKILL)


def test_another_release_of_ray_or_python_is_told_before_anything_runs(
    three: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "__version__", "2.50.1")
    with pytest.raises(ConfigError, match=r"(?s)Ray: .*2\.50\.1.* Use the same releases of Ray and Python here"):
        RayCluster(three, scripted.make)


def test_what_three_nodes_do_is_in_one_list_of_results_and_what_dies_is_started_anew(
    three: str, tmp_path: Path
) -> None:
    """One cluster for all of it: to start one takes far longer than all the cells."""
    with fleet_at(three) as (cluster, fleet):
        assert len(fleet.nodes) == 3
        interrupted_once(cluster, fleet)
        spread = [replace(each, placement=Placement.SPREAD) for each in variants(10)]
        assert {result.verdict for result in ran(fleet, *spread)} == {Verdict.PASS}
        results = ran(fleet, *variants(200))
        assert {result.verdict for result in results} == {Verdict.PASS}
        failed = ran(fleet, *variants(30, fails=True))
        assert {(result.verdict, len(result.attempts)) for result in failed} == {(Verdict.FAIL, 1)}
        mine = ray.get_runtime_context().get_node_id()
        others = [name for name in fleet.nodes if name != mine]
        for name, strike in zip(others, (kill_worker, kill_raylet), strict=True):
            folder = tmp_path / strike.__name__
            folder.mkdir()
            striking = once_hanging(folder, strike)
            results = ran(fleet, *variants(60, victim=name, folder=str(folder)))
            striking.join()
            assert {result.verdict for result in results} == {Verdict.PASS}
            again = [result for result in results if len(result.attempts) > 1]
            assert len(again) >= 2
            assert all("was lost" in str(result.attempts[0].fault) for result in again)
            assert {len(result.attempts) for result in again} == {2}
        assert others[1] not in fleet.nodes
        fleet.release()
        assert run_folders() == []


def interrupted_once(cluster: RayCluster, fleet: Fleet) -> None:
    """Ctrl-C while an answer is fetched: the run ends, and the next one still hears of every node."""
    fetch, asked = cluster._ray.get, []

    def interrupting(reference: Any) -> Any:
        asked.append(reference)
        if len(asked) == 4:  # three briefings are answered first, then there is only news
            raise KeyboardInterrupt
        return fetch(reference)

    with pytest.MonkeyPatch.context() as patch:
        running = fleet.run(work(fleet, *variants(60)), {})
        patch.setattr(cluster._ray, "get", interrupting)
        with pytest.raises(KeyboardInterrupt):
            list(running)
    fleet.release()


def run_folders() -> list[Path]:
    from torchskew.runtimes.ownership import cache_folder

    return sorted((cache_folder() / "runs").glob("fleet-run.*"))


def test_a_cluster_that_is_not_there_is_the_machines_fault() -> None:
    with pytest.raises(MachineError, match=r"--fleet 127.0.0.1:1: nothing answers there: .* Start a cluster there"):
        RayCluster("127.0.0.1:1", scripted.make)
