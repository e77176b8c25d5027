"""Only what changed between two runs is told, worse first, with each rank's facts and the command to rerun."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.judging.diff import Change, Changed, difference, in_common, render, sentence
from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt, ErrorFacts, RankFacts
from torchskew.model.outcomes import Outcome, Phase, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.results import CellResult

OK, WRONG, OPAQUE = Outcome.OK, Outcome.WRONG, Outcome.OPAQUE
GATE = Rerun(words=("torchskew", "gate")).with_option("--candidate", "pip:torch>=2.15")


def result(verdict: Verdict, *outcomes: Outcome, name: str = "s") -> CellResult:
    cell = Cell(scenario=name, skew=("a", "b"), runtime="venv")
    error = ErrorFacts(type="torch.distributed.DistStoreError", text="timed out\nlong")
    ranks = tuple(
        RankFacts(
            rank=rank, declared="ab"[rank], torch="2.13.0", phase=Phase.RENDEZVOUS,
            error=error if outcome is OPAQUE else None, error_after=0.2,
        )
        for rank, outcome in enumerate(outcomes)
    )  # fmt: skip
    attempts = (Attempt(number=1, ranks=ranks, seconds=0.1),)
    return CellResult(cell=cell, verdict=verdict, outcomes=outcomes, reason="the reason", attempts=attempts)


PASS, FAIL = result(Verdict.PASS, OK, OK), result(Verdict.FAIL, OK, OPAQUE)
NO, GONE = result(Verdict.UNSUPPORTED), result(Verdict.UNKNOWN)


@pytest.mark.parametrize(
    ("before", "after", "change", "worse"),
    [
        (PASS, FAIL, Change.REGRESSION, True),
        (NO, FAIL, Change.REGRESSION, True),
        (PASS, NO, Change.NEWLY_UNSUPPORTED, True),
        (PASS, GONE, Change.LOST, True),
        (FAIL, result(Verdict.BLOCKED), Change.LOST, True),
        (FAIL, result(Verdict.FAIL, WRONG, OK), Change.OTHER_CLASS, False),
        (FAIL, PASS, Change.NEW_PASS, False),
        (NO, PASS, Change.NEW_PASS, False),
        (GONE, FAIL, Change.NOW_KNOWN, False),
        (GONE, PASS, Change.NOW_KNOWN, False),
        (GONE, result(Verdict.BLOCKED), Change.OTHER, False),
        (FAIL, NO, Change.OTHER, False),
    ],
)
def test_each_kind_of_change(before: CellResult, after: CellResult, change: Change, worse: bool) -> None:
    (found,) = difference([before], [after]).changes
    assert (found.change, found.worse) == (change, worse)


def test_what_stayed_the_same_is_not_reported() -> None:
    both = [PASS, result(Verdict.FAIL, OK, WRONG, name="t")]
    found = difference(both, both)
    assert found.changes == ()
    assert sentence(found, "r1", "r2") == "r2 is the same as r1 in the 2 cells that both have"


def test_cells_of_only_one_run_are_counted_where_only_common_ones_are_compared() -> None:
    new = [result(Verdict.FAIL, OK, WRONG, name=name) for name in ("t", "u", "v")]
    found = in_common([PASS, result(Verdict.PASS, OK, OK, name="w")], [PASS, *new])
    assert (found.changes, found.compared, found.added, found.removed) == ((), 1, 3, 1)
    assert sentence(found, "r1", "r2") == (
        "r2 is the same as r1 in the 1 cell that both have; 3 new and 1 gone cells were not compared"
    )
    worse = in_common([PASS], [FAIL, *new[:1]])
    assert sentence(worse, "r1", "r2") == (
        "r2 is worse than r1: 1 regression; 1 cell compared; 1 new cell was not compared"
    )


def test_new_and_removed_cells_are_reported_and_a_new_failure_is_worse() -> None:
    found = difference([PASS], [result(Verdict.PASS, OK, OK, name="t"), result(Verdict.FAIL, OK, OPAQUE, name="u")])
    assert [(item.change, item.worse) for item in found.changes] == [
        (Change.ADDED, True),
        (Change.ADDED, False),
        (Change.REMOVED, False),
    ]
    assert sentence(found, "r1", "r2") == "r2 is worse than r1: 2 new cells, 1 removed cell; 0 cells compared"


def test_the_worse_stands_first() -> None:
    before = [FAIL, result(Verdict.PASS, OK, OK, name="t")]
    after = [PASS, result(Verdict.FAIL, OK, OPAQUE, name="t")]
    assert [item.change for item in difference(before, after).changes] == [Change.REGRESSION, Change.NEW_PASS]


def test_a_change_shows_the_rank_that_changed_and_how_to_rerun_it() -> None:
    text = render(difference([PASS], [FAIL]).changes, GATE)
    assert text.splitlines() == [
        "regression         s/a,b/guard-off/venv   PASS -> FAIL OK/OPAQUE",
        "  rank 1 b (2.13.0) OK -> OPAQUE in rendezvous after 0.2 s: torch.distributed.DistStoreError: timed out",
        "  rerun: torchskew gate --candidate 'pip:torch>=2.15' --only s/a,b/guard-off/venv --no-cache",
    ]


def test_a_wrong_answer_is_reported_in_the_oracles_words() -> None:
    text = render(difference([PASS], [result(Verdict.FAIL, OK, WRONG)]).changes, GATE)
    assert text.splitlines()[1:3] == ["  rank 1 b (2.13.0) OK -> WRONG in rendezvous", "  the reason"]


def test_a_blocked_cell_takes_one_line_that_names_what_blocked_it() -> None:
    blocked = replace(result(Verdict.BLOCKED), blocked_by="meet/a,b/guard-off/venv")
    told = render(difference([PASS], [blocked]).changes, GATE)
    assert told == "no longer known    s/a,b/guard-off/venv   PASS -> BLOCKED by meet/a,b/guard-off/venv"


def test_a_long_list_is_cut_with_a_word_about_the_rest() -> None:
    many = [Changed(cell_id=str(n), change=Change.REMOVED, before=PASS, after=None) for n in range(25)]
    assert render(many, GATE).splitlines()[-1].startswith("… and 5 more")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("reset by peer\nException raised from recvBytes", "reset by peer"),
        ("Error(s) in loading X:\n\n\tMissing key(s): 0.W\n\tmore", "Error(s) in loading X: Missing key(s): 0.W"),
        (
            "ranks [0]\nTraceback (most recent call last): (RANK 0)\n  File x\nE: five values\n",
            "ranks [0]: E: five values",
        ),
        ("only:", "only:"),
        ("", ""),
    ],
)
def test_an_error_in_one_line_says_what_its_text_leads_to(text: str, line: str) -> None:
    assert ErrorFacts(type="E", text=text).headline == line
