"""What a person reads: the answer last, an arrow at the failing step, and a page that shows all of it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from torchskew.model.outcomes import Verdict
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import State
from torchskew.workflows.rehearsal.page import html
from torchskew.workflows.rehearsal.planned import Train
from torchskew.workflows.rehearsal.terminal import comparison, text
from torchskew.workflows.rehearsal.timeline import curve, lanes

from tests.conftest import browser
from tests.patience import PATIENCE
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
    assert shown.splitlines()[-1] == (
        "2.6.0 to 2.13.0 in rolling mode: safe, because every invariant holds; its checkpoints held model, optimizer, "
        "not scheduler, step, loader, generators, scaler, averages"
    )
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
    assert "stop-the-world  0     safe" in comparison(both)


def test_seeds_with_one_answer_share_its_line() -> None:
    seeds = [(observation, judge(observation)) for observation in (healthy(seed=seed) for seed in (4, 5))]
    assert comparison(seeds).splitlines()[-1].endswith(" (seeds 4, 5)")
    lines = comparison([*seeds, (broken()[0], judge(broken()[0]))]).splitlines()
    assert lines[-1].endswith(" (seed 0)")
    assert "needs stop-the-world" in lines[-1]


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


def test_failures_are_listed_first_in_plain_html_and_the_rest_is_folded() -> None:
    observation, number = broken()
    finding = judge(observation)
    made = html(observation, finding, COMMAND)
    head, _, rest = made.partition("<h2>Timeline</h2>")
    for invariant in finding.invariants:
        assert (f">{invariant.name} FAIL<" in head) is (invariant.verdict is Verdict.FAIL)
    assert f">step {number}</span> train through step" in head
    assert "<script" not in made
    unfolded = re.findall(r'<details class="stage" open>\s*<summary[^>]*><b>([^<]*)', rest)
    assert unfolded == [str(observation.plan.steps[number - 1].stage)]
    assert rest.count('<details class="stage"') == len(observation.plan.stages)


def test_a_rehearsal_that_passed_lists_no_failure_and_unfolds_nothing() -> None:
    observation = healthy()
    made = html(observation, judge(observation), COMMAND)
    assert "What failed" not in made
    assert " open>" not in made


def _browse(page: Path, *options: str) -> str:
    """The page as a real browser has it after loading."""
    common = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command = [str(browser()), *common, *options, f"--user-data-dir={page.parent / 'profile'}", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


@pytest.mark.slow
@pytest.mark.browser
def test_a_real_browser_draws_the_page(tmp_path: Path) -> None:
    observation, _ = broken()
    path = tmp_path / "report.html"
    path.write_text(html(observation, judge(observation), COMMAND), encoding="utf-8")
    shown = _browse(path)
    assert "<svg" in shown
    assert "needs stop-the-world" in shown


# What the page measures of itself once it is drawn.
MEASURE = """<script>
const page = document.documentElement;
document.title = [window.innerWidth, page.scrollWidth, page.scrollHeight].join(" ");
</script>"""


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [500, 1280])
def test_a_long_plan_with_long_paths_fits_the_window_and_is_short(tmp_path: Path, width: int) -> None:
    """500 is the narrowest window that a headless Chromium makes; the page has one layout for all below 640."""
    long = "/home/" + "folder_without_a_break" * 20 + "/train.py"
    observation = healthy(nodes=16, rollback=tuple(range(1, 17)), training_steps=300, faults=("kill", "pause"))
    number = first(observation, Train, mixed=True)
    observation = edited(observation, number, state=State.FAILED, why=f"rank 0 OPAQUE: {long} " * 50)
    path = tmp_path / "report.html"
    made = html(observation, judge(observation), f"torchskew rehearse --plan {long}")
    path.write_text(made.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    title = re.search(r"<title>(\d+) (\d+) (\d+)</title>", _browse(path, f"--window-size={width},900"))
    assert title is not None
    inner, scroll, height = map(int, title.groups())
    assert inner == width
    assert scroll <= inner
    assert height < 8000
