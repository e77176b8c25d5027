"""What a person reads: the answer last, an arrow at the failing step, and a page that shows all of it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import State
from torchskew.workflows.rehearsal.page import html
from torchskew.workflows.rehearsal.planned import Train
from torchskew.workflows.rehearsal.terminal import comparison, text
from torchskew.workflows.rehearsal.timeline import curve, lanes

from tests.conftest import browser
from tests.workflows.rehearsal.observations import healthy
from tests.workflows.rehearsal.test_judge import edited, first

COMMAND = "torchskew rehearse --plan plan.json"


def broken():
    """A sound rehearsal in which a mixed window fails."""
    observation = healthy(rollback=True, faults=("kill", "pause"), training_steps=70)
    number = first(observation, Train, mixed=True)
    return edited(observation, number, state=State.FAILED, why="rank 0 <b>OPAQUE</b>"), number


def test_the_last_line_is_the_answer() -> None:
    observation = healthy()
    shown = text(observation, judge(observation), COMMAND)
    assert shown.splitlines()[-1] == "2.6.0 to 2.13.0 in rolling mode: safe, because every invariant holds"
    assert "training steps redone" in shown
    assert "MB a node" in shown


def test_a_failure_shows_the_step_the_versions_the_seed_and_the_command() -> None:
    observation, number = broken()
    shown = text(observation, judge(observation), COMMAND)
    arrows = [row for row in shown.splitlines() if row.startswith("--> ")]
    assert len(arrows) == 1
    assert f" {number}  train through" in arrows[0]
    assert "node  before  after" in shown
    assert f"seed 0 · plan {observation.plan.digest} · rerun: {COMMAND}" in shown
    assert "needs stop-the-world" in shown.splitlines()[-1]


def test_what_is_not_tested_is_reported_as_that() -> None:
    observation = healthy()
    assert "R7   not tested" in text(observation, judge(observation), COMMAND)


def test_several_strategies_are_compared() -> None:
    both = [(observation, judge(observation)) for observation in (healthy(), healthy(strategy="stop-the-world"))]
    assert "stop-the-world  safe" in comparison(both)


def test_the_page_escapes_what_ranks_report_and_needs_nothing_else() -> None:
    observation, _ = broken()
    made = html(observation, judge(observation), COMMAND)
    assert "<b>OPAQUE</b>" not in made
    assert "&lt;b&gt;OPAQUE" in made
    assert "http" not in made.replace("http-equiv", "")


def test_every_node_has_a_lane_and_every_fault_a_mark() -> None:
    observation = healthy(faults=("kill", "pause"), training_steps=70)
    drawn = lanes(observation)
    for what in ("node 0", "node 3", ">kill</text>", ">pause</text>", "start of generation 1<"):
        assert what in drawn
    assert curve(observation).count("<polyline") == 3


def test_a_rehearsal_without_a_step_still_has_a_page() -> None:
    empty = replace(healthy(), results=(), generations=(), controls=())
    assert "No training step was logged" in html(empty, judge(empty), COMMAND)


@pytest.mark.slow
@pytest.mark.browser
def test_a_real_browser_draws_the_page(tmp_path: Path) -> None:
    observation, _ = broken()
    path = tmp_path / "report.html"
    path.write_text(html(observation, judge(observation), COMMAND), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command = [str(browser()), *options, f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "<svg" in done.stdout
    assert "needs stop-the-world" in done.stdout
