"""The page is short: the picture, the eras, the breaks that cost most, out of measured cells and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.survey import Place, Sighting, Survey, SurveyPart
from torchskew.report import pairs
from torchskew.report.catalogue import catalogue
from torchskew.report.compatibility import page
from torchskew.report.site import facts

from tests.report.site import made_up

LACKS = Sighting(verdict=Verdict.UNSUPPORTED, outcomes=(Outcome.UNSUPPORTED,) * 2)
FAILS = Sighting(verdict=Verdict.FAIL, outcomes=(Outcome.HANG, Outcome.HANG), predicted=(Outcome.OK, Outcome.OK))


def written(part: SurveyPart) -> str:
    return page(Survey(parts=(part,)), catalogue())


def changed(changes: dict[Place, Sighting]) -> SurveyPart:
    part = made_up.part()
    return facts.laid_out(part, {**part.by_place, **changes})


def picture(text: str) -> list[str]:
    start = text.index("| hosts or writes")
    return text[start:].partition("\n\n")[0].splitlines()


def test_the_picture_says_of_each_pair_what_happens() -> None:
    assert picture(written(made_up.part())) == [
        "| hosts or writes \\ joins or reads | 2.1.2 | 2.2.2-2.6.0 | 2.13.0 |",
        "|---|---|---|---|",
        "| **2.1.2** | works | no group | no group |",
        "| **2.2.2-2.6.0** | no group | works | 1 break |",
        "| **2.13.0** | no group | 1 break | works |",
    ]


def test_what_fails_with_one_release_as_well_is_no_break_between_two() -> None:
    alone = {Place("group.v1", name, name): FAILS for name in made_up.FOUR}
    beside = {Place("group.v1", "2.2.2", "2.6.0"): FAILS}
    assert picture(written(changed({**alone, **beside}))) == picture(written(made_up.part()))
    assert "| **2.2.2** | no group | works | 1 break |" in written(changed(beside))


def test_a_pair_of_which_nothing_was_tried_says_nothing() -> None:
    lacking = {place: LACKS for place in made_up.part().by_place if (place.first, place.second) == ("2.6.0", "2.13.0")}
    assert "| **2.6.0** | no group | works | works |  |" in written(changed(lacking))


def test_where_no_rendezvous_was_measured_there_is_no_picture_of_groups() -> None:
    part = made_up.part()
    alone = {place: each for place, each in part.by_place.items() if place.scenario == "rng_state"}
    scenarios = tuple(each for each in part.scenarios if each.name == "rng_state")
    text = written(facts.laid_out(replace(part, scenarios=scenarios), alone))
    assert "## venv" in text
    assert "| hosts or writes" not in text


def test_the_breaks_come_by_the_cells_that_they_fail_and_block() -> None:
    """SKEW-001 fails 6 rendezvous and blocks 4 groups of each; the draws differ in 6 cells."""
    text = written(made_up.part())
    listed = [line for line in text.splitlines() if line.startswith("| [SKEW-")]
    assert [(line.split("]")[0].lstrip("| ["), line.split(" | ")[2]) for line in listed] == [
        ("SKEW-001", "30"),
        ("SKEW-023", "6"),
    ]
    assert "No other break was met." in text


def test_failures_that_no_entry_explains_are_counted() -> None:
    text = written(changed({Place("group.v1", "2.2.2", "2.6.0"): FAILS}))
    assert "Cells that fail in ways that no entry explains: 1." in text


def test_of_many_breaks_ten_are_listed_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchskew.report.compatibility._MOST", 1)
    text = written(made_up.part())
    assert text.count("| [SKEW-") == 1
    assert "Other breaks: 1, 6 cells." in text


def test_what_ended_otherwise_than_predicted_is_counted_and_named() -> None:
    text = written(made_up.part())
    assert "| rng_state | OK | OK/WRONG | 6 |" in text
    ran = sum(each.verdict in (Verdict.PASS, Verdict.FAIL) for each in made_up.part().by_place.values())
    assert f"{1 - 6 / ran:.2%} of {ran} came out as predicted." in text


def test_an_inferred_cell_is_said_to_be_and_surprises_nobody() -> None:
    part = made_up.part()
    guessed = facts.laid_out(part, {place: replace(each, inferred=True) for place, each in part.by_place.items()})
    text = written(guessed)
    assert "96 of them are inferred from others." in text
    assert "Otherwise than predicted" not in text


def test_the_head_says_how_to_see_the_rest_and_where_the_cells_come_from() -> None:
    text = written(made_up.part())
    assert "    make site " in text.partition("##")[0]
    assert "From `20261121-160550-a9bd37` (2026-11-21)." in text
    assert "4 releases, 96 cells: 60 pass, 12 fail, 24 blocked." in text


def test_eras_are_neighbours_that_speak_alike() -> None:
    eras = pairs.eras_among({name: name for name in ("2.1.2", "2.2.2", "2.3.1", "2.6.0")})
    assert [era.name for era in eras] == ["2.1.2", "2.2.2-2.3.1", "2.6.0"]
    assert "| 2.6.0-2.13.0 | store 2.5, gloo 2.2, keys 2.1 |" in written(made_up.part())


def test_the_page_is_short() -> None:
    """Thirty-one releases, ninety scenarios."""
    assert len(written(made_up.part(made_up.NAMES, 90)).splitlines()) < 120
