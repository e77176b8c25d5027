"""A red control or the base's own failure is never the candidate's; what is its own shuts the gate in words."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from torchskew.engine.run import unprovisioned
from torchskew.judging.blame import fair
from torchskew.judging.decide import decide
from torchskew.model.cells import Cell, Plan
from torchskew.model.declared import Expectation
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult, Decision, Status
from torchskew.model.versions import EnvironmentFailure

TODAY = dt.date(2026, 11, 21)
OK, WRONG, CRASH = Outcome.OK, Outcome.WRONG, Outcome.CRASH
NAME = "candidate pip:torch==2.15.0"


def cell(*skew: str, scenario: str = "meet", needs: tuple[str, ...] = ()) -> Cell:
    return Cell(scenario=scenario, skew=skew, runtime="venv", needs=needs)


def passed(*skew: str, **more: str) -> CellResult:
    return CellResult(cell=cell(*skew, **more), verdict=Verdict.PASS, outcomes=(OK,) * len(skew), reason="right")  # type: ignore[arg-type]


def failed(*skew: str, outcomes: tuple[Outcome, ...] = (OK, WRONG), **more: str) -> CellResult:
    return CellResult(cell=cell(*skew, **more), verdict=Verdict.FAIL, outcomes=outcomes, reason="rank 1 WRONG")  # type: ignore[arg-type]


def decided(*results: CellResult, expectations: tuple[Expectation, ...] = ()) -> Decision:
    plan = Plan(cells=tuple(result.cell for result in results), runtime="venv", seed=0, digest="d")
    return fair(decide(plan, results, expectations, today=TODAY), NAME)


def status(decision: Decision, *skew: str, scenario: str = "meet") -> Status:
    wanted = cell(*skew, scenario=scenario).id
    return next(item.status for item in decision.checked if item.result.cell.id == wanted)


def test_a_good_candidate_opens_the_gate_in_words() -> None:
    decision = decided(passed("r", "r"), passed("candidate", "r"))
    assert decision.exit_code == 0
    assert decision.sentence == "gate open: candidate pip:torch==2.15.0: all 2 cells are as expected"


def test_a_regression_shuts_it_and_the_last_line_says_where() -> None:
    decision = decided(passed("r", "r"), failed("candidate", "r"), failed("candidate", scenario="keys"))
    assert decision.exit_code == 1
    assert decision.sentence == f"gate shut: {NAME}: 2 regressions (meet with r, keys alone)"


def test_a_red_control_makes_its_cells_unknown_and_blames_nobody() -> None:
    decision = decided(failed("r", "r"), failed("candidate", "r"), passed("r", "candidate"), passed("candidate", "s"))
    assert status(decision, "candidate", "r") is status(decision, "r", "candidate") is Status.UNKNOWN
    assert status(decision, "r", "r") is Status.UNKNOWN
    assert status(decision, "candidate", "s") is Status.EXPECTED
    assert decision.sentence == f"gate shut: {NAME}: 3 unknown (meet of r itself, meet with r)"
    reason = decision.checked[1].result.reason
    assert reason == "the control meet/r,r/guard-off/venv is red, so this FAIL says nothing about the candidate"


def test_what_a_red_control_blocked_is_red_as_well() -> None:
    meet = failed("r", "r")
    blocked = CellResult(
        cell=cell("r", "r", scenario="reduce", needs=(meet.cell.id,)),
        verdict=Verdict.BLOCKED, outcomes=(), reason="", blocked_by=meet.cell.id,
    )  # fmt: skip
    decision = decided(meet, blocked, failed("candidate", "r", scenario="reduce"))
    assert status(decision, "candidate", "r", scenario="reduce") is Status.UNKNOWN


def test_a_control_that_is_known_to_fail_does_not_hide_the_candidate() -> None:
    known = Expectation(cells="meet/r,r/*", verdict=Verdict.FAIL, reason="r is broken")
    decision = decided(failed("r", "r"), failed("candidate", "r"), expectations=(known,))
    assert status(decision, "candidate", "r") is Status.REGRESSION


def test_a_release_without_an_environment_is_reported_in_the_last_line_and_blames_nobody() -> None:
    failure = EnvironmentFailure(version="r", reason="the disk is full\nmore")
    gone = [unprovisioned(cell(*skew), failure) for skew in (("r", "r"), ("candidate", "r"))]
    decision = decided(*gone, passed("s", "s"), failed("candidate", "s"))
    told = "1 regression, 2 unknown (meet with s); r has no environment: the disk is full"
    assert decision.sentence == f"gate shut: {NAME}: {told}"
    assert decision.checked[1].result.reason == "no environment for r: the disk is full\nmore"


def test_a_red_control_of_another_promise_hides_nothing() -> None:
    decision = decided(failed("r", "r", scenario="keys"), passed("r", "r"), failed("candidate", "r"))
    assert status(decision, "candidate", "r") is Status.REGRESSION


def test_a_failure_that_the_base_shows_as_well_is_no_regression() -> None:
    decision = decided(passed("r", "r"), failed("candidate", "r"), failed("base", "r"))
    assert status(decision, "candidate", "r") is Status.KNOWN_FAILURE
    assert status(decision, "base", "r") is Status.NOT_JUDGED
    assert decision.sentence.endswith("all 3 cells are as expected, with 1 known failure")


def test_another_failure_than_the_bases_is_a_regression() -> None:
    decision = decided(passed("r", "r"), failed("candidate", "r", outcomes=(OK, CRASH)), failed("base", "r"))
    assert status(decision, "candidate", "r") is Status.REGRESSION


def test_a_feature_that_only_the_base_has_is_a_regression() -> None:
    lacks = CellResult(cell=cell("candidate", "r"), verdict=Verdict.UNSUPPORTED, outcomes=(), reason="no gloo")
    decision = decided(passed("r", "r"), lacks, passed("base", "r"))
    assert status(decision, "candidate", "r") is Status.REGRESSION
    assert decision.checked[1].result.reason == "newly unsupported, the base can: no gloo"
    known = Expectation(cells="meet/candidate,r/*", verdict=Verdict.UNSUPPORTED, reason="no gloo any more")
    assert decided(passed("r", "r"), lacks, passed("base", "r"), expectations=(known,)).exit_code == 0


def lacks(*skew: str) -> CellResult:
    return CellResult(cell=cell(*skew), verdict=Verdict.UNSUPPORTED, outcomes=(), reason="no gloo")


def test_a_feature_that_the_candidate_lacks_and_every_release_beside_it_has_is_a_regression() -> None:
    decision = decided(passed("r", "r"), lacks("candidate", "r"), lacks("candidate", "candidate"))
    assert status(decision, "candidate", "r") is status(decision, "candidate", "candidate") is Status.REGRESSION
    assert decision.checked[1].result.reason == "newly unsupported, r can: no gloo"


def test_a_feature_that_a_release_lacks_as_well_is_no_regression() -> None:
    decision = decided(
        lacks("r", "r"), passed("s", "s"), lacks("candidate", "r"), lacks("candidate", "candidate"), lacks("base", "s")
    )
    assert decision.exit_code == 0


def test_a_feature_that_is_gone_on_purpose_stands_in_the_baseline() -> None:
    known = Expectation(cells="meet/candidate,r/*", verdict=Verdict.UNSUPPORTED, reason="removed in 2.15")
    assert decided(passed("r", "r"), lacks("candidate", "r"), expectations=(known,)).exit_code == 0


def test_a_case_that_the_candidate_lacks_and_every_release_beside_it_has_is_a_regression_as_well() -> None:
    both, lost = {"AVG/*": "r: no"}, {"AVG/bool/*": "candidate: no", "SUM/int64/*": "candidate: no int64"}
    control, mixed = replace(passed("r", "r"), skipped=both), replace(passed("candidate", "r"), skipped=lost)
    decision = decided(control, mixed)
    assert status(decision, "candidate", "r") is Status.REGRESSION
    assert decision.checked[1].result.reason == "newly unsupported, r can: SUM/int64/*, candidate: no int64"
    known = Expectation(cells="meet/candidate,r/*", verdict=Verdict.UNSUPPORTED, reason="int64 is gone")
    assert decided(control, mixed, expectations=(known,)).exit_code == 0
    assert decided(control, replace(mixed, skipped=both)).exit_code == 0
    assert decided(control, replace(mixed, skipped=both), expectations=(known,)).exit_code == 1


def test_an_open_gate_says_what_it_did_not_see_pass() -> None:
    known = Expectation(cells="meet/candidate,r/*", verdict=Verdict.FAIL, reason="r")
    meet = failed("candidate", "r")
    behind = CellResult(
        cell=cell("candidate", "r", scenario="reduce", needs=(meet.cell.id,)),
        verdict=Verdict.BLOCKED, outcomes=(), reason="", blocked_by=meet.cell.id,
    )  # fmt: skip
    decision = decided(passed("r", "r"), meet, behind, lacks("s", "s"), expectations=(known,))
    assert decision.sentence.endswith("all 4 cells are as expected, with 1 known failure, 1 blocked, 1 unsupported")


def test_a_base_that_could_not_be_made_shuts_the_gate() -> None:
    gone = CellResult(cell=cell("base", "r"), verdict=Verdict.UNKNOWN, outcomes=(), reason="no environment")
    assert decided(passed("r", "r"), passed("candidate", "r"), gone).exit_code == 1


def test_problems_of_the_baseline_stay_in_the_sentence() -> None:
    stale = Expectation(cells="gone/*", verdict=Verdict.FAIL, reason="r")
    decision = decided(passed("candidate", "r"), expectations=(stale,))
    assert decision.sentence == f"gate shut: {NAME}: 1 problem with the baseline"
