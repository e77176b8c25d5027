"""Asks a scenario's judge about reports, the way the harness does."""

from __future__ import annotations

from types import SimpleNamespace

from torchskew.planning.scenario import World
from torchskew.workflows.inputs import read_scenarios


def judged(name, reports, *, variant=None, skip=None):
    """What the judge says, by rank; the reports of ranks that finished are given as their payloads."""
    scenario = read_scenarios()[name]
    params = next((one.params for one in scenario.variants if one and one.name == variant), {})
    assert variant is None or variant in {one.name for one in scenario.variants if one}
    size = max(len(reports), 1)
    world = World(size=size, skew=("a",) * size, params=params, skip=skip or {}, seed=0)
    return scenario.judge(reports, world)


def names(name):
    """What a scenario's file defines: its constants and its formulas."""
    scenario = read_scenarios()[name]
    found: dict = {}
    exec(compile(scenario.source, scenario.path, "exec"), found)
    return SimpleNamespace(**found)


def cases(**found):
    """A payload of one rank; underscores stand for spaces in the names of cases."""
    return {"cases": {name.replace("_", " "): value for name, value in found.items()}}
