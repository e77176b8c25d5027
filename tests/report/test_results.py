"""results.json has the fields that docs promise, and is JSON however odd the run was."""

from __future__ import annotations

import json

import pytest
from torchskew.report.findings import findings_of
from torchskew.report.logs import Written
from torchskew.report.results import write_results

from tests import factories

TOP = {"schema", "run_id", "seed", "torchskew", "runtime", "planned", "counts", "unexpected", "cells"}
CELL = {
    *("id", "scenario", "skew", "runtime", "guard", "world_size", "fault", "cached", "predicted", "verdict"),
    *("expected", "reason", "blocked_by", "seconds", "phases", "ranks", "status", "attempts", "skipped", "rerun"),
}
RANK = {
    *("rank", "declared", "torch", "git_version", "python", "outcome", "phase", "seconds", "error", "exit"),
    *("signal", "log"),
}


@pytest.fixture
def written(tmp_path):
    run, decision = factories.bad_run()
    path = tmp_path / "results.json"
    write_results(run, decision, Written(findings=findings_of(run, decision)), path)
    return run, json.loads(path.read_text())


def test_every_promised_field_is_there(written):
    _, data = written
    assert data.keys() >= TOP
    assert all(cell.keys() >= CELL for cell in data["cells"])
    assert all(rank.keys() >= RANK for cell in data["cells"] for rank in cell["ranks"])
    assert data["schema"] == "1.0"


def test_planned_is_the_sum(written):
    run, data = written
    assert data["planned"] == len(data["cells"]) == len(run.plan.cells) == sum(data["counts"].values())
    assert set(data["counts"]) == {"pass", "fail", "unknown", "unsupported", "blocked"}
    assert data["unexpected"]["regressions"] == 1
    assert data["unexpected"]["unexpected_passes"] == 1


def test_a_failed_rank_carries_its_error(written):
    cell = next(cell for cell in written[1]["cells"] if cell["id"] == "rendezvous_tcp/2.1.2,2.2.2/guard-off/docker")
    assert cell["status"] == "known-failure"
    assert cell["expected"] == cell["verdict"] == "FAIL"
    assert cell["expectation"]["link"].startswith("https://")
    assert cell["ranks"][1]["outcome"] == "OPAQUE"
    assert cell["ranks"][1]["error"]["type"] == "torch.distributed.DistNetworkError"
    assert cell["ranks"][1]["exit"] == 1


def test_a_blocked_cell_names_what_blocks_it(written):
    blocked = next(cell for cell in written[1]["cells"] if cell["verdict"] == "BLOCKED")
    assert blocked["blocked_by"] in blocked["reason"]
    assert blocked["ranks"] == []


def test_a_run_without_cells_is_json_too(tmp_path):
    run, decision = factories.run(()), factories.decision(())
    write_results(run, decision, Written(findings=findings_of(run, decision)), tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["cells"] == []
