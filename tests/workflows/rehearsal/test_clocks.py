"""Clocks that differ: the seed decides how far, the plan states it, nodes are asked, and times are corrected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Verdict
from torchskew.runtimes.venv.sleep import broken_sleep
from torchskew.workflows.rehearsal import clocks, step_log
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.findings import Invariant
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import ClockReading, Observation
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.plan_file import dump, load
from torchskew.workflows.rehearsal.plan_text import tree

from tests.workflows.rehearsal.observations import healthy, spec
from tests.workflows.rehearsal.test_cluster import ENVIRONMENTS

LIBRARY = "/somewhere/libfaketimeMT.so.1"


def test_the_seed_decides_the_offsets_and_the_plan_states_them() -> None:
    plan = make_plan(spec(clock_skew=300.0, seed=4))
    assert len(set(plan.clock_offsets)) == 4
    assert all(abs(offset) <= 300 for offset in plan.clock_offsets)
    assert load(dump(plan), "plan").clock_offsets == plan.clock_offsets
    assert make_plan(spec(clock_skew=300.0, seed=5)).clock_offsets != plan.clock_offsets
    assert f"clocks: node 0 {plan.clock_offsets[0]:+.1f} s, node 1 " in tree(plan)
    assert make_plan(spec()).clock_offsets == ()


def test_where_clocks_can_not_be_shifted_the_plan_says_so() -> None:
    plan = make_plan(spec(clock_skew=300.0), {"clock skew": "this machine lacks libfaketime"})
    assert plan.clock_offsets == ()
    assert "left out: clock skew: this machine lacks libfaketime" in tree(plan)
    assert make_plan(spec(), {"clock skew": "no"}).unsupported == {}


@pytest.mark.parametrize("skew", [-1.0, 1e9])
def test_an_offset_out_of_range_is_refused(skew: float) -> None:
    with pytest.raises(ConfigError, match="clock-skew must be from 0 to 31536000 seconds"):
        make_plan(spec(clock_skew=skew))


def test_only_a_runtime_of_local_processes_has_this_machines_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "library", lambda: LIBRARY)
    monkeypatch.setattr(clocks, "broken_sleep", lambda _: None)
    assert clocks.unsupported("venv") == {}
    assert "don't have this machine's libfaketime" in clocks.unsupported("docker")["clock skew"]
    monkeypatch.setattr(clocks, "library", lambda: None)
    assert "lacks libfaketime" in clocks.unsupported("venv")["clock skew"]
    assert clocks.settings(3.0) == {}


@pytest.mark.parametrize(
    ("code", "why"), [("pass", None), ("raise OSError('Invalid argument')", "OSError: Invalid argument")]
)
def test_a_library_under_which_a_python_can_not_sleep_is_left_out_with_its_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, why: str | None
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import time\ndef sleep(_):\n    {code}\ntime.sleep = sleep\n")
    monkeypatch.setattr(clocks, "library", lambda: LIBRARY)
    monkeypatch.setattr(clocks, "settings", lambda _: {"PYTHONPATH": str(tmp_path)})
    assert broken_sleep({"PYTHONPATH": str(tmp_path)}) == why
    assert (why is not None and why in clocks.unsupported("venv").get("clock skew", "")) is (why is not None)


class Runtime:
    """Remembers the environment that each process was started with."""

    def __init__(self) -> None:
        self.started: list[dict[str, str]] = []

    def start(self, environment, replica: int):
        del replica
        self.started.append(dict(environment.env))
        raise RuntimeError("started")


def test_a_node_is_started_with_its_own_clock_whatever_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "library", lambda: LIBRARY)
    runtime = Runtime()
    cluster = Cluster(runtime, ENVIRONMENTS, (-12.5, 0.0))
    for node in (0, 1):
        with pytest.raises(RuntimeError, match="started"):
            cluster.replace(node, "a")
    cluster.abandon()
    assert runtime.started[0]["FAKETIME"] == "-12.5s"
    assert runtime.started[0]["LD_PRELOAD"] == LIBRARY
    assert runtime.started[0]["FAKETIME_DONT_FAKE_MONOTONIC"] == "1"
    assert runtime.started[1] == {}


def test_what_ranks_logged_is_put_into_the_order_that_a_right_clock_gives() -> None:
    def row(at: float, step: int) -> str:
        return json.dumps({"event": "step", "step": step, "samples": [], "loss": 1.0, "at": at})

    committed = json.dumps({"event": "committed", "step": 2, "checkpoint": "c", "at": 130.0})
    logs = {"rank-0.jsonl": f"{row(130.0, 1)}\n{committed}", "rank-1.jsonl": row(31.0, 1)}
    read = step_log.read(logs, {"c"}, ("a", "a"), (30.0, -70.0))
    assert [line.at for line in read.lines] == [100.0, 101.0]
    assert read.commits[0].at == 100.0


def skewed(observation: Observation, *off: float) -> Observation:
    """Each node's clock was found to be off by so much, give or take half a second."""
    readings = [
        ClockReading(node=node, version="2.6.0", low=each - 0.5, high=each + 0.5) for node, each in enumerate(off)
    ]
    return replace(observation, clocks=tuple(readings))


def happened(observation: Observation) -> Invariant:
    return next(each for each in judge(observation).invariants if each.name == "R13")


def test_a_clock_that_was_not_off_as_planned_is_unknown_and_one_that_was_is_counted() -> None:
    observation = healthy(clock_skew=300.0)
    planned = observation.plan.clock_offsets
    right = happened(skewed(observation, *planned))
    assert (right.verdict, "; 4 shifted clocks read" in right.evidence) == (Verdict.PASS, True)
    wrong = happened(skewed(observation, 0.0, *planned[1:]))
    assert wrong.verdict is Verdict.UNKNOWN
    assert "the clock of node 0 (2.6.0) is off by -0.5 to 0.5 s, planned is " in wrong.evidence
    unseen = happened(skewed(observation, *planned[:3]))
    assert (unseen.verdict, unseen.evidence) == (Verdict.UNKNOWN, "nobody looked at the clock of node 3")
