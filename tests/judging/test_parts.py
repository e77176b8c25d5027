"""Whatever the results are, no part of a plan blames anybody, and the parts together decide as the whole does."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st
from torchskew.judging.blame import against_baseline, judged
from torchskew.judging.decide import SHUT
from torchskew.model.cells import Cell, Plan
from torchskew.model.outcomes import Outcome, Verdict
from torchskew.model.results import CellResult, Decision, Status
from torchskew.model.runs import Asked, Shard
from torchskew.planning.plan import plan_of
from torchskew.planning.shard import join, split

TODAY = dt.date(2026, 11, 25)
SKEWS = [(a, b) for a in ("candidate", "base", "r", "s") for b in ("candidate", "base", "r", "s")]
VERDICTS = (Verdict.PASS, Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN, Verdict.UNSUPPORTED)
ANSWERS = st.tuples(st.sampled_from(VERDICTS), st.booleans())


def decided(plan: Plan, results: list[CellResult], shard: Shard | None) -> Decision:
    asked = Asked(subject="candidate c")
    return judged(against_baseline(plan, results, (), asked, TODAY), asked, shard)


def answer(cell: Cell, verdict: Verdict, *, lacks: bool) -> CellResult:
    outcome = Outcome.WRONG if verdict is Verdict.FAIL else Outcome.OK
    skipped = {"AVG/*": "no AVG"} if lacks else {}
    return CellResult(cell=cell, verdict=verdict, outcomes=(outcome,) * 2, reason="r", skipped=skipped)


@given(
    st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from(SKEWS)), ANSWERS, min_size=1), st.integers(1, 6)
)
def test_any_parts_come_to_the_decision_of_the_whole(
    drawn: dict[tuple[str, tuple[str, ...]], tuple[Verdict, bool]], count: int
) -> None:
    cells = [Cell(scenario=name, skew=skew, runtime="venv") for name, skew in drawn]
    whole = plan_of(cells, "venv", 0)
    results = {cell.id: answer(cell, *drawn[cell.scenario, cell.skew][:1], lacks=drawn[cell.scenario, cell.skew][1])
               for cell in whole.cells}  # fmt: skip
    parts = [split(whole, {}, index, count) for index in range(1, count + 1)]
    for plan, shard in parts:
        decision = decided(plan, [results[cell.id] for cell in plan.cells], shard)
        shut = {item.status for item in decision.checked} & SHUT
        assert shut <= {Status.UNKNOWN}
        assert decision.exit_code == bool(shut)
        assert f"part {shard.index} of {count} " in decision.sentence
    joined = join([(str(shard.index), plan, shard) for plan, shard in parts])
    merged = [results[cell.id] for plan, _ in parts[::-1] for cell in plan.cells]
    assert decided(joined, merged, None) == decided(whole, list(results.values()), None)
