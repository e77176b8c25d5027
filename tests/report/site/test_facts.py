"""Facts hold every measured cell and nothing of the machine, keep their schema, and new ones go beside old ones."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
from torchskew.errors import RecordError
from torchskew.model.facts import ErrorFacts
from torchskew.model.ids import CellId
from torchskew.model.outcomes import Guard, Outcome, Verdict
from torchskew.model.results import RIGHT
from torchskew.model.runs import Run
from torchskew.model.survey import Place, Survey, SurveyedRelease
from torchskew.report.catalogue import catalogue
from torchskew.report.compatibility import page
from torchskew.report.site import facts
from torchskew.report.site.write import SCHEMA, own

from tests import factories
from tests.conftest import ROOT
from tests.report.site import made_up


def of_run(run: Run) -> Survey:
    return facts.survey_of([run], {"all_reduce": "collectives"}, ("build-host",))


def test_every_stock_cell_of_two_ranks_is_there_and_the_others_are_counted() -> None:
    run, _ = factories.bad_run()
    [part] = of_run(run).parts
    stock = [one for one in run.results if one.cell.world_size <= 2 and one.cell.guard is Guard.OFF]
    stock = [one for one in stock if not one.cell.fault]
    assert len(part.by_place) == len({(one.cell.name, one.cell.skew) for one in stock})
    assert part.wide == len(run.results) - len(stock)
    assert [release.name for release in part.releases] == ["2.1.2", "2.2.2", "2.6.0", "2.13.0"]
    assert part.releases[0].torch == "2.1.2+cpu"
    for one in stock:
        seen = part.by_place[Place(one.cell.name, one.cell.skew[0], one.cell.skew[-1])]
        assert (seen.verdict, seen.outcomes) == (one.verdict, one.outcomes)


def test_what_a_blocked_cell_waits_for_is_named() -> None:
    [part] = of_run(factories.bad_run()[0]).parts
    seen = part.by_place[Place("all_reduce", "2.1.2", "2.6.0")]
    assert (seen.verdict, seen.blocked_by) == (Verdict.BLOCKED, "rendezvous_tcp")


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("timed out after 5000ms while trying to connect to (10.88.0.2, 41877).",
         "timed out after …ms while trying to connect to (…, …)."),
        ("Failed to recv from 127.0.0.1:41877 of build-host", "Failed to recv from 127.0.0.1:… of …"),
        ("[/srv/build/gloo/transport/tcp/pair.cc:598] Connection closed", "[…/pair.cc:598] Connection closed"),
        ("<object at 0x7f1234abcd>", "<object at 0x…>"),
        ("host 3f2a9c81d7e0 is gone", "host … is gone"),
        ("Serialized version 1 does not match our current schema version 2",
         "Serialized version 1 does not match our current schema version 2"),
        ("one\ntwo", "one"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("x" * 400, "x" * 279 + "…"),
    ],
)  # fmt: skip
def test_a_text_loses_what_only_this_machine_and_this_run_had(raw: str, kept: str) -> None:
    assert facts.without_machine(raw, ("build-host",)) == kept


def test_each_rank_keeps_its_own_error() -> None:
    broken = factories.result(factories.cell("rendezvous_tcp"), Outcome.TIMEOUT, Outcome.OPAQUE)
    odd = replace(broken.ranks[1], error=ErrorFacts(type="torch.distributed.DistStoreError", text="no\nmore"))
    attempt = replace(broken.attempts[0], ranks=(broken.ranks[0], odd))
    [part] = of_run(factories.run((replace(broken, attempts=(attempt,)),))).parts
    [seen] = part.by_place.values()
    assert seen.errors[0].startswith("DistStoreError: Timed out after 11 seconds")
    assert seen.errors[1] == "DistStoreError: no"


def test_what_a_judge_notes_about_a_cell_that_passes_is_kept() -> None:
    right = factories.result(factories.cell(), Outcome.OK, Outcome.OK)
    for reason, kept in ((f"{RIGHT}; 12 symbols lost", "12 symbols lost"), (RIGHT, ""), ("refused clearly", "")):
        [part] = of_run(factories.run((replace(right, reason=reason),))).parts
        assert [seen.reason for seen in part.by_place.values()] == [kept]


def test_an_inferred_cell_says_so() -> None:
    source = CellId.of("all_reduce", ("2.1.2", "2.2.2"), "docker")
    guess = replace(factories.result(factories.cell(), Outcome.OK, Outcome.OK), inferred_from=(source,))
    [part] = of_run(factories.run((guess,))).parts
    assert [seen.inferred for seen in part.by_place.values()] == [True]


def test_facts_are_read_as_they_were_written_and_keep_their_schema() -> None:
    for survey in (of_run(factories.bad_run()[0]), Survey(parts=(made_up.part(),))):
        text = facts.dumps(survey)
        assert facts.loads(text, "facts") == survey
        jsonschema.validate(json.loads(text), json.loads(own(SCHEMA)))


def test_a_change_of_one_scenario_is_a_change_of_one_line() -> None:
    before = made_up.part()
    place = Place("group.v3", "2.6.0", "2.6.0")
    after = facts.laid_out(before, {**before.by_place, place: made_up.DRAWS})
    lines = (facts.dumps(Survey(parts=(part,))).splitlines() for part in (before, after))
    assert sum(one != two for one, two in zip(*lines, strict=False)) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no JSON", "holds no facts of a survey"),
        ('{"parts": []}', "holds no facts of a survey"),
        ('{"version": "2.0.0", "parts": []}', "has version 2.0.0; this torchskew reads 1.1.0"),
        ('{"version": "1.0.0", "parts": [{"runtime": 3}]}', "parts[0].runtime must be str, got 3"),
    ],
)  # fmt: skip
def test_what_holds_no_facts_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(RecordError, match="facts.json") as caught:
        facts.loads(text, "facts.json")
    assert says in str(caught.value)


def test_a_new_release_goes_beside_those_that_are_there() -> None:
    old, new = made_up.part(("2.1.2", "2.6.0")), made_up.part(("2.6.0", "2.14.0"))
    [both] = facts.merged(Survey(parts=(old,)), Survey(parts=(new,))).parts
    assert [release.name for release in both.releases] == ["2.1.2", "2.6.0", "2.14.0"]
    assert {**old.by_place, **new.by_place} == both.by_place
    assert Place("rendezvous_tcp", "2.1.2", "2.14.0") not in both.by_place


def test_what_the_machine_prevented_does_not_replace_what_was_measured() -> None:
    old = made_up.part()
    unknown = replace(made_up.RIGHT, verdict=Verdict.UNKNOWN, outcomes=())
    lost = facts.laid_out(replace(old, releases=tuple(SurveyedRelease(name=each.name) for each in old.releases)),
                          dict.fromkeys(old.by_place, unknown))  # fmt: skip
    [both] = facts.merged(Survey(parts=(old,)), Survey(parts=(lost,))).parts
    assert both.by_place == old.by_place
    assert both.releases == old.releases


def test_a_part_of_another_runtime_stays_as_it_is() -> None:
    old, new = replace(made_up.part(), runtime="docker"), made_up.part()
    assert facts.merged(Survey(parts=(old,)), Survey(parts=(new,))).parts == (old, new)


def test_the_committed_facts_are_readable_and_keep_the_schema_beside_them() -> None:
    text = (ROOT / "docs" / "survey.json").read_text(encoding="utf-8")
    beside = (ROOT / "docs" / SCHEMA).read_text(encoding="utf-8")
    assert beside == own(SCHEMA)
    jsonschema.validate(json.loads(text), json.loads(beside))
    assert facts.loads(text, "docs/survey.json").parts


def test_the_committed_page_is_the_one_of_the_committed_facts() -> None:
    survey = facts.loads((ROOT / "docs" / "survey.json").read_text(encoding="utf-8"), "docs/survey.json")
    written = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert page(survey, catalogue()) == written, "run `torchskew survey --write docs/compatibility.md`"
