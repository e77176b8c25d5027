"""The list of scenarios and its page come from the scenarios themselves."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from torchskew.commands import scenarios as catalogue_page
from torchskew.workflows.inputs import read_scenarios

ROOT = Path(__file__).resolve().parents[2]


def run(*line: str) -> int:
    parser = argparse.ArgumentParser()
    catalogue_page.add_parser(parser.add_subparsers())
    args = parser.parse_args(["scenarios", *line])
    return args.command(args)


def test_the_committed_page_is_current() -> None:
    text = (ROOT / catalogue_page.PAGE).read_text(encoding="utf-8")
    assert text == catalogue_page.page(read_scenarios().values()), (
        "regenerate it: torchskew scenarios --page docs/scenarios.md"
    )


def test_every_scenario_is_listed_with_its_ranks_and_promise() -> None:
    lines = catalogue_page.listing(read_scenarios().values()).splitlines()
    for name, scenario in read_scenarios().items():
        (line,) = [one for one in lines if one.split()[:1] == [name]]
        assert catalogue_page.ranks(scenario) in line.split()
        assert scenario.promise[:20] in line
    assert max(map(len, lines)) <= catalogue_page.WIDTH


def test_one_scenario_tells_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ddp") == 0
    told = capsys.readouterr().out
    for word in (
        "DistributedDataParallel",
        "default, bucket_cap, unused, hook",
        "rendezvous_tcp",
        "scenarios/training/ddp.py",
    ):
        assert word in told


def test_an_unknown_name_gets_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dpd") == 4
    assert (
        "no scenario is called 'dpd'. Known: abi_extension, abi_stable, abi_symbols, all_gather"
        in capsys.readouterr().err
    )


def test_the_page_is_written_where_asked(tmp_path: Path) -> None:
    assert run("--page", str(tmp_path / "page.md")) == 0
    assert "### ddp\n" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_a_bar_in_a_promise_does_not_break_the_table() -> None:
    for line in catalogue_page.page(read_scenarios().values()).splitlines():
        if line.startswith("| ["):
            assert line.replace("\\|", "").count("|") == 7


def test_what_every_scenario_says_of_itself_is_a_page() -> None:
    for scenario in read_scenarios().values():
        assert "oracle" in scenario.doc.lower(), f"{scenario.name} does not say what its oracle is"
        assert len(scenario.doc.splitlines()) >= 3
