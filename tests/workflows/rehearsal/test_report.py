"""What a person reads: the answer last, an arrow at the failing step, and a page that shows all of it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.model import Do, State
from torchskew.workflows.rehearsal.report import compared, page, text
from torchskew.workflows.rehearsal.timeline import curve, lanes

from tests.conftest import browser
from tests.workflows.rehearsal.made import sound
from tests.workflows.rehearsal.test_judge import edited

COMMAND = "torchskew rehearse --plan plan.json"


def broken():
    """A sound rehearsal in which a mixed window fails."""
    seen = sound(rollback=True, faults=("kill", "pause"), steps=70)
    number = next(s.number for s in seen.plan.steps if s.do is Do.TRAIN and s.mixed)
    return edited(seen, number, state=State.FAILED, why="rank 0 <b>OPAQUE</b>"), number


def test_the_last_line_is_the_answer() -> None:
    seen = sound()
    shown = text(seen, judge(seen), COMMAND)
    assert shown.splitlines()[-1] == "2.6.0 to 2.13.0 in rolling mode: safe, because every invariant holds"
    assert "training steps redone" in shown
    assert "MB a node" in shown


def test_a_failure_shows_the_step_the_versions_the_seed_and_the_command() -> None:
    seen, number = broken()
    shown = text(seen, judge(seen), COMMAND)
    arrows = [row for row in shown.splitlines() if row.startswith("--> ")]
    assert len(arrows) == 1
    assert f" {number}  train through" in arrows[0]
    assert "node  before  after" in shown
    assert f"seed 0 · plan {seen.plan.digest} · rerun: {COMMAND}" in shown
    assert "needs stop-the-world" in shown.splitlines()[-1]


def test_what_is_not_tested_is_said_so() -> None:
    seen = sound()
    assert "R7   not tested" in text(seen, judge(seen), COMMAND)


def test_several_strategies_stand_side_by_side() -> None:
    both = [(seen, judge(seen)) for seen in (sound(), sound(strategy="stop-the-world"))]
    assert "stop-the-world  safe" in compared(both)


def test_the_page_escapes_what_ranks_say_and_needs_nothing_else() -> None:
    seen, _ = broken()
    made = page(seen, judge(seen), COMMAND)
    assert "<b>OPAQUE</b>" not in made
    assert "&lt;b&gt;OPAQUE" in made
    assert "http" not in made.replace("http-equiv", "")


def test_every_node_has_a_lane_and_every_fault_a_mark() -> None:
    seen = sound(faults=("kill", "pause"), steps=70)
    drawn = lanes(seen)
    for what in ("node 0", "node 3", ">kill</text>", ">pause</text>", "start of generation 1<"):
        assert what in drawn
    assert curve(seen).count("<polyline") == 3


def test_a_rehearsal_without_a_step_still_has_a_page() -> None:
    empty = replace(sound(), results=(), generations=(), controls=())
    assert "No training step was logged" in page(empty, judge(empty), COMMAND)


@pytest.mark.slow
@pytest.mark.browser
def test_a_real_browser_draws_the_page(tmp_path: Path) -> None:
    seen, _ = broken()
    path = tmp_path / "report.html"
    path.write_text(page(seen, judge(seen), COMMAND), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command = [str(browser()), *options, f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "<svg" in done.stdout
    assert "needs stop-the-world" in done.stdout
