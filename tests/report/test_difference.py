"""Every report shows changes first, lists flakes without counting them against the run, and its numbers add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torchskew.model.declared import Expectation
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import Checked, Decision, Status
from torchskew.model.runs import Run
from torchskew.report import view, write_reports
from torchskew.report.text import accounting, render

from tests import factories

TOLD = "run is worse than r1: 1 regression\nregression         all_reduce/a,b   PASS -> FAIL <OK/WRONG>"
ENTRY = Expectation(cells="*", verdict=Verdict.PASS, reason="a slow host", until="2.17", flaky=True)


def changed() -> tuple[Run, Decision]:
    run, decision = factories.bad_run()
    return run, replace(decision, difference=TOLD)


def flaking() -> tuple[Run, Decision]:
    """A good run in which one cell failed as it is known to do now and then, and one flaked as nobody knew."""
    run, decision = factories.good_run()
    items = list(decision.checked)
    for place, status in ((0, Status.KNOWN_FLAKY), (1, Status.FLAKY)):
        failed = replace(
            items[place].result, verdict=Verdict.FAIL, outcomes=(Outcome.CRASH,), reason="flaky: 1 FAIL, 2 PASS",
            seen=(Verdict.PASS, Verdict.FAIL, Verdict.PASS),
        )  # fmt: skip
        items[place] = Checked(result=failed, status=status, expectation=ENTRY if place == 0 else None)
    return run, replace(decision, checked=tuple(items))


def test_the_difference_stands_first_in_html_and_markdown(tmp_path: Path) -> None:
    paths = write_reports(*changed(), tmp_path)
    page, summary = paths.files["html"].read_text(), paths.files["markdown"].read_text()
    assert "run is worse than r1: 1 regression" in page
    assert "PASS -&gt; FAIL &lt;OK/WRONG&gt;" in page
    assert page.index('id="changed"') < page.index("<h2>Problems</h2>")
    assert summary.index("### What changed") < summary.index("### Problems") < summary.index("### Not as expected")


def test_the_terminal_tells_the_difference_instead_of_tables_of_what_stayed() -> None:
    run, decision = changed()
    text = render(run, decision)
    assert text.startswith(f"changed\n{TOLD}")
    assert "host \\ joiner" not in text
    assert "host \\ joiner" in render(run, replace(decision, difference=""))


def test_a_cell_that_the_difference_shows_is_not_shown_again() -> None:
    run, decision = factories.bad_run()
    worst = view.unexpected(decision)[0].result.cell.id
    assert f": {worst}\n" in render(run, decision)
    compared = replace(decision, difference=f"regression         {worst}   PASS -> FAIL", changed=(worst,))
    assert f": {worst}\n" not in render(run, compared)


def test_repetitions_are_counted_beside_the_cells() -> None:
    run, decision = flaking()
    assert accounting(view.counts(run, decision)).startswith("208 planned, each 3 times (624 runs) = ")


def test_flakes_are_told_apart_from_regressions_in_every_report(tmp_path: Path) -> None:
    run, decision = flaking()
    counts = view.counts(run, decision)
    assert (counts.apart, counts.regressions) == (2, 0)
    assert "0 regressions, 2 flaky or not judged)" in accounting(counts)
    text = render(run, decision)
    first, second = (item.result.cell.id for item in decision.checked[:2])
    assert f"flaky      1   {first}   flaky: 1 FAIL, 2 PASS; a slow host (until 2.17)" in text
    assert f"flaky: {second}\n" in text
    paths = write_reports(run, decision, tmp_path)
    junit = paths.files["junit"].read_text()
    assert "known to flake until 2.17: a slow host" in junit
    assert '"seen": ["PASS", "FAIL", "PASS"]' in paths.files["json"].read_text()
