"""The guard in forked ranks of a real release: refusals on every rank, and red where the guard is broken on purpose.

One release is at hand, so the mismatch is a setting that one rank has and the other lacks, which crashes stock gloo.
"""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest
from torchskew.planning.scenario import World
from torchskew.workflows.inputs import read_scenarios

from tests.inside.driver import Driver

pytestmark = [pytest.mark.slow, pytest.mark.torch]
MIXED = "def rank(job):\n    job.rendezvous()\n    return {}\n\n\ndef judge(reports, world):\n    return {}\n"
LAZY = {"TORCH_GLOO_LAZY_INIT": "1"}
UNCHECKED = (
    b"def decide(roster: Roster) -> list[Objection]:",
    b"def decide(roster):\\n    return []\\n\\n\\ndef unused(roster):",
)
EMPTIED = (b"\\nWIRE_SETTINGS = {", b"\\nWIRE_SETTINGS = {}\\nUNUSED = {")
NUMBERS = itertools.count()


def run(driver: Driver, name: str, jobs: list[dict]) -> list[str]:
    """Start one rank for each job of a cell; their ids."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cell = next(NUMBERS)
    for rank, job in enumerate(jobs):
        fields = {"rank": rank, "world_size": len(jobs), "port": port, "timeout": 6.0, "guard": True, **job}
        driver.start(f"{cell}:{rank}", name, **fields)
    return [f"{cell}:{rank}" for rank in range(len(jobs))]


def ended(driver: Driver, ids: list[str]) -> list[dict]:
    """The reports of all ranks, in order."""
    ends = {end["id"]: end for end in (driver.until("exited") for _ in ids)}
    return [ends[one]["report"] for one in ids]


def refused(driver: Driver, ids: list[str]) -> bool:
    """Whether every rank ends with the guard's error; the others are killed as soon as one ends otherwise."""
    clean = True
    for _ in ids:
        end = driver.until("exited")
        error = (end["report"] or {}).get("error") or {"type": "", "text": ""}
        if clean and (not error["type"].endswith("ProtocolVersionError") or "2.13.0" not in error["text"]):
            clean = False
            for other in set(ids) - {end["id"]}:
                driver.send("signal", id=other, signal="KILL")
    return clean


@pytest.mark.parametrize("odd", range(3))
def test_one_odd_rank_at_any_position_is_refused_on_every_rank(agent: Driver, odd: int) -> None:
    agent.load(MIXED, "mixed")
    assert refused(agent, run(agent, "mixed", [{"env": LAZY if rank == odd else {}} for rank in range(3)]))


@pytest.mark.parametrize("doctored", [UNCHECKED, EMPTIED], ids=["check-removed", "table-emptied"], indirect=True)
def test_a_broken_guard_is_red(doctored: Driver) -> None:
    doctored.load(MIXED, "mixed")
    assert not refused(doctored, run(doctored, "mixed", [{"env": LAZY}, {}]))


@pytest.mark.parametrize("unguarded", [0, 1])
def test_one_unguarded_rank_is_red(agent: Driver, unguarded: int) -> None:
    agent.load(MIXED, "mixed")
    jobs = [{"env": {} if rank else LAZY, "guard": rank != unguarded, "timeout": 2.0} for rank in range(2)]
    assert not refused(agent, run(agent, "mixed", jobs))


@pytest.mark.parametrize(
    ("name", "size"), [("guard_admits", 2), ("guard_admits", 3), ("guard_late_rank", 2), ("guard_refuses", 2)]
)
def test_the_guards_scenarios_are_right_in_one_release(agent: Driver, tmp_path: Path, name: str, size: int) -> None:
    scenario = read_scenarios()[name]
    agent.load(scenario.source, name)
    for variant in scenario.variants:
        assert variant
        share = tmp_path / f"share-{variant.name}"
        share.mkdir()
        more = {"variant": variant.name, "params": dict(variant.params), "share": str(share), "skew": ["2.13.0"] * size}
        jobs = [{**more, "env": dict(variant.rank_env.get(rank, {}))} for rank in range(size)]
        reports = ended(agent, run(agent, name, jobs))
        if any(report["unsupported"] for report in reports):
            continue
        assert all(report["finished"] for report in reports), [report["error"] for report in reports]
        world = World(size=size, skew=("2.13.0",) * size, params=variant.params, skip={}, seed=0)
        assert scenario.judge([report["payload"] for report in reports], world) == {}


@pytest.mark.parametrize("variant", ["world_size", "outside", "backend", "method", "file", "file_host", "twice"])
def test_a_wrong_group_is_refused_on_every_rank(agent: Driver, tmp_path: Path, variant: str) -> None:
    scenario = read_scenarios()["guard_wrong_group"]
    agent.load(scenario.source, "guard_wrong_group")
    params = {one.name: dict(one.params) for one in scenario.variants if one}[variant]
    jobs = [{"variant": variant, "params": params, "share": str(tmp_path)}] * 3
    assert refused(agent, run(agent, "guard_wrong_group", jobs))


def judged(agent: Driver, cells: list[tuple[str, str, list[dict]]], share: Path) -> list[dict[int, str]]:
    """Run cells (scenario, variant, what differs for each rank) side by side; what the judges say."""
    started = []
    for number, (name, chosen, jobs) in enumerate(cells):
        scenario = read_scenarios()[name]
        agent.load(scenario.source, name)
        variant = next(one for one in scenario.variants if one and one.name == chosen)
        more = {"variant": chosen, "params": dict(variant.params), "env": dict(variant.env)}
        more |= {"share": str(share / f"share-{number}"), "timeout": scenario.patience}
        ids = run(agent, name, [{**more, **job} for job in jobs])
        world = World(size=len(jobs), skew=("2.13.0",) * len(jobs), params=variant.params, skip={}, seed=0)
        started.append((scenario, world, ids))
    ends = [agent.until("exited") for _, _, ids in started for _ in ids]
    payloads = {end["id"]: end["report"]["payload"] if end["report"]["finished"] else None for end in ends}
    return [dict(scenario.judge([payloads[one] for one in ids], world)) for scenario, world, ids in started]


HOST = ("guard_one_sided", "named", [{}, {"guard": False}])
JOINERS = ("guard_one_sided", "named", [{"guard": False}, {}])
LATE = (b"min(0.15 * seconds, 10.0)", b"0.3 * seconds")
HALF = (rb"""b\"\\x00\\xce\\xf7\\x85\\x3c\" + b\"\\x07\" * 4""", rb"""b\"\\x00\\xce\\xf7\\x85\"""")


def test_a_guard_on_one_side_says_so_within_a_quarter_of_the_timeout(agent: Driver, tmp_path: Path) -> None:
    places = [("guard_one_stock", place, [{}, {}, {}]) for place in ("first", "middle", "last")]
    assert judged(agent, [HOST, JOINERS, *places], tmp_path) == [{}] * 5


@pytest.mark.parametrize("doctored", [LATE], ids=["later"], indirect=True)
def test_a_guard_that_says_so_later_is_red(doctored: Driver, tmp_path: Path) -> None:
    host, joiners = judged(doctored, [HOST, JOINERS], tmp_path)
    assert "told after" in host[0]
    assert "a quarter of the timeout is 3.00 s" in joiners[1]


def test_a_training_job_goes_on_unharmed_while_its_store_is_probed_a_hundred_times(
    agent: Driver, tmp_path: Path
) -> None:
    cells = [("guard_probe", backend, [{"guard": False}] * 2) for backend in ("legacy", "libuv")]
    assert judged(agent, cells, tmp_path) == [{}, {}]


@pytest.mark.parametrize("doctored", [HALF], ids=["half-a-message"], indirect=True)
def test_a_probe_that_leaves_half_a_message_is_red(doctored: Driver, tmp_path: Path) -> None:
    (found,) = judged(doctored, [("guard_probe", "legacy", [{"guard": False}] * 2)], tmp_path)
    assert all("stalled is" in text for text in found.values())
    assert set(found) == {0, 1}
