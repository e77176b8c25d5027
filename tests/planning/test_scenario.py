"""A scenario is one file; what makes it none is said by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Guard, Kind, Outcome, Policy
from torchskew.planning.scenario import load, load_all

GOOD = '''"""Ranks agree.

More words.
"""
KIND = "group"
GUARD = ("on",)
VARIANTS = {"a": {"params": {"n": 1}, "rank_env": {"0": {"X": "1"}}, "predicted": ["OK", "HANG"]}}
APPLIES = ">=2.8"

def rank(job):
    return {}

def judge(reports, world):
    return {}
'''


def written(folder: Path, text: str) -> Path:
    path = folder / "agree.py"
    path.write_text(text)
    return path


def test_what_a_file_declares_arrives_typed(tmp_path: Path) -> None:
    scenario = load(written(tmp_path, GOOD))
    assert (scenario.name, scenario.promise, scenario.kind) == ("agree", "Ranks agree.", Kind.GROUP)
    assert (scenario.guards, scenario.policy) == ((Guard.ON,), Policy.RIGHT_OR_REFUSED)
    (variant,) = scenario.variants
    assert variant is not None
    assert (variant.params, variant.rank_env) == ({"n": 1}, {0: {"X": "1"}})
    assert variant.predicted == (Outcome.OK, Outcome.HANG)
    assert scenario.applies.contains("2.8.0")
    assert not scenario.applies.contains("2.6.0")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("def judge", "def jugde"), "it has no function judge()"),
        (('"""Ranks agree.\n\nMore words.\n"""', ""), "no docstring that states its promise"),
        (('"group"', '"crowd"'), "'crowd' is not a valid Kind"),
        (('"HANG"', '"HANGS"'), "'HANGS' is not a valid Outcome"),
        ((">=2.8", "since 2.8"), "Invalid specifier"),
        (("return {}", "return {"), "invalid syntax"),
        (("    return {}\n\ndef judge", "    match job:\n        case 1: return {}\n\ndef judge"), "Python 3.10"),
    ],
)
def test_a_file_that_is_no_scenario_says_what_it_lacks(tmp_path: Path, change: tuple[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=r"scenarios/agree\.py: isn't a scenario: ") as caught:
        load(written(tmp_path, GOOD.replace(*change)))
    assert why in str(caught.value)


def test_every_scenario_of_the_project_is_one() -> None:
    assert {
        "import_smoke",
        "rendezvous_tcp",
        "rendezvous_file",
        "all_reduce",
        "broadcast",
        "all_gather",
        "barrier",
    } <= (set(load_all()))


def test_every_broken_file_of_a_folder_is_named_at_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("")
    with pytest.raises(ConfigError) as caught:
        load_all(tmp_path)
    assert len(caught.value.problems) == 2
