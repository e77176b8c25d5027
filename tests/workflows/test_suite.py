"""What a run of PyTorch's own tests is made of, before anything runs."""

from __future__ import annotations

from pathlib import Path

from torchskew.planning.suite import LIST, MEET, SUITES
from torchskew.workflows.options import Options
from torchskew.workflows.suite import SuiteRequest, read_the_request


def test_all_of_its_cells_share_one_agent_of_each_release(tmp_path: Path) -> None:
    """An agent imports torch for seconds, and the rendezvous of all tests is one cell of a pair."""
    options = Options(declaration=tmp_path / "none.toml")
    _, scenarios, _ = read_the_request(options, SuiteRequest(versions=("2.13.0", "2.14.1")))
    used = [scenarios.by_name[name] for name in (LIST, MEET, *SUITES.values())]
    assert {scenario.agent for scenario in used} == {"suite"}
