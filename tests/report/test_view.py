"""Counts, tables and words are the same for every report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.model.outcomes import Outcome, Policy, Verdict
from torchskew.model.results import Checked, Status
from torchskew.report import view

from tests import factories

OK, CLEAR, OPAQUE, TIMEOUT = Outcome.OK, Outcome.CLEAR, Outcome.OPAQUE, Outcome.TIMEOUT


def test_planned_is_the_sum_of_the_verdicts():
    for run, decision in (factories.good_run(), factories.bad_run()):
        counts = view.counts(run, decision)
        assert counts.planned == sum(counts.verdicts.values()) == len(run.plan.cells)
        assert counts.verdicts[Verdict.FAIL] == counts.known + counts.regressions


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ((OK, OK), "OK"),
        ((TIMEOUT, OPAQUE), "TIME/OPQ"),
        ((Outcome.HANG,), "HANG"),
        ((OK,) * 7 + (TIMEOUT,), "OK*7/TIME"),
        ((Outcome.UNSUPPORTED, OK), "N/A/OK"),
    ],
)
def test_outcomes_in_short(outcomes, said):
    assert view.outcome_words(outcomes) == said


def test_cells_without_outcomes_show_their_verdict():
    blocked = factories.result(factories.cell(), verdict=Verdict.BLOCKED)
    assert view.words(blocked) == "blocked"
    assert view.words(factories.result(factories.cell(), Outcome.NOT_RUN, OK)) == "unknown"


def test_success_where_a_refusal_was_promised_does_not_look_like_success():
    cell = replace(factories.cell(), policy=Policy.REFUSE)
    assert view.words(factories.result(cell, OK, OK, verdict=Verdict.FAIL)) == "FAIL:OK"


def test_what_shuts_the_gate_is_marked():
    result = factories.result(factories.cell(), TIMEOUT, OPAQUE)
    assert view.label(Checked(result=result, status=Status.REGRESSION)) == "TIME/OPQ!"
    assert view.label(Checked(result=result, status=Status.KNOWN_FAILURE)) == "TIME/OPQ"


def test_a_surprise_names_the_rank_that_surprised():
    planned = factories.cell(predicted=(OK, OK))
    assert view.observed_words(factories.result(planned, OK, TIMEOUT)) == "TIMEOUT on rank 1"
    assert view.observed_words(factories.result(planned, CLEAR, CLEAR)) == "CLEAR"


def test_worst_comes_first_among_the_unexpected():
    _, decision = factories.bad_run()
    statuses = [item.status for item in view.unexpected(decision)]
    assert statuses == [Status.REGRESSION, Status.UNEXPECTED_PASS, Status.UNKNOWN]


def test_names_of_logs_are_safe_and_never_shared():
    ids = ["a/b,c/guard-off/docker", "a__b,c/guard-off/docker", "a b", "a*b", "x" * 300, "x" * 299 + "y"]
    slugs = [view.slug(each) for each in ids]
    assert len(set(slugs)) == len(ids)
    assert all(len(slug) < 250 and "/" not in slug and " " not in slug for slug in slugs)
    assert slugs[0] == "a__b,c__guard-off__docker"


@pytest.mark.parametrize(("value", "said"), [(0.061, "0.06 s"), (12.34, "12.3 s"), (245.2, "4 min 05 s")])
def test_seconds_as_a_person_reads_them(value, said):
    assert view.seconds(value) == said
