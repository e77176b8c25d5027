"""A scenario is one file; what makes it none is said by name."""

from __future__ import annotations

import pytest
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Guard, Kind, Outcome, Policy
from torchskew.planning.scenario import Scenario, parse_scenario

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


def parsed(source: str) -> Scenario:
    return parse_scenario("agree", source, "scenarios/agree.py")


def test_what_a_file_declares_arrives_typed() -> None:
    scenario = parsed(GOOD)
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
def test_a_file_that_is_no_scenario_says_what_it_lacks(change: tuple[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=r"scenarios/agree\.py: isn't a scenario: ") as caught:
        parsed(GOOD.replace(*change))
    assert why in str(caught.value)
