"""PyTorch's own tests with ranks of a real release: some pass, and seeded defects of a copied release are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torchskew.cli import main
from torchskew.declaration.suite import suite_versions
from torchskew.model.versions import Environment
from torchskew.planning.suite import SUITES
from torchskew.runtimes.venv.runtime import VenvRuntime
from torchskew.workflows.inputs import read_scenarios

from tests.conftest import Silent
from tests.doctored import added, doctored
from tests.workflows.suite_defects import DEFECTS, Defect

RELEASE = "2.13.0"
SHORT = ("test_get_rank", "test_all_gather", "test_barrier", "test_reduce_sum", "test_DistributedDataParallelCPU")
pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def environment() -> Environment:
    """The release with what its own tests import."""
    (version,) = suite_versions([RELEASE], {}).values()
    runtime = VenvRuntime()
    try:
        return runtime.provision(version, Silent())
    finally:
        runtime.close()


def cells(out: Path) -> dict[str, dict[str, Any]]:
    (results,) = out.glob("*/results.json")
    return {cell["id"]: cell for cell in json.loads(results.read_text())["cells"]}


def test_a_handful_runs_with_one_release(environment: Environment, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ["suite", "--declaration", str(tmp_path / "none.toml"), "--versions", RELEASE, "--tests", *SHORT]
    assert main([*line, "test_ddp_hook_parity_*", "--out", str(out)]) == 0
    verdicts = {cell["id"]: cell["verdict"] for cell in cells(out).values()}
    for test in SHORT:
        assert verdicts[f"suite.{test}/{RELEASE},{RELEASE}/guard-off/venv"] == "PASS"
    assert list(verdicts.values()).count("UNSUPPORTED") > 2  # those need GPUs


def test_a_release_has_each_test_that_the_scenarios_name(
    environment: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variant of another name is unsupported everywhere, and nobody would see that it never runs."""
    line = ["suite", "--declaration", str(tmp_path / "none.toml"), "--out", str(tmp_path / "out")]
    assert main([*line, "--versions", RELEASE, "--suite", *SUITES, "--list"]) == 0
    listed = [row.split()[:3] for row in capsys.readouterr().out.splitlines()]
    have = {(suite, name) for suite, name, ranks in listed if ranks in ("any", "2")}
    scenarios = read_scenarios()
    named = {(suite, variant.name) for suite, name in SUITES.items() for variant in scenarios[name].variants}
    assert len(named) > 100
    assert named <= have, named - have


def test_each_seeded_defect_is_told_with_rank_line_and_values(environment: Environment, tmp_path: Path) -> None:
    lines = ["[versions]", f'good = {{ interpreter = "{environment.handle}" }}']
    for defect in DEFECTS:
        made = doctored(environment.handle, tmp_path / defect.name, {defect.file: added(defect.lines)})
        lines.append(f'{defect.name} = {{ interpreter = "{made}" }}')
    (tmp_path / "defects.toml").write_text("\n".join([*lines, "[matrix]", ""]))
    out = tmp_path / "out"
    only = [word for one in DEFECTS for word in ("--only", f"suite.{one.test}/good,{one.name}/*")]
    names = ["good", *(defect.name for defect in DEFECTS)]
    main(["suite", "--declaration", str(tmp_path / "defects.toml"), "--versions", *names, *only, "--out", str(out)])
    found = cells(out)
    for defect in DEFECTS:
        _told(found, defect)


def _told(found: dict[str, dict[str, Any]], defect: Defect) -> None:
    mixed = found[f"suite.{defect.test}/good,{defect.name}/guard-off/venv"]
    assert found[f"suite.{defect.test}/good,good/guard-off/venv"]["verdict"] == "PASS"
    assert mixed["verdict"] == "FAIL"
    assert mixed["ranks"][1]["outcome"] == "WRONG"
    where, _, what = mixed["reason"].partition("rank 1 WRONG: distributed_test.py:")[2].partition(" `")
    assert where.isdecimal()
    assert "self.assert" in what
    assert len(what.split("; ")) >= 3, "both values are told"
