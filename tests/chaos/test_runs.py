"""The short form of chaos with real runs: one kill at a random moment, and the hostile ranks that end quickly."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.model.versions import Environment

from tests.chaos import kills, ranks
from tests.chaos.desk import Desk
from tests.patience import PATIENCE

pytestmark = [pytest.mark.torch, pytest.mark.slow]
QUICK = "[acfgl]*"  # of the deeds, those that no deadline has to end


def test_a_killed_run_comes_to_the_decision_of_an_undisturbed_one(
    tmp_path: Path, torch_environment: Environment
) -> None:
    trials = list(kills.campaign("matrix", 1, 0, kills.maker(tmp_path)))
    assert [each for each in trials if each.wrong] == []
    assert len(trials) >= 2


def test_hostile_ranks_are_told_as_what_they_were_and_their_neighbours_are_right(
    tmp_path: Path, torch_environment: Environment
) -> None:
    trials = list(ranks.trials(lambda name, **fields: Desk(folder=tmp_path / name, **fields), QUICK, int(PATIENCE)))
    assert [each for each in trials if each.wrong] == []
    assert len(trials) > 10
