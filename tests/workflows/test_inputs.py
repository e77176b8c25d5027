"""What people write is read once, and every problem of it is reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.errors import ConfigError
from torchskew.planning.scenario import World
from torchskew.workflows.inputs import (
    append_to_baseline,
    read_baseline,
    read_declaration,
    read_document,
    read_scenario,
    read_scenarios,
)

VERSIONS = '[versions]\na = { pip = "torch==2.6.0" }\n'


def test_the_baseline_beside_a_declaration_is_read_with_it(tmp_path: Path) -> None:
    (tmp_path / "torchskew.toml").write_text(VERSIONS)
    assert read_declaration(tmp_path / "torchskew.toml").expectations == ()
    (tmp_path / "expectations.toml").write_text('[[expect]]\ncells = "*"\nreason = "store"\n')
    declaration = read_declaration(tmp_path / "torchskew.toml")
    assert [entry.reason for entry in declaration.expectations] == ["store"]
    assert declaration.path == str(tmp_path / "torchskew.toml")


def test_a_missing_file_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no such file\. Name one with --declaration, or write one with `torchskew init`"
    ):
        read_declaration(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "torchskew.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"torchskew\.toml: is not UTF-8 text"):
        read_document(tmp_path / "torchskew.toml")
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        read_document(tmp_path)


def test_a_baseline_that_nobody_wrote_yet_expects_nothing(tmp_path: Path) -> None:
    assert read_baseline(tmp_path / "baseline.toml") == ()


def test_a_baseline_with_a_problem_is_refused(tmp_path: Path) -> None:
    append_to_baseline(tmp_path / "baseline.toml", '[[expect]]\ncells = "*"\nreason = ""\n')
    with pytest.raises(ConfigError, match=r"baseline\.toml: expect\[1\]\.reason is required: say why"):
        read_baseline(tmp_path / "baseline.toml")


def test_every_scenario_of_the_project_is_one() -> None:
    assert {
        "import_smoke",
        "rendezvous_tcp",
        "rendezvous_file",
        "all_reduce",
        "broadcast",
        "all_gather",
        "barrier",
    } <= (set(read_scenarios()))


def test_every_broken_file_of_a_folder_is_named_at_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("")
    with pytest.raises(ConfigError) as caught:
        read_scenarios(tmp_path)
    assert len(caught.value.problems) == 2


SCENARIO = '"""Ranks agree."""\ndef rank(job):\n    return {}\ndef judge(reports, world):\n    return {}\n'


def test_a_folder_of_scenarios_may_be_flat_or_grouped(tmp_path: Path) -> None:
    for name in ("zebra", "groups/apple", "files/mango"):
        (tmp_path / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(SCENARIO)
    assert list(read_scenarios(tmp_path)) == ["apple", "mango", "zebra"]


def test_two_files_of_one_name_are_refused_with_both_paths(tmp_path: Path) -> None:
    for group in ("files", "groups"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "apple.py").write_text(SCENARIO)
    with pytest.raises(ConfigError, match=r"groups/apple\.py: \S+/files/apple\.py is also called 'apple'. Rename one"):
        read_scenarios(tmp_path)


def test_a_scenario_that_is_no_text_is_one_problem_among_the_others(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError) as caught:
        read_scenarios(tmp_path)
    assert "binary.py: is not UTF-8 text" in caught.value.problems[0]
    assert "empty.py: isn't a scenario" in caught.value.problems[1]


WITH_DATA = '''"""It has data."""
DATA = "beside.json"

def rank(job):
    return DATA

def judge(reports, world):
    return {0: DATA["why"]}
'''


def test_data_beside_a_scenario_is_given_to_its_judge_and_travels_with_its_source(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(WITH_DATA)
    (tmp_path / "beside.json").write_text('{"why": "it says so"}')
    scenario = read_scenario(tmp_path / "one.py")
    world = World(size=1, skew=("a",), params={}, skip={}, seed=0)
    assert scenario.judge([{}], world) == {0: "it says so"}
    assert scenario.source.startswith(WITH_DATA)
    assert "it says so" in scenario.source


@pytest.mark.parametrize("text", [None, "{"])
def test_data_that_is_missing_or_broken_is_refused_with_both_names(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "one.py").write_text(WITH_DATA)
    if text is not None:
        (tmp_path / "beside.json").write_text(text)
    with pytest.raises(ConfigError, match=r"beside\.json: can't be read as JSON: .* one\.py names it as its DATA"):
        read_scenario(tmp_path / "one.py")
