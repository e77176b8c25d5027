"""Explain on public threads: right in nine of ten, and versions are never blamed for what is not about versions."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from torchskew.report.catalogue import catalogue

from tests.conftest import ROOT
from tests.releases.threads import About, Group, Judged, Thread, figures, judge, table, threads

PAGE = ROOT / "docs" / "explain.md"
TABLE = "<!-- threads: TORCHSKEW_WRITE_GOLDEN=1 pytest tests/releases/test_threads.py writes what follows -->\n\n"
THREADS = threads()
JUDGED = [judge(each, catalogue()) for each in THREADS]


@pytest.mark.parametrize("judged", JUDGED, ids=lambda each: each.thread.link.removeprefix("https://github.com/"))
def test_versions_are_not_blamed_for_a_thread_about_something_else(judged: Judged) -> None:
    assert not judged.false_blame


def test_nine_of_ten_answers_are_right() -> None:
    wrong = [(each.thread.link, each.fault, each.said) for each in JUDGED if not each.right]
    assert len(wrong) <= len(JUDGED) / 10, wrong


def test_the_threads_are_about_both_kinds_of_cause() -> None:
    kinds = Counter(each.about for each in THREADS)
    assert kinds[About.VERSIONS] >= 22
    assert kinds[About.OTHER] >= 22
    assert min(kinds[About.VERSIONS], kinds[About.OTHER]) / len(THREADS) > 1 / 3


def test_the_first_threads_are_split_as_the_file_says() -> None:
    sizes = Counter(each.group for each in THREADS)
    assert sizes[Group.SEEN] == 24
    assert sizes[Group.HELD_OUT] >= 20


def test_a_thread_is_counted_once() -> None:
    links = Counter(each.link for each in THREADS)
    assert [link for link, count in links.items() if count > 1] == []


def test_a_thread_that_is_a_source_of_the_catalogue_judges_nothing() -> None:
    sources = {source for entry in catalogue().breaks for source in entry.sources}
    assert [each.link for each in THREADS if each.link in sources] == []


def test_an_answer_is_an_entry_of_the_catalogue() -> None:
    entries = {each.id for each in [*catalogue().breaks, *catalogue().others]}
    assert {answer for each in THREADS for answer in each.answer} <= entries


def test_a_thread_without_a_cause_decides_nothing() -> None:
    assert [each.link for each in THREADS if each.about is About.OPEN and (each.decides or each.answer)] == []


def test_a_thread_that_states_both_releases_can_be_decided() -> None:
    stated = [each for each in THREADS if each.releases]
    assert stated
    assert [each.link for each in stated if not each.decides or len(each.releases) != 2] == []


def asked(thread: Thread, **changes: object) -> Judged:
    """Explain's answer to a thread that differs in some fields."""
    fields = {name: getattr(thread, name) for name in Thread.__slots__}
    return judge(Thread(**{**fields, **changes}), catalogue())


def test_the_judge_knows_a_false_blame_a_wrong_entry_and_a_silence() -> None:
    versions = next(each.thread for each in JUDGED if each.right and each.said.startswith("SKEW-040"))
    blamed = asked(versions, about=About.OTHER)
    assert (blamed.false_blame, blamed.right) == (True, False)
    assert not asked(versions, answer=("SKEW-001",)).right
    assert not asked(versions, lines=("nothing that is known",)).right
    assert asked(versions, lines=("nothing that is known",), decides=False).right


def test_the_page_has_the_figures_and_every_thread() -> None:
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("TORCHSKEW_WRITE_GOLDEN"):
        page = page.partition(TABLE)[0] + TABLE + table(catalogue())
        PAGE.write_text(page, encoding="utf-8")
    assert page.partition(TABLE)[2] == table(catalogue())
    assert [line for line in figures(catalogue()) if line not in page] == []
