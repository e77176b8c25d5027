"""The text of a refusal names every differing rank, and its data survives a pickle."""

from __future__ import annotations

import pickle

from torchskew.guard.refusal import refusal
from torchskew.guard.roster import roster_of
from torchskew.guard.verdict import decide

from tests.guard.ranks import hello_of


def test_where_only_the_direction_fails_the_remedy_is_to_run_rank_0_on_the_newest() -> None:
    table = roster_of([hello_of(0, "2.2.2"), hello_of(1, "2.6.0")], "era")
    error = refusal(table, decide(table), 1)
    assert error.remedy.startswith("run rank 0 on the newest release (2.6.0)")


def test_the_text_names_every_differing_rank_with_version_and_host() -> None:
    hellos = [hello_of(rank, "2.1.2" if rank in (1, 5, 6, 7) else "2.2.2", world=9) for rank in range(9)]
    table = roster_of(hellos, "era")
    text = str(refusal(table, decide(table), 8))
    assert "rank 8" in text.splitlines()[0]
    assert "ranks 1, 5-7: torch 2.1.2 on node1, node5, node6 and more" in text
    assert "Remedy: install the same PyTorch release on every rank." in text


def test_the_error_carries_data_and_survives_a_pickle() -> None:
    table = roster_of([hello_of(0, "2.1.2"), hello_of(1, "2.2.2")], "era")
    error = refusal(table, decide(table), 1)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, RuntimeError)
    assert (str(again), again.kind, again.rank, again.eras) == (str(error), "version", 1, error.eras)
    assert [one["torch"] for one in again.groups] == ["2.1.2", "2.2.2"]
