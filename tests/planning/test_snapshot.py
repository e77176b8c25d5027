"""A snapshot of state-dict keys stands for its release; another schema and a lost key are told as what they are."""

from __future__ import annotations

import json

import pytest
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Kind
from torchskew.planning.scenario import World
from torchskew.planning.snapshot import KEYS, NAME, from_text, held_against, to_text
from torchskew.workflows.inputs import read_scenarios

BUILT = {f"Module{number}": {"weight": "4x4 float32"} for number in range(120)}
REPORT = {"torch": "2.14.1+cu130", "built": BUILT, "refused": {"Odd": "TypeError: no"}}


def told(report: dict) -> dict[int, str]:
    held = held_against(read_scenarios()[KEYS], [from_text(to_text(REPORT), "keys.json")])
    world = World(size=1, skew=("candidate",), params={"snapshot": "2.14.1"}, skip={}, seed=0)
    return dict(held.judge([report], world))


def test_a_snapshot_is_read_as_it_was_written_and_its_scenario_needs_one_version_alone() -> None:
    snapshot = from_text(to_text(REPORT), "keys.json")
    assert (snapshot.release, snapshot.keys, snapshot.refused) == ("2.14.1", BUILT, {"Odd": "TypeError: no"})
    held = held_against(read_scenarios()[KEYS], [snapshot])
    assert (held.name, held.kind, held.world) == (NAME, Kind.SOLO, (1, 1))
    assert [variant.name for variant in held.variants if variant] == ["2.14.1"]
    assert held.tiers == read_scenarios()[KEYS].tiers


def test_equal_keys_and_additions_pass_and_a_renamed_key_is_wrong_with_the_difference() -> None:
    later = {**REPORT, "torch": "2.15.0"}
    assert told(later) == {}
    assert told({**later, "built": {**BUILT, "New": {"weight": "1 float32"}}}) == {}
    renamed = {**later, "built": {**BUILT, "Module7": {"W": "4x4 float32"}}}
    assert told(renamed) == {0: "against 2.14.1+cu130: lost Module7.weight, new Module7.W"}


def test_other_keys_give_another_source_so_that_no_result_is_reused() -> None:
    other = {**REPORT, "built": {**BUILT, "Module7": {"W": "4x4 float32"}}}
    held = [held_against(read_scenarios()[KEYS], [from_text(to_text(each), "k")]) for each in (REPORT, other)]
    assert held[0].source != held[1].source


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not a snapshot of keys"),
        ("[]", "has schema None, this torchskew reads '1.0'. Write it again: `torchskew gate "),
        (json.dumps({"schema": "2.0"}), "has schema '2.0', this torchskew reads '1.0'"),
        (json.dumps({"schema": "1.0", "torch": "2.14.1", "keys": []}), "keys must be dict, refused must be dict"),
    ],
)
def test_a_file_of_another_schema_is_refused_by_name_with_the_fix(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_text(text, "keys.json")
    assert str(refused.value).startswith("keys.json: ")
    assert why in str(refused.value)
