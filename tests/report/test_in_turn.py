"""The section about releases alone and in turn says of each check what was found, in the judge's words."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from torchskew.model.outcomes import Kind, Outcome, Verdict
from torchskew.model.survey import Place, Sighting, SurveyedRelease, SurveyedScenario, SurveyPart
from torchskew.report import in_turn
from torchskew.report.catalogue import catalogue
from torchskew.report.site.facts import laid_out
from torchskew.workflows.inputs import read_scenarios

RIGHT = Sighting(verdict=Verdict.PASS, outcomes=(Outcome.OK, Outcome.OK))
FASTER = Sighting(verdict=Verdict.PASS, outcomes=(Outcome.OK, Outcome.OK), reason="faster by 12 % (9 to 15)")
NOISY = Sighting(verdict=Verdict.UNKNOWN, outcomes=(Outcome.OK, Outcome.OK), reason="too noisy to say: slower by 6 %")
SLOWER = Sighting(verdict=Verdict.FAIL, outcomes=(Outcome.OK, Outcome.WRONG), reason="rank 1 WRONG: slower by 12 %")
STALE = Sighting(verdict=Verdict.FAIL, outcomes=(Outcome.OK, Outcome.WRONG), reason="rank 1 WRONG: stale | old")
REFUSED = Sighting(verdict=Verdict.FAIL, outcomes=(Outcome.OK, Outcome.OPAQUE), errors=("", "KeyError: scale"))
NAMES = ("2.1.2", "2.2.2", "2.6.0")
STEPS = (("2.1.2", "2.2.2"), ("2.2.2", "2.6.0"))


def part(cells: Mapping[Place, Sighting], kind: Kind = Kind.HANDOVER) -> SurveyPart:
    scenarios = tuple(
        SurveyedScenario(name=name, kind=kind, surface="cost") for name in dict.fromkeys(at.scenario for at in cells)
    )
    empty = SurveyPart(
        runtime="venv", runs=(), releases=tuple(SurveyedRelease(name=name) for name in NAMES), scenarios=scenarios,
        sightings=(), cells={},
    )  # fmt: skip
    return laid_out(empty, cells)


def everywhere(scenario: str, sighting: Sighting) -> dict[Place, Sighting]:
    return {Place(scenario, first, second): sighting for first in NAMES for second in NAMES}


def rows(cells: Mapping[Place, Sighting], kind: Kind = Kind.HANDOVER) -> list[str]:
    text = in_turn.section(part(cells, kind), catalogue())
    return [line for line in text.splitlines() if line.startswith("| ") and "**" not in line][1:]


def test_each_check_is_a_scenario_that_exists() -> None:
    named = [name for names in in_turn.CHECKS.values() for name in names]
    assert set(named) - set(read_scenarios()) == set()
    assert len(in_turn.CHECKS) == 10


def test_a_survey_without_these_checks_has_no_section() -> None:
    assert in_turn.section(part(everywhere("all_reduce", RIGHT)), catalogue()) == ""


def test_upgrades_that_ended_alike_share_a_line_and_every_cell_is_counted() -> None:
    assert rows(everywhere("cuda_memory", RIGHT)) == ["| `cuda_memory` | 9: 9 right | 2.1.2 → 2.2.2 → 2.6.0 | right |"]


def test_an_upgrade_that_ended_otherwise_has_a_line_with_the_judge_s_words_and_the_break() -> None:
    cells = everywhere("extension_upgrade", RIGHT) | {Place("extension_upgrade", *STEPS[0]): STALE}
    link = " ([SKEW-059](breaks.md#skew-059))"
    assert rows(cells) == [
        f"| `extension_upgrade` | 9: 8 right, 1 wrong | 2.1.2 → 2.2.2 | rank 1 WRONG: stale \\| old{link} |",
        "|  |  | 2.2.2 → 2.6.0 | right |",
    ]


def test_what_a_rank_raised_is_shown_where_it_raised() -> None:
    cells = everywhere("cuda_memory", REFUSED)
    assert rows(cells) == ["| `cuda_memory` | 9: 9 wrong | 2.1.2 → 2.2.2 → 2.6.0 | rank 1 KeyError: scale |"]


def test_of_several_variants_those_that_are_not_right_are_named_wrong_ones_first() -> None:
    cells = {
        Place(f"speed.{name}", *step): sighting
        for name, sighting in (("linear", FASTER), ("matmul", NOISY), ("softmax", SLOWER))
        for step in (("2.1.2", "2.1.2"), ("2.2.2", "2.1.2"), STEPS[0])
    }
    head = "| `speed` | 9: 3 right, 3 wrong, 3 undecided | 2.1.2 → 2.2.2 | 1 right, 1 wrong, 1 undecided"
    odd = "`softmax` rank 1 WRONG: slower by 12 %; `matmul` too noisy to say: slower by 6 %"
    assert rows(cells) == [f"{head}; {odd} |"]


def test_a_note_about_what_passes_is_shown() -> None:
    assert rows(everywhere("memory.step", FASTER)) == [
        "| `memory` | 9: 9 right | 2.1.2 → 2.2.2 → 2.6.0 | right: faster by 12 % (9 to 15) |"
    ]


def test_of_a_release_alone_nothing_is_an_upgrade() -> None:
    cells = {Place("compiles", name, name): RIGHT for name in NAMES}
    assert rows(cells, Kind.SOLO) == ["| `compiles` | 3: 3 right | 2.1.2, 2.2.2, 2.6.0 | right |"]


@pytest.mark.parametrize("missing", NAMES[1:])
def test_a_release_that_was_not_measured_is_passed_over(missing: str) -> None:
    cells = {at: seen for at, seen in everywhere("cuda_memory", RIGHT).items() if missing not in (at.first, at.second)}
    left = " → ".join(name for name in NAMES if name != missing)
    assert rows(cells) == [f"| `cuda_memory` | 4: 4 right | {left} | right |"]


def test_a_long_finding_is_cut() -> None:
    long = Sighting(verdict=Verdict.FAIL, outcomes=(Outcome.OK, Outcome.WRONG), reason="x" * 400)
    assert all(len(row) < 300 and "…" in row for row in rows(everywhere("cuda_memory", long)))
