"""Outcomes come from facts in a fixed order of questions; a verdict from all ranks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from torchskew.judging.judge import SharedInputs, judge, same_release
from torchskew.model.cells import Cell
from torchskew.model.facts import Attempt, ErrorFacts, RankFacts
from torchskew.model.outcomes import Outcome, Phase, Policy, Verdict
from torchskew.model.results import CellResult
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.planning.scenario import Opinion, Scenario

CELL = Cell(scenario="s", skew=("2.1.2", "2.2.2"), runtime="venv", timeout=10.0)
PIP = (Source(kind=SourceKind.PIP, value="torch"),)
VERSIONS = [Version(name=name, sources=PIP, torch=name, reports=name) for name in CELL.skew]
NAMES = ("2.1.2+cu121", "2.2.2+cpu")
REFUSAL = "rank 0 runs torch 2.1.2 on a, rank 1 runs torch 2.2.2 on b"


def objects_to_nines(reports: Sequence[Mapping[str, Any] | None], _: object) -> dict[int, str]:
    return {rank: "a nine" for rank, report in enumerate(reports) if report and report["value"] == 9}


SCENARIO = Scenario(name="s", promise="p", doc="d", source="", path="", judge=objects_to_nines)


def ok(rank: int, **fields: Any) -> RankFacts:
    facts = RankFacts(
        rank=rank,
        declared=CELL.skew[rank],
        torch=NAMES[rank],
        phase=Phase.DONE,
        finished=True,
        payload={"value": 1},
        exit=0,
    )
    return replace(facts, **fields)


def failed(rank: int, text: str, after: float) -> RankFacts:
    error = ErrorFacts(type="RuntimeError", text=text)
    return ok(rank, finished=False, payload={}, error=error, error_after=after, exit=1, phase=Phase.RENDEZVOUS)


def judged(*ranks: RankFacts, policy: Policy = Policy.RIGHT_OR_REFUSED) -> CellResult:
    attempt = Attempt(number=1, ranks=ranks, seconds=1.0)
    return judge(replace(CELL, policy=policy), SCENARIO, VERSIONS, (attempt,), SharedInputs(seed=0))


def test_what_was_prevented_is_unknown_with_its_reason_and_never_a_failure() -> None:
    found = judged(ok(0), ok(1, finished=False, payload={}, prevented="pre_commands[0] failed"))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "not run: pre_commands[0] failed")
    assert found.outcomes == (Outcome.OK, Outcome.NOT_RUN)


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        (ok(1), Outcome.OK),
        (ok(1, payload={"value": 9}), Outcome.WRONG),
        (failed(1, REFUSAL, 0.2), Outcome.CLEAR),
        (failed(1, "Connection reset by peer", 0.2), Outcome.OPAQUE),
        (failed(1, "this is torch 2.2.2", 0.2), Outcome.OPAQUE),
        (failed(1, "see /envs/torch-2.1.2/lib and /envs/2.2.2/lib", 0.2), Outcome.OPAQUE),
        (failed(1, "sockets 10.2.1.2, 2.2.2.1 and v2.1.2", 0.2), Outcome.OPAQUE),
        (failed(1, "torch 2.1.2+cu121 meets (2.2.2).", 0.2), Outcome.CLEAR),
        (failed(1, "timed out", 9.5), Outcome.TIMEOUT),
        (failed(1, REFUSAL, 9.5), Outcome.TIMEOUT),
        (ok(1, finished=False, killed=True), Outcome.HANG),
        (ok(1, finished=False, signal="SIGSEGV", exit=None), Outcome.CRASH),
        (ok(1, signal="SIGABRT"), Outcome.CRASH),
        (ok(1, finished=False, exit=3), Outcome.CRASH),
        (ok(1, finished=False, unsupported="2.2.2 has no such thing"), Outcome.UNSUPPORTED),
        (ok(1, finished=False, machine="port in use"), Outcome.NOT_RUN),
    ],
)
def test_each_class_comes_from_its_facts(facts: RankFacts, outcome: Outcome) -> None:
    assert judged(ok(0), facts).outcomes == (Outcome.OK, outcome)


def test_an_error_with_a_report_and_a_signal_at_exit_is_a_crash() -> None:
    facts = replace(failed(1, "timed out", 9.9), signal="SIGABRT", exit=None)
    assert judged(ok(0), facts).outcomes[1] is Outcome.CRASH


@pytest.mark.parametrize(
    ("policy", "clear", "right"),
    [
        (Policy.RIGHT_OR_REFUSED, Verdict.PASS, Verdict.PASS),
        (Policy.INTEROPERATE, Verdict.FAIL, Verdict.PASS),
        (Policy.REFUSE, Verdict.PASS, Verdict.FAIL),
    ],
)
def test_the_policy_decides_what_right_and_refused_mean(policy: Policy, clear: Verdict, right: Verdict) -> None:
    refused = (failed(0, REFUSAL, 0.2), failed(1, REFUSAL, 0.2))
    assert judged(*refused, policy=policy).verdict is clear
    assert judged(ok(0), ok(1), policy=policy).verdict is right


def test_right_on_one_rank_and_refused_on_the_other_is_a_failure() -> None:
    result = judged(ok(0), failed(1, REFUSAL, 0.2))
    assert result.verdict is Verdict.FAIL
    assert "rank 1 CLEAR after 0.2 s: RuntimeError: rank 0 runs" in result.reason


def test_a_rank_of_another_version_than_declared_is_unknown_even_when_all_is_right() -> None:
    result = judged(ok(0), ok(1, torch="2.6.0"))
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason == "rank 1 reported torch 2.6.0, 2.2.2 is declared as 2.2.2"


def test_the_machines_fault_is_unknown_and_never_a_failure() -> None:
    assert judged(failed(0, "boom", 0.1), ok(1, finished=False, machine="port in use")).verdict is Verdict.UNKNOWN


def test_a_reader_that_never_ran_because_its_writer_failed_leaves_a_failure() -> None:
    unstarted = RankFacts(rank=1, declared="2.2.2", torch=NAMES[1])
    result = judged(failed(0, "boom", 0.1), unstarted)
    assert (result.verdict, result.outcomes) == (Verdict.FAIL, (Outcome.OPAQUE, Outcome.NOT_RUN))


def test_an_oracle_that_cant_read_a_report_calls_it_wrong() -> None:
    result = judged(ok(0), ok(1, payload={"other": 1}))
    assert set(result.outcomes) == {Outcome.WRONG}
    assert "could not read the report (KeyError: 'value')" in result.reason


def test_what_one_rank_lacks_is_unsupported_only_when_nothing_failed() -> None:
    lacking = ok(1, finished=False, unsupported="no AVG")
    assert judged(ok(0), lacking).verdict is Verdict.UNSUPPORTED
    assert judged(failed(0, "boom", 0.1), lacking).verdict is Verdict.FAIL


def test_local_parts_count_only_when_declared() -> None:
    assert same_release("2.6.0", "2.6.0+cu124")
    assert same_release("2.6.0+debian", "2.6.0+debian")
    assert not same_release("2.6.0+debian", "2.6.0+cu124")
    assert not same_release("2.6.0", "2.6.1")


@pytest.mark.parametrize(
    ("opinion", "verdict", "reason"),
    [
        (Opinion(note="12 symbols lost"), Verdict.PASS, "right on every rank; 12 symbols lost"),
        (Opinion(undecided="too noisy to say"), Verdict.UNKNOWN, "too noisy to say"),
        (Opinion(wrong={1: "slower"}, undecided="too noisy to say"), Verdict.FAIL, "rank 1 WRONG: slower"),
    ],
)
def test_an_oracle_may_say_more_than_who_is_wrong(opinion: Opinion, verdict: Verdict, reason: str) -> None:
    scenario = replace(SCENARIO, judge=lambda _reports, _world: opinion)
    attempt = Attempt(number=1, ranks=(ok(0), ok(1)), seconds=1.0)
    found = judge(CELL, scenario, VERSIONS, (attempt,), SharedInputs(seed=0))
    assert (found.verdict, found.reason) == (verdict, reason)
