"""The job summary: the decision first, within GitHub's limit, and nothing of a rank's becomes markup."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome
from torchskew.report import markdown as module
from torchskew.report.findings import findings_of
from torchskew.report.logs import Logs, Tail, Written
from torchskew.report.markdown import write_markdown

from tests import factories

LIMIT = 1024 * 1024


def written(tmp_path, run, decision, logs=None):
    shared = Written(findings=findings_of(run, decision), logs=logs or Logs())
    write_markdown(run, decision, shared, tmp_path / "summary.md")
    return (tmp_path / "summary.md").read_text()


def test_a_reviewer_sees_this(tmp_path):
    text = written(tmp_path, *factories.bad_run())
    path = Path(__file__).parent.parent / "golden" / "summary-bad.md"
    if os.environ.get("TORCHSKEW_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_decision_comes_first(tmp_path):
    assert written(tmp_path, *factories.good_run()).startswith("## ✅ torchskew: as expected\n\n`208 planned = ")
    assert written(tmp_path, *factories.bad_run()).startswith("## ❌ torchskew: not as expected")


@pytest.mark.slow
def test_ten_thousand_failures_with_logs_stay_below_the_limit(tmp_path):
    found = tuple(
        factories.result(factories.cell(skew=(f"1.{n}", "2")), Outcome.OK, Outcome.WRONG) for n in range(10_000)
    )
    logs = Logs(tails={(result.cell.id, 1): Tail(log="x" * 4000, stacks="x" * 4000) for result in found})
    text = written(tmp_path, factories.run(found), factories.decision(found), logs)
    assert LIMIT / 2 < len(text.encode()) < LIMIT
    assert "and 9900 more" in text


def test_of_stacks_the_innermost_calls_are_shown(tmp_path):
    found = (factories.result(factories.cell(skew=("2.6.0", "2.6.0")), Outcome.OK, Outcome.HANG),)
    tail = Tail(log="first" + "x" * 9000 + "last", stacks="innermost" + "x" * 9000 + "outermost")
    text = written(tmp_path, factories.run(found), factories.decision(found), Logs(tails={(found[0].cell.id, 1): tail}))
    assert "innermost" in text
    assert "outermost" not in text
    assert "last" in text
    assert "first" not in text


def test_what_does_not_fit_is_said_to_be_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIMIT", 2000)
    text = written(tmp_path, *factories.bad_run())
    assert len(text.encode()) < 2100
    assert text.startswith("## ❌ torchskew")
    assert text.endswith("the rest is in `report.html`.\n")


def test_markup_of_a_rank_stays_text(tmp_path):
    result = factories.result(factories.cell(), Outcome.OPAQUE, Outcome.OPAQUE)
    nasty = "```\n</details><script>x</script> | a"
    ranks = tuple(replace(one, error=ErrorFacts(type="E", text=nasty)) for one in result.ranks)
    found = (replace(result, reason=nasty, attempts=(replace(result.attempts[0], ranks=ranks),)),)
    decision = factories.decision(found)
    decision = replace(decision, checked=(replace(decision.checked[0], status="regression"),))
    text = written(tmp_path, factories.run(found), decision)
    fenced = text.split("\n````\n")
    assert len(fenced) % 2 == 1
    assert "<script>" not in "".join(fenced[::2])
