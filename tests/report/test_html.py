"""The page: self-contained, safe whatever a rank printed, and really drawn by a real Chromium."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import replace
from urllib.parse import quote

import pytest
from torchskew.model.facts import ErrorFacts
from torchskew.model.outcomes import Outcome
from torchskew.report import html, view, write_reports
from torchskew.report.html import share

from tests import factories
from tests.conftest import browser
from tests.patience import PATIENCE

REGRESSION = "all_reduce/2.6.0,2.13.0/guard-off/docker"


def page(tmp_path, run, decision):
    return write_reports(run, decision, tmp_path / "report").files["html"]


def data(path):
    text = path.read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_asks_nobody_for_anything(tmp_path):
    text = page(tmp_path, *factories.bad_run()).read_text()
    frame = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|logs/)', frame)
    assert "@import" not in frame
    assert "url(" not in frame
    assert "default-src 'none'" in frame


def test_the_data_holds_every_cell_and_every_part_of_the_accounting(tmp_path):
    run, decision = factories.bad_run()
    found = data(page(tmp_path, run, decision))
    assert [cell["id"] for cell in found["cells"]] == [cell.id for cell in run.plan.cells]
    shown = [number for table in found["tables"] for row in table["grid"] for number in row if number >= 0]
    shown += [number for table in found["tables"] for number in table["wide"]]
    assert sorted(shown) == [*range(len(run.plan.cells))]
    assert {share(item) for item in decision.checked} == {"pass", "known", "bad", "unknown", "unsupported", "blocked"}


def test_markup_of_a_rank_never_becomes_markup_of_the_page(tmp_path):
    nasty = "</script><img src=x onerror=alert(1)><!--"
    result = factories.result(factories.cell(), Outcome.OPAQUE, Outcome.OPAQUE)
    ranks = tuple(replace(one, error=ErrorFacts(type=nasty, text=nasty), log=nasty) for one in result.ranks)
    found = (replace(result, reason=nasty, attempts=(replace(result.attempts[0], ranks=ranks),)),)
    decision = replace(factories.decision(found, (nasty,)), sentence=nasty)
    path = page(tmp_path, factories.run(found, runtime=nasty), decision)
    assert "<img" not in path.read_text()
    assert nasty in data(path)["texts"]


def without_scripts(path):
    """The page as a browser shows it whose user forbids JavaScript."""
    text = path.read_text()
    assert "<noscript>" in text
    return re.sub(r"</?noscript>", "", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))


def test_without_javascript_the_decision_comes_first_and_every_failure_is_listed(tmp_path):
    run, decision = factories.bad_run()
    text = without_scripts(page(tmp_path, run, decision))
    failures = text[text.index('<section id="unexpected">') :]
    failures = failures[: failures.index("</section>")]
    assert text.index(decision.sentence) < text.index("<h2>Problems</h2>") < text.index('<section id="unexpected">')
    assert "Not as expected <small>3</small>" in failures
    listed = re.findall(r'<span class="pill bad">(.*?)</span> <code>(.*?)</code>', failures)
    assert listed == [(item.status.replace("-", " "), item.result.cell.id) for item in view.unexpected(decision)]
    assert "SUM/float16/odd differs at index 7: 3.0, not 3.5 &lt;b&gt;&amp;amp;&lt;/b&gt;" in failures
    assert "<li>rank 1 2.13.0: WRONG in done after 0.06 s · exit 0<br>" in failures
    assert "expected PASS, got FAIL (OK/WRONG)" in failures
    assert f"<pre>torchskew matrix --only {REGRESSION} --no-cache</pre>" in failures
    assert 'href="logs/barrier__2.13.0,2.6.0__guard-off__docker/rank0.txt"' in failures


def test_of_very_many_failures_the_page_says_how_many_it_does_not_list(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "_LISTED", 2)
    text = page(tmp_path, *factories.bad_run()).read_text()
    assert text.count('<details class="card failure">') == 2
    assert "1 more: report.txt beside this page lists all of them." in text


def test_a_green_run_lists_no_failure(tmp_path):
    assert 'id="unexpected"' not in page(tmp_path, *factories.good_run()).read_text()


# A map is drawn when it comes into view, which Chromium says with its next frame. The virtual clock waits for tasks
# and not for frames, so on a busy machine it ran out before one: here each map is in view at once.
IN_VIEW = """<script>window.IntersectionObserver = class {
constructor(seen) { this.seen = seen; }
observe(target) { setTimeout(() => this.seen([{ target, isIntersecting: true }]), 0); }
unobserve() {} disconnect() {}
};</script></head>"""


def dom(path, tmp_path, fragment=""):
    """The page's elements after its script ran."""
    path.write_text(path.read_text().replace("</head>", IN_VIEW, 1))
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", "--window-size=1400,6000"]
    command += ["--dump-dom", f"{path.as_uri()}{fragment}"]
    # Chromium leaves temporary files where it is told to.
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    # It makes a socket there, whose path may have 107 characters: pytest's own folders come close to that.
    with tempfile.TemporaryDirectory(prefix="c", dir="/tmp") as short:
        environment["TMPDIR"] = short
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment
        ).stdout


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_draws_the_maps_and_the_details_of_the_cell_in_the_address(tmp_path):
    drawn = dom(page(tmp_path, *factories.bad_run()), tmp_path, f"#cell={quote(REGRESSION, safe='')}")
    detail = drawn[drawn.index('<aside id="detail"') :]
    assert "hidden" not in detail[: detail.index(">")]
    assert "2.6.0 hosts, 2.13.0 joins" in detail
    assert f"torchskew matrix --only {REGRESSION} --no-cache" in detail
    assert "SUM/float16/odd differs at index 7: 3.0, not 3.5 &lt;b&gt;&amp;amp;&lt;/b&gt;" in detail
    assert ">2.13.0+cpu<" in detail
    assert "surprise" in detail
    assert drawn.count('class="cell shut') + drawn.count('class="cell dim shut') >= 3
    assert re.search(
        r'aria-label="all_reduce: rank 0 2.6.0 OK, rank 1 2.13.0 WRONG; FAIL, regression, surprise"', drawn
    )


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_shows_error_stacks_and_log_of_a_hang(tmp_path):
    cell = "env_skew.lazy_init/2.6.0,2.6.0/guard-off/docker"
    drawn = dom(page(tmp_path, *factories.good_run()), tmp_path, f"#cell={quote(cell, safe='')}")
    detail = drawn[drawn.index('<aside id="detail"') :]
    assert "Stacks of rank 1" in detail
    assert "waiting for rank 1 &lt;&amp;&gt;" in detail
    assert "SIGKILL (stopped by us)" in detail
    assert 'href="logs/env_skew.lazy_init__2.6.0,2.6.0__guard-off__docker/rank1.txt"' in detail


LONG_PATH = "/srv/agents/0123456789abcdef0123456789abcdef/candidates/torch-2.16.0a0+git0123456789abcdef-cp311-cp311.whl"
OVERFLOW = """<script>addEventListener("load", () => {
const root = document.documentElement; parent.postMessage(root.scrollWidth - root.clientWidth, "*");
})</script></body>"""
FRAME = """<body><iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script>addEventListener("message", event => document.body.append("overflows by " + event.data + " px"))</script>"""


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_long_paths_never_make_the_page_wider_than_its_window(tmp_path, width, scripts):
    run, decision = factories.bad_run()
    info = replace(run.info, command=f"torchskew gate --out {LONG_PATH}", runtime=f"docker at unix://{LONG_PATH}")
    info = replace(info, environments={**info.environments, LONG_PATH: LONG_PATH})
    checked = tuple(
        replace(item, result=replace(item.result, reason=f"{item.result.reason} {LONG_PATH}"))
        for item in decision.checked
    )
    decision = replace(decision, checked=checked, sentence=f"gate shut: {LONG_PATH}", problems=(LONG_PATH,))
    path = page(tmp_path, replace(run, info=info), decision)
    text = path.read_text() if scripts else without_scripts(path)
    path.write_text(text.replace("</body>", OVERFLOW))
    # A window of Chromium is at least 500 pixels wide, a frame may be narrower.
    frame = path.with_name("frame.html")
    frame.write_text(FRAME.format(page=path.name, width=width))
    assert "overflows by 0 px" in dom(frame, tmp_path)


@pytest.mark.slow
@pytest.mark.browser
def test_a_long_map_is_folded_unless_something_in_it_is_not_as_expected(tmp_path):
    found = list(factories.many(4000))
    bad = next(n for n, item in enumerate(found) if item.cell.scenario == "broadcast" and item.verdict == "PASS")
    found[bad] = factories.result(found[bad].cell, Outcome.OK, Outcome.WRONG)
    path = page(tmp_path, factories.run(tuple(found)), factories.decision(tuple(found)))
    path.write_text(path.read_text().replace("</body>", "<script>cards.forEach((_, n) => draw(n))</script></body>"))
    maps = [card for card in dom(path, tmp_path).split("<article")[1:] if "<small>guard off</small>" in card]
    names = {re.search(r"<h3>(\w+)<", card)[1]: re.search(r"<details( open)?", card) for card in maps}
    assert {name for name, fold in names.items() if fold and fold[1]} == {"broadcast"}
    assert {"rendezvous_tcp", "all_reduce"} <= {name for name, fold in names.items() if fold}
    assert names["import_smoke"] is None


DRIVER = """<script>{
const said = [];
const press = (node, key) => node.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const shown = () => $("shown").textContent;
document.querySelector("[data-share=known]").click(); said.push("known: " + shown());
document.querySelector("[data-share=known]").click(); said.push("all: " + shown());
document.querySelector(".chip.o5").click(); said.push("hang: " + shown());
said.push("hidden maps: " + document.querySelectorAll(".map[hidden]").length);
$("clear").click(); said.push("cleared: " + shown());
$("scenario").value = "barrier"; $("scenario").dispatchEvent(new Event("change")); said.push("barrier: " + shown());
$("clear").click();
draw(2);
const first = cards[2].querySelector(".cell"); first.focus(); press(first, "ArrowRight");
said.push("right: " + document.activeElement.getAttribute("aria-label").split(";")[0]);
press(document.activeElement, "ArrowDown");
said.push("down: " + document.activeElement.getAttribute("aria-label").split(";")[0]);
const from = document.activeElement; from.click(); said.push("open: " + $("detail-title").textContent);
press($("detail"), "Escape");
said.push("closed: " + $("detail").hidden + ", back: " + (document.activeElement === from));
press(document.body, "n"); said.push("n: " + $("detail-title").textContent);
press(document.body, "n"); press(document.body, "p"); said.push("p: " + $("detail-title").textContent);
press(document.body, "Escape"); press(document.body, "/"); said.push("slash: " + document.activeElement.id);
$("theme").click(); const one = document.documentElement.dataset.theme; $("theme").click();
said.push("themes: " + [one, document.documentElement.dataset.theme].sort());
document.body.append(el("pre", {id: "said"}, said.join("\\n")));
}</script></body>"""


@pytest.mark.slow
@pytest.mark.browser
def test_a_person_filters_moves_by_keys_opens_and_closes(tmp_path):
    path = page(tmp_path, *factories.bad_run())
    path.write_text(path.read_text().replace("</body>", DRIVER))
    drawn = dom(path, tmp_path, "?theme=light")
    said = re.search(r'<pre id="said">(.*?)</pre>', drawn, re.DOTALL)
    assert said, "the driver's script did not reach its end"
    assert said[1].splitlines() == [
        "known: 20 of 208 cells",
        "all: 208 cells",
        "hang: 3 of 208 cells",
        "hidden maps: 12",
        "cleared: 208 cells",
        "barrier: 32 of 208 cells",
        "right: rendezvous_tcp: rank 0 2.1.2 TIMEOUT, rank 1 2.2.2 OPAQUE",
        "down: rendezvous_tcp: rank 0 2.2.2 OK, rank 1 2.2.2 OK",
        "open: 2.2.2 hosts, 2.2.2 joins",
        "closed: true, back: true",
        "n: 2.6.0 hosts, 2.13.0 joins",
        "p: 2.6.0 hosts, 2.13.0 joins",
        "slash: search",
        "themes: dark,light",
    ]
