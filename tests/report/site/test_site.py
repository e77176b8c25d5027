"""The site: one page that asks nobody, holds every cell, and does what a person clicks in a real Chromium."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from torchskew.model.outcomes import Verdict
from torchskew.model.survey import Place, Survey
from torchskew.releases.advice import Question, advise
from torchskew.releases.diagnosis import diagnose
from torchskew.report.catalogue import catalogue
from torchskew.report.site import facts
from torchskew.report.site.page_data import SURFACES, Contents, page_data
from torchskew.report.site.write import write_site
from torchskew.workflows.inputs import read_scenarios
from torchskew.workflows.log_scan import scan

from tests.conftest import ROOT
from tests.releases.threads import threads
from tests.report.site import made_up
from tests.report.test_html import FRAME, OVERFLOW, dom

HELD = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """The page of a small survey."""
    pair = Question(old="2.2.2", new="2.6.0")
    return write_site(replace(made_up.contents(), advice=(advise(pair, catalogue()),)), tmp_path / "site")[0]


def test_the_page_asks_nobody_for_anything(index: Path) -> None:
    frame = HELD.sub("", index.read_text(encoding="utf-8"))
    links = set(re.findall(r'(?:src|href)="([^"#]+)"', frame))
    assert links == {"survey.json", "survey.schema.json", "breaks.json", "breaks.schema.json"}
    assert {path.name for path in index.parent.iterdir()} == {*links, "index.html"}
    assert "@import" not in frame
    assert "url(" not in frame
    assert "default-src 'none'" in frame


def test_every_folder_of_scenarios_that_a_survey_runs_has_a_name_on_the_page() -> None:
    folders = {Path(each.path).parent.name for each in read_scenarios().values()}
    assert folders - {"guard", "suite"} == set(SURFACES)


def test_the_data_beside_the_page_is_what_it_was_made_of(index: Path) -> None:
    text = (index.parent / "survey.json").read_text(encoding="utf-8")
    assert facts.loads(text, "survey.json") == made_up.contents().survey
    held = json.loads((index.parent / "breaks.json").read_text(encoding="utf-8"))
    assert len(held["breaks"]) == len(catalogue().breaks)


def test_every_cell_is_in_the_page_and_measured_ones_are_told_from_predicted_ones() -> None:
    contents = made_up.contents()
    data = page_data(contents)
    [part] = data["parts"]
    seen, names = contents.survey.parts[0].by_place, data["releases"]
    assert names == [*made_up.FOUR, "2.15.0"]
    for scenario, rows in zip(part["scenarios"], part["cells"], strict=True):
        for first, row in zip(names, rows, strict=True):
            for second, number in zip(names, row, strict=True):
                state, measured = data["states"][number], seen.get(Place(scenario["name"], first, second))
                assert state.get("s", "") == ("" if measured else "predicted")
                if measured:
                    assert data["verdicts"][state["v"]] == measured.verdict
                    assert [data["texts"][each] for each in state.get("e", [])] == [*measured.errors]


def test_a_failing_cell_names_the_one_break_that_it_shows() -> None:
    contents = made_up.contents()
    data = page_data(contents)
    [part] = data["parts"]
    rows = part["cells"][[each["name"] for each in part["scenarios"]].index("rendezvous_tcp")]
    state = data["states"][rows[0][1]]
    assert data["breaks"][state["b"] - 1]["id"] == "SKEW-001"


def test_an_inferred_cell_is_told_from_a_measured_one() -> None:
    part = made_up.part()
    guessed = {place: replace(each, inferred=True) for place, each in part.by_place.items()}
    contents = replace(made_up.contents(), survey=Survey(parts=(facts.laid_out(part, guessed),)), expected=())
    assert {state.get("s") for state in page_data(contents)["states"]} == {"inferred"}


def test_markup_of_a_rank_never_becomes_markup_of_the_page(tmp_path: Path) -> None:
    nasty = "</script><img src=x onerror=alert(1)><!--"
    part = made_up.part()
    odd = replace(made_up.MEETS, errors=(nasty, nasty))
    contents = made_up.contents()
    broken = facts.laid_out(part, {**part.by_place, Place("rng_state", "2.2.2", "2.2.2"): odd})
    page = write_site(replace(contents, survey=Survey(parts=(broken,))), tmp_path)[0].read_text(encoding="utf-8")
    assert "<img" not in page
    held = HELD.search(page)
    assert held
    assert nasty in json.loads(held[1])["texts"]


def whole() -> Contents:
    """Every release by every release by ninety scenarios, and advice for each pair."""
    contents = made_up.contents(made_up.NAMES, 90, declared=())
    answer = advise(Question(old="2.2.2", new="2.6.0"), catalogue())
    pairs = [(old, new) for old in made_up.NAMES for new in made_up.NAMES if old != new]
    advice = tuple(replace(answer, question=Question(old=old, new=new)) for old, new in pairs)
    return replace(contents, advice=advice)


@pytest.mark.slow
def test_all_releases_and_scenarios_are_less_than_five_megabytes(tmp_path: Path) -> None:
    contents = whole()
    assert sum(each.verdict is not None for each in contents.survey.parts[0].by_place.values()) == 31 * 31 * 90
    written = write_site(contents, tmp_path)
    assert sum(path.stat().st_size for path in written) < 5e6


DRIVER = """<script>{
const said = [];
const press = (node, key) => node.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const at = (first, second) => document.querySelector(`[data-at="${first} ${second}"]`);
said.push("rows: " + document.querySelectorAll("#grid tbody tr").length);
said.push("no group: " + at(0, 1).getAttribute("aria-label"));
said.push("predicted: " + at(4, 4).getAttribute("aria-label") + " " + at(4, 4).classList.contains("guess"));
at(0, 1).click();
said.push("cell: " + $("cell-title").textContent);
const group = $("cell").querySelector(".group");
said.push("break: " + group.querySelector("h4 a").textContent);
said.push("ranks: " + [...group.querySelectorAll(".rank")].map(rank => rank.querySelector(".word").textContent + " " + (rank.querySelector("code") || {}).textContent).join(" | "));
said.push("command: " + group.querySelector("pre").textContent);
said.push("address: " + location.hash);
press(at(0, 1), "ArrowRight"); said.push("right: " + document.activeElement.dataset.at);
press(document.activeElement, "ArrowDown"); said.push("down: " + document.activeElement.dataset.at);
press(document.activeElement, "Home"); said.push("home: " + document.activeElement.dataset.at);
press(document.activeElement, "End"); said.push("end: " + document.activeElement.dataset.at);
said.push("one stop for Tab: " + document.querySelectorAll('.c[tabindex="0"]').length);
document.querySelectorAll(".surface")[2].click(); said.push("surface: " + $("map-title").textContent + " " + document.querySelectorAll('.surface[aria-pressed="true"]').length);
document.querySelectorAll(".surface")[0].click();
$("scenario").value = "rng_state"; $("scenario").dispatchEvent(new Event("change"));
said.push("scenario: " + at(2, 3).getAttribute("aria-label"));
$("table-fold").open = true; drawTable(); said.push("table: " + $("table").querySelectorAll("tbody tr").length + ", " + $("table").querySelector("tbody tr:nth-child(2)").textContent);
$("old").value = 1; $("new").value = 2; $("mine-form").requestSubmit();
said.push("mine: " + $("answer-title").textContent + ", focused " + (document.activeElement === $("answer-title")));
said.push("advice: " + $("answer").querySelector("dd").textContent);
said.push("orders: " + [...$("answer").querySelectorAll("h3")].map(node => node.textContent).join(" and "));
said.push("link: " + location.hash.includes("from=2.2.2&to=2.6.0"));
$("text").value = "'_RendezvousState' object has no attribute 'redundancy_list'"; $("text").dispatchEvent(new Event("input"));
said.push("search: " + $("found").querySelector(".verdict").dataset.fault + " " + $("found").querySelector(".card b").textContent.slice(0, 8));
$("text").value = "nothing known"; $("text").dispatchEvent(new Event("input"));
said.push("nothing: " + $("found").querySelector(".verdict").dataset.fault);
said.push("bars: " + document.querySelectorAll("#timeline .line").length + " " + document.querySelectorAll("#timeline .line:nth-child(2) [role=listitem]").length);
said.push("breaks: " + (document.querySelectorAll("details.break").length === data.breaks.length) + ", first " + document.querySelector("details.break").id);
$("theme").click(); const one = document.documentElement.dataset.theme; $("theme").click();
said.push("themes: " + [one, document.documentElement.dataset.theme].sort());
const unnamed = [...document.querySelectorAll("button, select, input, textarea, a, aside, section, [role=region]")].filter(node =>
  !(node.textContent.trim() || node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || (node.labels && node.labels.length)));
said.push("without a name: " + unnamed.map(node => node.outerHTML.slice(0, 80)).join(" "));
document.body.append(el("pre", {id: "said"}, said.join("\\n")));
}</script></body>"""  # noqa: E501 - a script


SAID = """\
rows: 5
no group: 2.1.2 hosts, 2.2.2 joins: no group forms, or nothing works: 1 breaks, 4 blocked because no group forms, 1 works; measured
predicted: 2.15.0 hosts, 2.15.0 joins: works: 6 work; predicted, not measured true
cell: 2.1.2 hosts, 2.2.2 joins
break: SKEW-001
ranks: TIME DistStoreError: Timed out after 6 seconds waiting for clients. 1/2 clients joined. | OPQ DistNetworkError: Connection reset by peer
command: torchskew init 2.1.2 2.2.2 && torchskew matrix --scenarios rendezvous_tcp --only 'rendezvous_tcp/2.1.2,2.2.2/guard-off/*' --no-cache
address: #host=2.1.2&joiner=2.2.2
right: 0 2
down: 1 2
home: 1 0
end: 1 4
one stop for Tab: 1
surface: Collectives 1
scenario: 2.6.0 hosts, 2.13.0 joins: OK/WRONG, measured
table: 25, 2.1.22.2.2OK/OK, measured
mine: 2.2.2 to 2.6.0, focused true
advice: only where rank 0 runs 2.6.0
orders: 2.6.0 hosts or writes, 2.2.2 joins or reads and 2.2.2 hosts or writes, 2.6.0 joins or reads
link: true
search: releases SKEW-008
nothing: unknown
bars: 6 3
breaks: true, first SKEW-001
themes: dark,light
without a name: """  # noqa: E501 - what the script above says


@pytest.mark.slow
@pytest.mark.browser
def test_a_person_clicks_moves_by_keys_asks_about_two_versions_and_searches(index: Path, tmp_path: Path) -> None:
    index.write_text(index.read_text(encoding="utf-8").replace("</body>", DRIVER), encoding="utf-8")
    drawn = dom(index, tmp_path, "?theme=light")
    said = re.search(r'<pre id="said">(.*?)</pre>', drawn, re.DOTALL)
    assert said, "the driver's script did not reach its end"
    lines = said[1].replace("&amp;", "&").replace("&gt;", ">").splitlines()
    assert lines == SAID.splitlines()


@pytest.mark.slow
@pytest.mark.browser
def test_a_link_opens_the_cell_the_scenario_and_the_pair_that_it_names(index: Path, tmp_path: Path) -> None:
    drawn = dom(
        index, tmp_path, "#from=2.2.2&to=2.6.0&host=2.2.2&joiner=2.1.2&surface=rendezvous&scenario=rendezvous_tcp"
    )
    assert ">2.2.2 to 2.6.0</h2>" in drawn
    assert ">2.2.2 hosts, 2.1.2 joins</h3>" in drawn
    assert '<h3 id="map-title">Rendezvous_tcp</h3>' in drawn


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_is_never_wider_than_its_window(tmp_path: Path) -> None:
    """All releases, in a window of 400 pixels, with an answer and a cell open."""
    page = write_site(whole(), tmp_path)[0]
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", OVERFLOW), encoding="utf-8")
    frame = page.with_name("frame.html")
    address = f"{page.name}#from=2.2.2&amp;to=2.6.0&amp;host=2.1.2&amp;joiner=2.6.0"
    frame.write_text(FRAME.format(page=address, width=400), encoding="utf-8")
    assert "overflows by 0 px" in dom(frame, tmp_path)


EXPLAINED = """<script>
document.body.append(el("pre", {id: "said"}, JSON.stringify(ASKED.map(([log, mine]) => {
  const answer = diagnose(material(log, mine));
  return [answer.fault, answer.sentence, answer.matches.map(match => [match.entry.id, FITS[match.fit], match.why]), answer.others.map(other => [other.cause.id, other.sure])];
}))));
</script></body>"""  # noqa: E501 - a script


def asked() -> list[tuple[str, tuple[str, str] | None]]:
    """The error texts of the record and of public threads, with releases and without."""
    survey = json.loads((ROOT / "tests/releases/failures_of_a_survey.json").read_text(encoding="utf-8"))["failures"]
    texts = [error["text"] for cell in survey for error in cell["errors"]]
    logs = [(text, None) for text in dict.fromkeys(texts)]
    logs += [(text, ("2.2.2", "2.6.0")) for text in dict.fromkeys(texts)]
    logs += [("\n".join(each.lines), each.releases or None) for each in threads()]
    logs += [("torch==2.4.1+cu121 and torch 2.6.0\nConnection reset by peer", None), ("Connection reset by peer", None)]
    logs += [(f" 1%|#   | 1/3\r67%|##  | 2/3\rRuntimeError: Address already in use\r\nstep {'x' * 3000}", None)]
    return [*logs, ("'_RendezvousState' object has no attribute 'redundancy_list'\nAddress already in use", None)]


def answered(log: str, releases: tuple[str, str] | None) -> list[object]:
    """What `torchskew explain` says."""
    answer = diagnose(scan([f"{log}\n"], None).material(*(releases or ("", ""))), catalogue())  # type: ignore[arg-type]
    matches = [[each.entry.id, each.fit.value, each.why] for each in answer.matches]
    return [answer.fault.value, answer.sentence, matches, [[each.cause.id, each.sure] for each in answer.others]]


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_answers_about_error_texts_as_explain_does(index: Path, tmp_path: Path) -> None:
    logs = asked()
    listed = json.dumps(logs).replace("<", "\\u003c")
    script = EXPLAINED.replace("<script>", f"<script>const ASKED = {listed};", 1)
    index.write_text(index.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    said = re.search(r'<pre id="said">(.*?)</pre>', dom(index, tmp_path), re.DOTALL)
    assert said, "the script did not reach its end"
    answers = json.loads(unescape(said[1]))
    assert len(answers) == len(logs) > 200
    wrong = [
        (log, own, theirs)
        for (log, mine), theirs in zip(logs, answers, strict=True)
        if (own := answered(log, mine)) != theirs
    ]
    assert wrong == []


def test_verdicts_of_the_made_up_survey_are_of_every_kind() -> None:
    verdicts = {each.verdict for each in made_up.part(made_up.NAMES, 90).by_place.values()}
    assert verdicts == {Verdict.PASS, Verdict.FAIL, Verdict.BLOCKED}
