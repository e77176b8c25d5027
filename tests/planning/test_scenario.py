"""A scenario is one file; what makes it none is said by name."""

from __future__ import annotations

import pytest
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Guard, Kind, Outcome, Policy
from torchskew.planning.scenario import Scenario
from torchskew.planning.scenario_file import parse_scenario

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

UNREAD = "is not a field of a scenario, and nothing in the file reads it."


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
        (("def judge", "def jugde"), "isn't a scenario: it has no function judge()"),
        (('"""Ranks agree.\n\nMore words.\n"""', ""), "isn't a scenario: it has no docstring that states its promise"),
        (("return {}", "return {"), "isn't a scenario: SyntaxError: invalid syntax"),
        (("    return {}\n\ndef judge", "    match job:\n        case 1: return {}\n\ndef judge"), "Python 3.10"),
        (('"group"', "CROWD"), "isn't a scenario: NameError: name 'CROWD' is not defined"),
        (('"group"', '"crowd"'), "KIND must be one of group, handover, solo, got 'crowd'."),
        (('"group"', '"Group"'), "KIND must be one of group, handover, solo, got 'Group'. Did you mean 'group'?"),
        (
            ('("on",)', '("joiner",)'),
            "GUARD must hold only off, on, host, joiners, got 'joiner'. Did you mean 'joiners'?",
        ),
        (('"HANG"', '"HANGS"'), "VARIANTS.a.predicted must hold only OK, WRONG,"),
        (('"HANG"', '"HANGS"'), "got 'HANGS'. Did you mean 'HANG'?"),
        ((">=2.8", "since 2.8"), "APPLIES must be a range of releases like '>=2.8', got 'since 2.8'."),
        (('{"n": 1}', "7"), "VARIANTS.a.params must be a table, got 7."),
        (('"params"', '"parms"'), "VARIANTS.a.parms is not a field; did you mean 'params'?"),
        (('"rank_env"', '"rank_evn"'), "VARIANTS.a.rank_evn is not a field; did you mean 'rank_env'?"),
        (('{"0": {"X"', '{"first": {"X"'), "VARIANTS.a.rank_env must be settings by rank"),
        (("APPLIES", "POLICY"), "POLICY must be one of right-or-refused, interoperate, refuse, got '>=2.8'."),
        (("APPLIES =", "POLICY = 'interopreate'; _A ="), "Did you mean 'interoperate'?"),
        (("APPLIES =", "TIERS = ('smoke', 'criticl'); _A ="), "got 'criticl'. Did you mean 'critical'?"),
        (("APPLIES =", "RENDEZVOUS = 'udp'; _A ="), "RENDEZVOUS must be one of tcp, file, store, none, got 'udp'."),
        (("APPLIES =", "WORLD = (3, 2); _A ="), "WORLD must be the smallest and the largest number of ranks"),
        (("APPLIES =", "SAME = 'yes'; _A ="), "SAME must be true or false, got 'yes'."),
        (("APPLIES =", "PATIENCE = 'long'; _A ="), "PATIENCE must be a number, got 'long'."),
    ],
)
def test_a_file_that_is_no_scenario_says_what_it_lacks(change: tuple[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=r"scenarios/agree\.py: ") as caught:
        parsed(GOOD.replace(*change))
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            'AFTR = ("rendezvous_tcp",)',
            f"AFTR {UNREAD} Did you mean AFTER?",
        ),
        ('TIER = ("smoke",)', "Did you mean TIERS?"),
        (
            'after = ("rendezvous_tcp",)',
            f"after {UNREAD} Did you mean AFTER?",
        ),
        ("PATIENCE_: float = 3", "Did you mean PATIENCE?"),
        (
            "SIZES = (1, 2)",
            f"SIZES {UNREAD} Fields: KIND, WORLD,",
        ),
        ("LIMIT, WARN = 1, 2\ndef limit():\n    return LIMIT", "WARN is not a field of a scenario"),
        ("def laks(job):\n    return {}", "laks() is called by nobody. Did you mean lacks()?"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest_correct_one(line: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(f"{GOOD}\n{line}\n")
    assert str(caught.value).startswith("scenarios/agree.py: ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "_AFTR = 3",
        "AFTR = 3\ndef helper():\n    return AFTR",
        "KINDS = ('a', 'b')\nAFTER = tuple('rendezvous_' + kind for kind in KINDS)",
        "def blocking(job):\n    return job",
    ],
)
def test_constants_and_functions_of_the_files_own_are_allowed(line: str) -> None:
    assert parsed(f"{GOOD}\n{line}\n").name == "agree"


def test_every_problem_of_a_file_is_reported_at_once() -> None:
    source = GOOD.replace('"group"', '"crowd"').replace(">=2.8", "since 2.8") + "\nNEDS = ('gloo',)\n"
    with pytest.raises(ConfigError) as caught:
        parsed(source)
    assert [problem.split()[1] for problem in caught.value.problems] == ["NEDS", "KIND", "APPLIES"]


def test_one_name_alone_is_a_list_of_one() -> None:
    assert parsed(GOOD + '\nAFTER = "rendezvous_tcp"\n').after == ("rendezvous_tcp",)
