"""Step logs out of a rank are decoded without trusting them; a checkpoint names who wrote it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some
from torchskew.workflows.rehearsal.observed import Commit, MissingDcp
from torchskew.workflows.rehearsal.step_log import newest, number, read

STEP = {"event": "step", "step": 3, "samples": [1, 2], "loss": (0.1).hex(), "hash": "h", "norm": (2.5).hex(), "at": 9.0}


def test_lines_keep_the_bits_of_the_loss() -> None:
    logs = read({"rank-2.jsonl": json.dumps(STEP)}, {}, ())
    assert logs.lines[0].loss == 0.1
    assert (logs.lines[0].rank, logs.lines[0].step, logs.lines[0].samples) == (2, 3, (1, 2))
    assert logs.junk == ()


def test_a_checkpoint_counts_only_where_it_is_on_the_disk() -> None:
    row = json.dumps({"event": "committed", "step": 5, "checkpoint": "step-5", "hash": "h"})
    assert read({"rank-0.jsonl": row}, {}, ()).commits == ()
    assert [commit.name for commit in read({"rank-0.jsonl": row}, {"step-5": {}}, ()).commits] == ["step-5"]


def test_a_checkpoint_names_the_release_of_the_rank_that_committed_it_and_what_it_holds() -> None:
    row = json.dumps({"event": "committed", "step": 5, "checkpoint": "step-5", "holds": ["model", "step"]})
    assert read({"rank-1.jsonl": row}, {"step-5"}, ("2.6.0", "2.13.0")).commits == (
        Commit(name="step-5", step=5, by="2.13.0", holds=("model", "step")),
    )


def test_a_script_that_logs_plain_numbers_and_no_hash_is_understood() -> None:
    logs = read({"rank-0.jsonl": json.dumps({"event": "step", "step": 1, "samples": [], "loss": 1.5})}, {}, ())
    assert (logs.lines[0].loss, logs.lines[0].hash) == (1.5, None)


def test_a_rank_that_lacks_dcp_is_recorded_with_its_reason() -> None:
    whys = ["", "x", "no NumPy"]
    rows = {f"rank-{rank}.jsonl": json.dumps({"event": "formats", "lacks": why}) for rank, why in enumerate(whys)}
    assert read(rows, {}, ()).missing_dcp == (
        MissingDcp(rank=1, why="x", no_numpy=False),
        MissingDcp(rank=2, why="no NumPy", no_numpy=True),
    )


@given(some.text())
def test_junk_is_kept_apart_and_breaks_nothing(text: str) -> None:
    logs = read({"rank-0.jsonl": text}, {}, ())
    assert not logs.lines or logs.junk == () or logs.junk


@pytest.mark.parametrize(
    "row", ['{"event": "step"}', "[1]", "{", '{"event": "step", "step": "x", "samples": [], "loss": 1}']
)
def test_a_broken_line_is_kept_as_junk(row: str) -> None:
    assert len(read({"rank-0.jsonl": row}, {}, ()).junk) == 1


@pytest.mark.parametrize("value", [True, None, [], "x"])
def test_what_is_no_number_is_refused(value) -> None:
    with pytest.raises((TypeError, ValueError)):
        number(value)


def test_the_newest_checkpoint_is_the_last_committed_not_the_one_of_the_highest_step() -> None:
    early, late = Commit(name="a", step=9, at=1.0), Commit(name="b", step=5, at=2.0)
    assert newest([late, early]) == late
    assert newest([]) is None
