"""The site for people who hear it: what Chromium's accessibility tree tells a screen reader, and the keys alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from torchskew.releases.advice import Question, advise
from torchskew.report.catalogue import catalogue
from torchskew.report.site.dashboard import write_dashboard
from torchskew.report.site.write import write_site

from tests.report.site import made_up
from tests.report.site.reader import CONTROLS, PARTS, Page, Spoken, opened
from tests.report.site.test_dashboard import recorded

pytestmark = [pytest.mark.slow, pytest.mark.browser]

EVERYTHING = """
  document.querySelector('[data-at="0 1"]').click();
  document.getElementById("text").value = "Connection reset by peer";
  document.getElementById("text").dispatchEvent(new Event("input"));
  for (const each of document.querySelectorAll("details")) each.open = true;
  new Promise(done => setTimeout(done, 50))
"""
TAB, ENTER, RIGHT = ("Tab", 9), ("Enter", 13), ("ArrowRight", 39)
NAMES_NOTHING = """[...document.querySelectorAll("[aria-label], [aria-labelledby]")].filter(node =>
  ["DIV", "SPAN", "P", "B", "I", "SMALL"].includes(node.tagName) && !node.hasAttribute("role"))
  .map(node => node.outerHTML.slice(0, 80))"""
WITHOUT_HEADS = """[...document.querySelectorAll("table")].filter(table =>
  ![...table.querySelectorAll("th")].every(th => th.scope) || !table.querySelector("th"))
  .map(table => table.outerHTML.slice(0, 80))"""
TO_TELL = ("navigation", "region", "complementary", "dialog")
LIVE = "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map(node => node.id)"
HEARD = "$('heard').textContent"
NO_GROUP = (
    "2.1.2 hosts, 2.2.2 joins: no group forms, or nothing works: 1 breaks, 4 blocked because no group forms, 1 works"
)


def site_in(folder: Path) -> Path:
    """The site of a small survey."""
    pair = advise(Question(old="2.2.2", new="2.6.0"), catalogue())
    return write_site(replace(made_up.contents(), advice=(pair,)), folder)[0]


def runs_in(folder: Path) -> Path:
    """The dashboard of some runs."""
    write_dashboard(recorded(), folder / "flakes.html")
    return folder / "flakes.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The site with a pair, a cell, a search and every fold open. It outlives a test, which does not count it then."""
    with opened(site_in(tmp_path_factory.mktemp("site")), "#from=2.2.2&to=2.6.0") as page:
        page.run(EVERYTHING)
        yield page


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The dashboard with a run and a cell open."""
    with opened(runs_in(tmp_path_factory.mktemp("dashboard"))) as page:
        page.run("document.querySelector('.runs button').click()")
        page.run("document.querySelector('#cells-list .link').click()")
        yield page


@pytest.fixture(scope="module", params=["site", "runs"])
def page(request: pytest.FixtureRequest) -> Page:
    """Each of the two pages."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def named(spoken: Sequence[Spoken], role: str) -> list[str]:
    """The names of everything with a role, in reading order."""
    return [each.name for each in spoken if each.role == role]


def test_headings_are_an_outline_without_gaps(page: Page) -> None:
    """A reader who jumps from heading to heading meets one title, and never a level that nothing leads to."""
    headings = [each for each in page.spoken() if each.role == "heading"]
    assert [each.level for each in headings].count(1) == 1
    assert headings[0].level == 1
    assert [(one.name, two.name) for one, two in pairwise(headings) if two.level > one.level + 1] == []
    assert [each for each in headings if not each.name] == []


def test_every_control_says_what_it_does(page: Page) -> None:
    spoken = page.spoken()
    assert len([each for each in spoken if each.role in CONTROLS]) > 20
    assert [each for each in spoken if each.role in CONTROLS and not each.name] == []


def test_no_two_buttons_have_one_name(page: Page) -> None:
    """A list of ten buttons that are all called "copy" helps nobody. A cell in two lists opens the same."""
    counted = Counter(named(page.spoken(), "button"))
    assert [name for name, count in counted.items() if count > 1 and "/guard-" not in name] == []


def test_every_part_of_a_page_can_be_told_from_the_others(page: Page) -> None:
    parts = [each for each in page.spoken() if each.role in PARTS]
    assert {"banner", "navigation", "main"} <= {each.role for each in parts}
    assert [each for each in parts if each.role in TO_TELL and not each.name] == []
    assert [part for part, count in Counter((each.role, each.name) for each in parts).items() if count > 1] == []


def test_every_table_has_a_name_and_heads_for_its_columns(page: Page) -> None:
    spoken = page.spoken()
    tables = [each for each in spoken if each.role == "table"]
    assert tables
    assert [each for each in tables if not each.name] == []
    assert [name for name, count in Counter(each.name for each in tables).items() if count > 1] == []
    assert page.run(WITHOUT_HEADS) == []


def test_every_picture_has_a_name(page: Page) -> None:
    pictures = [each for each in page.spoken() if each.role in ("image", "img", "graphics-document")]
    assert [each for each in pictures if not each.name] == []


def test_no_name_is_given_to_what_cannot_have_one(page: Page) -> None:
    """A reader passes over the label of a plain div."""
    assert page.run(NAMES_NOTHING) == []


def test_the_cells_of_the_picture_say_what_their_colour_says(site: Page) -> None:
    spoken = site.spoken()
    cells = [each.name for each in spoken if each.role == "button" and " joins: " in each.name]
    assert len(cells) == 25
    assert f"{NO_GROUP}; measured" in cells
    assert named(spoken, "rowheader")[:2] == ["2.1.2", "2.2.2"]
    assert "2.6.0" in named(spoken, "columnheader")


def test_what_changes_is_said_in_one_sentence_and_not_read_out_whole(site: Page) -> None:
    """One line is live; a whole answer that is live would be read from its first to its last word at each key."""
    assert site.run(LIVE) == ["heard"]
    site.run("document.querySelector('[data-at=\"0 1\"]').click()")
    assert site.run(HEARD) == ("2.1.2 hosts, 2.2.2 joins: 1 breaks, 4 blocked because no group forms, 1 works")
    site.run("$('text').value = 'nothing known'; $('text').dispatchEvent(new Event('input'))")
    assert site.run(HEARD) == ("Unknown: no entry of the catalogue shows this text.")
    site.run("document.querySelectorAll('.surface')[2].click()")
    assert site.run(HEARD) == "The picture shows: Collectives"


def test_a_person_with_keys_alone_gets_from_the_top_to_what_each_rank_saw(tmp_path: Path) -> None:
    """The skip link, the picture, a cell, and what stands in it."""
    with opened(write_site(made_up.contents(), tmp_path)[0]) as page:
        focused = "document.activeElement.textContent.trim().slice(0, 20) || document.activeElement.ariaLabel"
        page.press(TAB[0], code=TAB[1])
        assert page.run(focused) == "Skip to the picture"
        page.press(ENTER[0], code=ENTER[1])
        assert page.run("document.activeElement.id") == "picture"
        stops = 0
        while not page.run("document.activeElement.matches('.c')"):
            page.press(TAB[0], code=TAB[1])
            stops += 1
            assert stops < 20
        page.press(RIGHT[0], code=RIGHT[1])
        assert page.run("document.activeElement.dataset.at") == "0 1"
        page.press(ENTER[0], code=ENTER[1])
        assert page.run("document.getElementById('cell-title').textContent") == "2.1.2 hosts, 2.2.2 joins"
        assert page.run("document.activeElement.dataset.at") == "0 1"
        current = [each.name for each in page.spoken() if each.properties.get("focused")]
        assert any(name.startswith("2.1.2 hosts, 2.2.2 joins") for name in current)
