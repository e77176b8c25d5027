"""The dashboard: runs of any number of records, and what a person finds in it with a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from torchskew.cli import main
from torchskew.judging.history import histories
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.reruns import Rerun
from torchskew.model.runs import Past, RunInfo, RunKind
from torchskew.record.record import Record
from torchskew.report.site.dashboard import Recorded, dashboard_data, in_order, write_dashboard

from tests import factories
from tests.report.test_html import FRAME, OVERFLOW, dom

PASS, FAIL = Verdict.PASS, Verdict.FAIL
# What each cell did in eight runs, a day each.
STORY = {
    "steady": "PPPPPPPP",
    "shaky": "PPFPPFPP",
    "broken": "PPPPPFFF",
    "slower": "PPPPPPPP",
}
CELLS = {name: CellId.of(name, ("2.6.0", "2.13.0"), "venv") for name in STORY}


def recorded() -> Recorded:
    """Eight runs, of which the content of one cell changed where it broke."""
    runs = [
        RunInfo(
            run_id=f"run{day}", kind=RunKind.MATRIX, command="torchskew matrix", seed=0, torchskew="0.2.0",
            runtime="uv", runtime_why="asked for", plan_digest="d", rerun=Rerun(),
            started=f"2026-11-{day:02}T08:00:00+00:00",
        )
        for day in range(1, 9)
    ]  # fmt: skip
    pasts = [
        Past(
            run_id=f"run{day}", cell_id=CELLS[name], repeat=0, verdict=PASS if letter == "P" else FAIL,
            outcomes=(Outcome.OK, Outcome.OK if letter == "P" else Outcome.CRASH),
            seconds=float(day) if name == "slower" else 0.5, cached=False,
            key="new" if name == "broken" and day > 5 else "old", at=f"2026-11-{day:02}T08:00:00+00:00",
        )
        for name, story in STORY.items()
        for day, letter in enumerate(story, 1)
    ]  # fmt: skip
    return Recorded(folders=("a/out", "b/out"), runs=in_order(runs[::-1]), cells=histories(pasts))


@pytest.fixture
def dashboard(tmp_path: Path) -> Path:
    path = tmp_path / "flakes.html"
    write_dashboard(recorded(), path)
    return path


def test_every_run_is_counted_once_with_what_really_ran_in_it() -> None:
    data = dashboard_data(recorded())
    assert [run["id"] for run in data["runs"]] == [f"run{day}" for day in range(1, 9)]
    counts = [dict(zip(data["verdicts"], run["counts"], strict=True)) for run in data["runs"]]
    assert [(each["PASS"], each["FAIL"]) for each in counts] == [
        (4, 0),
        (4, 0),
        (3, 1),
        (4, 0),
        (4, 0),
        (2, 2),
        (3, 1),
        (3, 1),
    ]


def test_the_page_asks_nobody_for_anything(dashboard: Path) -> None:
    frame = re.sub(r'<script type="application/json".*?</script>', "", dashboard.read_text(), flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#)', frame)
    assert "@import" not in frame
    assert "url(" not in frame


DRIVER = """<script>{
const said = [], text = id => [...$(id).querySelectorAll("tbody tr")].map(row => [...row.cells].map(cell => cell.textContent).join(" | "));
said.push("tiles: " + [...document.querySelectorAll(".tile")].map(tile => tile.textContent).join(", "));
said.push("regressions: " + text("turns-list"));
said.push("unstable: " + text("unstable-list"));
said.push("drift: " + text("drift-list")[0]);
const bars = document.querySelectorAll(".runs button");
bars[5].click(); said.push("run: " + bars[5].getAttribute("aria-label") + " -> " + $("run").querySelector("pre").textContent);
$("filter").value = "SHAKY"; $("filter").dispatchEvent(new Event("input")); said.push("filtered: " + text("cells-list").length);
const link = $("cells-list").querySelector("button"); link.focus(); link.click();
said.push("cell: " + $("cell-title").textContent + ", rows " + $("cell").querySelectorAll("tbody tr").length + ", " + $("cell").querySelectorAll("circle").length + " points");
said.push("again: " + $("cell").querySelector("pre").textContent);
said.push("says null: " + $("cell").textContent.includes("null"));
said.push("address: " + decodeURIComponent(location.hash));
dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"})); said.push("closed: " + $("cell").hidden + ", back: " + (document.activeElement === link));
document.body.append(el("pre", {id: "said"}, said.join("\\n")));
}</script></body>"""  # noqa: E501 - a script
SAID = """\
tiles: 4cells really ran, 32results, 1regression, 1unstable cell, 1became slower
regressions: broken/2.6.0,2.13.0/guard-off/venv | OK/CRASH | run5 (2026-11-05 08:00) | run6 (2026-11-06 08:00) | changed |
unstable: shaky/2.6.0,2.13.0/guard-off/venv | 2 of 8 | 25.0 % | 7.1 % to 59.1 % |
drift: slower/2.6.0,2.13.0/guard-off/venv | 4.5 s | x 5.00
run: matrix run6 (2026-11-06 08:00): 2 pass, 2 fail -> torchskew matrix
filtered: 1
cell: shaky/2.6.0,2.13.0/guard-off/venv, rows 8, 8 points
again: torchskew matrix --only 'shaky/2.6.0,2.13.0/guard-off/venv' --no-cache
says null: false
address: #cell=shaky/2.6.0,2.13.0/guard-off/venv
closed: true, back: true"""  # noqa: E501 - what the script above says


@pytest.mark.slow
@pytest.mark.browser
def test_a_person_finds_regressions_unstable_cells_drift_and_a_cells_history(dashboard: Path, tmp_path: Path) -> None:
    dashboard.write_text(dashboard.read_text(encoding="utf-8").replace("</body>", DRIVER), encoding="utf-8")
    said = re.search(r'<pre id="said">(.*?)</pre>', dom(dashboard, tmp_path), re.DOTALL)
    assert said, "the driver's script did not reach its end"
    assert [line.rstrip() for line in said[1].replace("&gt;", ">").splitlines()] == SAID.splitlines()


@pytest.mark.slow
@pytest.mark.browser
def test_the_dashboard_is_never_wider_than_its_window(dashboard: Path, tmp_path: Path) -> None:
    dashboard.write_text(dashboard.read_text(encoding="utf-8").replace("</body>", OVERFLOW), encoding="utf-8")
    frame = dashboard.with_name("frame.html")
    frame.write_text(FRAME.format(page=dashboard.name, width=400), encoding="utf-8")
    assert "overflows by 0 px" in dom(frame, tmp_path)


def test_records_of_several_machines_are_one_dashboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second record holds the run of the first as well, as an artefact that was merged does."""
    for folder, runs in (("one", ("r1",)), ("two", ("r1", "r2"))):
        with Record.open(tmp_path / folder / "record.sqlite", create=True) as record:
            for run_id in runs:
                verdicts = (Outcome.OK, Outcome.OK if run_id == "r1" else Outcome.CRASH)
                run = factories.run((factories.result(factories.cell(), *verdicts),), run_id=run_id)
                record.begin(run.info, run.plan)
                for result in run.results:
                    record.write(run_id, result)
    folders = [str(tmp_path / name) for name in ("one", "two")]
    page = tmp_path / "flakes.html"
    assert main(["flakes", *folders, "--html", str(page)]) == 0
    said = capsys.readouterr().out
    assert "1 of 2" in said
    assert f"wrote {page} · 2 runs, 1 cells" in said
    held = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert held
    assert [run["id"] for run in json.loads(held[1])["runs"]] == ["r1", "r2"]
