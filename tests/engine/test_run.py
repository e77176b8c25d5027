"""The engine: waiting cells give their slot back, faults of the machine are tried again, results are never."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchskew.engine import agents as agents_module
from torchskew.engine import attempt, rank_group
from torchskew.engine.agents import Agent, Agents, Place
from torchskew.engine.attempt import guarded
from torchskew.engine.run import Engine, Tally
from torchskew.engine.trial import ATTEMPTS
from torchskew.errors import AgentError, MachineError
from torchskew.inside.protocol import boot_line
from torchskew.model.cells import Cell, Plan, Variant
from torchskew.model.outcomes import Guard, Kind, Outcome, Verdict
from torchskew.model.results import CellResult
from torchskew.model.versions import Environment, Source, SourceKind, Version
from torchskew.planning import plan
from torchskew.planning.scenario import Report, Scenario, World
from torchskew.runtimes.base import NO_FOLDERS, Folders
from torchskew.runtimes.fake import DIE, HANG, REFUSE, FakeChannel, FakeRuntime, ended, right

from tests.patience import PATIENCE

PIP = (Source(kind=SourceKind.PIP, value="torch"),)
NAMES = ("1.0.0", "2.0.0")
VERSIONS = {name: Version(name=name, sources=PIP, torch=name, reports=name) for name in NAMES}
ENVIRONMENTS = {name: Environment(version=name, runtime="venv", identity=name, handle="") for name in NAMES}
MEET = Scenario(name="meet", promise="p", doc="d", source="", path="", judge=lambda reports, world: {})
WORK = replace(MEET, name="work", after=("meet",))
ALONE = replace(MEET, name="alone", works=True, alone=True)


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank of a test hangs when it hasn't ended after half a second, on an idle machine."""
    monkeypatch.setattr(plan, "HANG_GRACE", 0.4)
    monkeypatch.setattr(attempt, "busy", lambda: False)


def cell(name: str, skew: tuple[str, ...] = NAMES, **fields: Any) -> Cell:
    return Cell(**{"scenario": name, "skew": skew, "runtime": "venv", "timeout": 0.05, **fields})


@contextmanager
def engine(runtime: FakeRuntime, *cells: Cell, jobs: int = 4) -> Iterator[tuple[Engine, list[Tally]]]:
    seen: list[Tally] = []
    planned = Plan(cells=cells, runtime="venv", seed=0, digest="")
    agents = Agents(runtime)
    agents.provide(ENVIRONMENTS)
    scenarios = {"meet": MEET, "work": WORK, "alone": ALONE}
    yield (
        Engine(
            plan=planned,
            scenarios=scenarios,
            versions=VERSIONS,
            agents=agents,
            jobs=jobs,
            observe=lambda tally: seen.append(replace(tally)),
        ),
        seen,
    )
    agents.close()


def results(runtime: FakeRuntime, *cells: Cell, known: Mapping[str, CellResult] | None = None) -> dict[str, CellResult]:
    with engine(runtime, *cells) as (running, _):
        return {result.cell.id: result for result in running.run(known or {})}


def fails(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
    del job
    return ended(version, exit_code=1, error={"type": "RuntimeError", "text": "reset"}, error_after=0.01)


def test_an_oracle_gets_the_seed_that_the_ranks_got() -> None:
    ranks: list[int] = []
    oracles: list[int] = []

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        ranks.append(job["seed"])
        return right(version, job)

    def oracle(reports: Sequence[Report], world: World) -> Mapping[int, str]:
        oracles.append(world.seed)
        return {}

    with engine(FakeRuntime(script), cell("meet")) as (running, _):
        running.plan = replace(running.plan, seed=7)
        running.scenarios = {"meet": replace(MEET, judge=oracle)}
        (result,) = running.run({})
    assert (result.verdict, ranks, oracles) == (Verdict.PASS, [7, 7], [7])


def test_every_planned_cell_gets_exactly_one_result() -> None:
    many = [cell("meet", variant=Variant(name=str(number))) for number in range(300)]
    with engine(FakeRuntime(), *many, jobs=32) as (running, seen):
        verdicts = Counter(result.cell.id for result in running.run({}))
    assert verdicts == Counter(each.id for each in many)
    assert (seen[-1].done, seen[-1].running, seen[-1].waiting) == (300, 0, 0)


@pytest.mark.parametrize("to_main", [True, False])
def test_ctrl_c_waits_for_no_agent_that_is_starting_and_none_starts_after_the_end(
    monkeypatch: pytest.MonkeyPatch, to_main: bool
) -> None:
    """The first start is never ready; the second one is where Ctrl-C comes. The kernel may give it to any thread, and
    one that comes to the main thread just before that begins to wait does not wake it either.
    """
    runtime, released, late = FakeRuntime(), threading.Event(), []
    main = threading.main_thread().ident
    assert main is not None

    def ready(agent: Agent) -> None:
        if agent.name.endswith(NAMES[1]):
            signal.pthread_kill(main if to_main else threading.get_ident(), signal.SIGINT)
        elif not released.wait(PATIENCE):
            late.append(agent.name)

    monkeypatch.setattr(Agent, "wait_ready", ready)
    agents = Agents(runtime)
    agents.provide(ENVIRONMENTS)
    with pytest.raises(KeyboardInterrupt):
        agents.start([Place(version=name, replica=0) for name in NAMES])
    assert late == []
    agents.close()
    released.set()
    with pytest.raises(MachineError, match="the run has ended"):
        agents.get(Place(version=NAMES[0], replica=1))
    assert runtime.started == 2


def test_each_version_is_started_once_for_all_cells() -> None:
    runtime = FakeRuntime()
    results(runtime, *[cell("meet", variant=Variant(name=str(number))) for number in range(50)])
    assert runtime.started == len(NAMES)


def test_a_failed_rendezvous_blocks_what_needs_it_without_running_it() -> None:
    meet = cell("meet")
    found = results(FakeRuntime(fails), meet, cell("work", needs=(meet.id,)))
    assert found[meet.id].verdict is Verdict.FAIL
    blocked = found["work/1.0.0,2.0.0/guard-off/venv"]
    assert (blocked.verdict, blocked.blocked_by) == (Verdict.BLOCKED, meet.id)
    assert blocked.outcomes == (Outcome.NOT_RUN, Outcome.NOT_RUN)


def test_a_known_pass_unlocks_what_needs_it() -> None:
    meet = cell("meet")
    known = {meet.id: CellResult(cell=meet, verdict=Verdict.PASS, outcomes=(), reason="")}
    assert [
        result.verdict for result in results(FakeRuntime(), meet, cell("work", needs=(meet.id,)), known=known).values()
    ] == [Verdict.PASS]


def test_a_hanging_rank_is_killed_with_its_stacks_and_others_go_on() -> None:
    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {HANG: True} if job["rank"] == 1 and job["port"] else right(version, job)

    (result,) = results(FakeRuntime(script), cell("meet")).values()
    assert result.outcomes == (Outcome.OK, Outcome.HANG)
    assert "in wait" in result.ranks[1].stacks
    assert result.reason.endswith("in rendezvous at rank -> _store_based_barrier -> wait")


def test_a_port_in_use_is_tried_again_and_every_attempt_is_kept() -> None:
    refusals = iter(["port 20001 is in use", "port 20002 is in use"])

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        why = next(refusals, None) if job["rank"] == 0 else None
        return {REFUSE: why} if why else right(version, job)

    (result,) = results(FakeRuntime(script), cell("meet")).values()
    assert result.verdict is Verdict.PASS
    assert [attempt.fault for attempt in result.attempts] == ["port 20001 is in use", "port 20002 is in use", None]


def test_a_port_that_stays_in_use_leaves_an_unknown_and_never_a_failure() -> None:
    (result,) = results(FakeRuntime(lambda version, job: {REFUSE: "in use"}), cell("meet")).values()
    assert (result.verdict, len(result.attempts)) == (Verdict.UNKNOWN, ATTEMPTS)


def test_a_result_of_the_code_under_test_is_never_tried_again() -> None:
    calls: list[int] = []

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        calls.append(job["rank"])
        return fails(version, job)

    (result,) = results(FakeRuntime(script), cell("meet")).values()
    assert (sorted(calls), len(result.attempts)) == ([0, 1], 1)


def test_a_group_whose_ranks_began_far_apart_is_tried_again_and_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "LATE_LEAST", 0.05)
    tried: list[int] = []

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        tried.append(job["rank"])
        if job["rank"] == 1:
            threading.Event().wait(0.1)
        return fails(version, job)

    (result,) = results(FakeRuntime(script), cell("meet")).values()
    assert (result.verdict, len(result.attempts), len(tried)) == (Verdict.UNKNOWN, ATTEMPTS, 2 * ATTEMPTS)
    assert "rank 1 began 0.1 s after the first one" in result.reason


def test_a_group_that_came_right_although_a_rank_began_late_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "LATE_LEAST", 0.05)

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        if job["rank"] == 1:
            threading.Event().wait(0.1)
        return right(version, job)

    (result,) = results(FakeRuntime(script), cell("meet")).values()
    assert (result.verdict, len(result.attempts)) == (Verdict.PASS, 1)


def test_an_agent_that_dies_is_replaced_and_the_attempt_recorded() -> None:
    died = threading.Event()

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        if job["rank"] == 1 and not died.is_set():
            died.set()
            return {DIE: True}
        return right(version, job)

    runtime = FakeRuntime(script)
    (result,) = results(runtime, cell("meet")).values()
    assert result.verdict is Verdict.PASS
    assert "agent of 2.0.0: the agent is gone" in (result.attempts[0].fault or "")
    assert runtime.started == len(NAMES) + 1


def test_a_version_whose_agent_can_not_start_is_named_and_every_rank_has_its_facts() -> None:
    class HalfDead(FakeRuntime):
        def start(self, environment: Environment, replica: int, folders: Folders = NO_FOLDERS) -> FakeChannel:
            if environment.version == "2.0.0":
                raise AgentError("2.0.0 does not start")
            return super().start(environment, replica, folders)

    (result,) = results(HalfDead(), cell("meet")).values()
    assert (result.verdict, result.reason) == (Verdict.UNKNOWN, "not run: 2.0.0 does not start")
    assert [facts.declared for facts in result.ranks] == list(NAMES)


def test_a_report_of_other_types_than_the_protocols_is_the_machines_fault() -> None:
    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return ended(version, finished=True, phase="lunch") if job["rank"] else right(version, job)

    (result,) = results(FakeRuntime(script), cell("meet")).values()
    assert result.verdict is Verdict.UNKNOWN
    assert "the rank's report can't be read: 'lunch' is not a valid Phase" in result.reason


def test_a_cell_that_became_urgent_starts_before_those_that_were_ready_earlier() -> None:
    meet = cell("meet", predicted=(Outcome.OK, Outcome.OK))
    urgent = cell("work", needs=(meet.id,), predicted=(Outcome.HANG, Outcome.HANG), timeout=5.0)
    quick = [cell("meet", variant=Variant(name=f"quick{n}"), predicted=(Outcome.OK, Outcome.OK)) for n in range(9)]
    with engine(FakeRuntime(), *quick, urgent, meet, jobs=1) as (running, _):
        order = [result.cell.id for result in running.run({})]
    assert order[:2] == [meet.id, urgent.id]


@pytest.mark.slow
def test_cells_that_wait_do_not_count_against_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    # All six wait side by side long before the first of them is stopped, however busy the machine is.
    monkeypatch.setattr(plan, "HANG_GRACE", 8.0)

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return right(version, job) if job["skew"] == ["1.0.0", "1.0.0"] else {HANG: True}

    waiting = [cell("meet", variant=Variant(name=f"wait{n}"), predicted=(Outcome.HANG, Outcome.HANG)) for n in range(6)]
    quick = cell("meet", ("1.0.0", "1.0.0"))
    with engine(FakeRuntime(script), quick, *waiting, jobs=2) as (running, seen):
        order = [result.cell.id for result in running.run({})]
    assert order[0] == quick.id
    assert max(tally.waiting for tally in seen) == len(waiting)


def test_on_a_busy_machine_cells_that_seem_to_wait_keep_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "busy", lambda: True)
    waiting = [cell("meet", variant=Variant(name=f"wait{n}")) for n in range(3)]
    with engine(FakeRuntime(lambda version, job: {HANG: True}), *waiting, jobs=2) as (running, seen):
        found = [result.outcomes for result in running.run({})]
    assert found == [(Outcome.HANG, Outcome.HANG)] * 3
    assert max(tally.running for tally in seen) == 2


@pytest.mark.parametrize(
    ("text", "answer"), [("0.1 0.2 0.3 1/99 7", False), ("9 9 9 9999/10000 7", True), ("none", False), (None, False)]
)
def test_a_machine_is_busy_when_the_kernel_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, answer: bool
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(attempt, "LOAD_FILE", tmp_path / "loadavg")
    if text is not None:
        (tmp_path / "loadavg").write_text(text)
    assert attempt.busy() is answer


def test_progress_that_breaks_ends_the_run_instead_of_hanging_it() -> None:
    def broken(tally: Tally) -> None:
        if tally.done:
            raise BrokenPipeError

    with engine(FakeRuntime(), cell("meet")) as (running, _):
        running.observe = broken
        with pytest.raises(BrokenPipeError):
            list(running.run({}))


def test_what_a_version_lacks_reaches_every_rank_and_the_result() -> None:
    seen: list[Any] = []

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        seen.append(job["skip"])
        return right(version, job)

    (result,) = results(FakeRuntime(script, lacks={"AVG/*": "no AVG"}), cell("meet")).values()
    assert seen == [{"AVG/*": "1.0.0: no AVG"}] * 2
    assert result.skipped == {"AVG/*": "1.0.0: no AVG"}


def test_a_version_that_lacks_everything_makes_the_cell_unsupported_without_running_it() -> None:
    runtime = FakeRuntime(lambda version, job: {DIE: True}, lacks={"*": "no gloo"})
    (result,) = results(runtime, cell("meet")).values()
    assert (result.verdict, result.reason) == (Verdict.UNSUPPORTED, "1.0.0: no gloo")


def test_a_handovers_reader_starts_after_its_writer_and_not_at_all_when_that_failed() -> None:
    order: list[int] = []

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        order.append(job["rank"])
        return fails(version, job) if version == "2.0.0" else right(version, job)

    hand = {"kind": Kind.HANDOVER, "timeout": 5.0}
    good = results(FakeRuntime(script), cell("meet", ("1.0.0", "1.0.0"), **hand))
    bad = results(FakeRuntime(script), cell("meet", ("2.0.0", "1.0.0"), **hand))
    assert order == [0, 1, 0]
    assert [result.verdict for result in (*good.values(), *bad.values())] == [Verdict.PASS, Verdict.FAIL]


@pytest.mark.parametrize(
    ("guard", "host", "joiner"),
    [(Guard.OFF, False, False), (Guard.ON, True, True), (Guard.HOST, True, False), (Guard.JOINERS, False, True)],
)
def test_the_guard_condition_says_which_ranks_install_it(guard: Guard, host: bool, joiner: bool) -> None:
    assert (guarded(guard, 0), guarded(guard, 1), guarded(guard, 2)) == (host, joiner, joiner)


def test_cells_that_were_known_or_blocked_count_nothing_for_the_pace() -> None:
    same = [cell("meet", ("1.0.0", "1.0.0")), cell("meet", ("2.0.0", "2.0.0"))]
    known = {one.id: CellResult(cell=one, verdict=Verdict.PASS, outcomes=(), reason="") for one in same}
    failing = cell("meet", predicted=(Outcome.TIMEOUT, Outcome.OK))
    needs = cell("work", needs=(failing.id,), predicted=(Outcome.OK, Outcome.OK))
    cells = (*same, failing, needs)
    with engine(FakeRuntime(fails), *cells) as (running, seen):
        list(running.run(known))
    assert (seen[-1].done, seen[-1].unrun) == (4, 3)
    assert seen[0].unrun == 2
    assert seen[0].begun > 0
    assert seen[0].longest == pytest.approx(failing.timeout + plan.QUICK)


def test_a_scenario_with_an_agent_of_its_own_shares_none(monkeypatch: pytest.MonkeyPatch) -> None:
    booted: list[tuple[str, ...]] = []
    monkeypatch.setattr(agents_module, "boot_line", lambda imports=(): booted.append(imports) or boot_line(imports))
    runtime = FakeRuntime()
    scenarios = {"meet": replace(MEET, warm=("a",)), "work": replace(WORK, agent="apart", warm=("b", "b:go"))}
    with engine(runtime, cell("meet"), cell("work")) as (made, _):
        made.scenarios = scenarios
        results = list(made.run({}))
    assert [result.verdict for result in results] == [Verdict.PASS, Verdict.PASS]
    assert runtime.started == 4
    assert sorted(booted) == [("a",), ("a",), ("b", "b:go"), ("b", "b:go")]


def test_a_cell_that_measures_runs_alone_and_the_others_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    skews = [(first, second) for first in NAMES for second in NAMES]
    cells = [cell(name, skew) for skew in skews for name in ("alone", "meet")]
    free: dict[str, list[int]] = {"alone": [], "meet": []}
    begin = Engine._begin

    def noted(self: Engine, starting: Cell) -> None:
        free[starting.scenario].append(self._slots._value)
        begin(self, starting)

    monkeypatch.setattr(Engine, "_begin", noted)
    with engine(FakeRuntime(), *cells) as (running, _):
        done = list(running.run({}))
    assert {result.verdict for result in done} == {Verdict.PASS}
    assert len(done) == len(cells)
    assert free["alone"] == [0] * len(skews)
    assert running._slots._value == running.jobs


def test_a_rank_that_is_not_reaped_costs_its_agent_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that was stopped is replaced; found by `make chaos`."""
    monkeypatch.setattr(rank_group, "REAP_SECONDS", 0.05)
    monkeypatch.setattr(FakeChannel, "_op_signal", lambda self, message: None)
    asked: list[int] = []

    def script(version: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(job["rank"])
        return {HANG: True} if len(asked) == 1 else right(version, job)

    runtime = FakeRuntime(script)
    (result,) = results(runtime, cell("meet")).values()
    assert (result.verdict, len(result.attempts)) == (Verdict.PASS, 2)
    assert "a killed rank was not reaped" in str(result.attempts[0].fault)
    assert runtime.started == len(NAMES) + 1


def test_the_last_attempt_is_made_in_agents_of_the_cells_own() -> None:
    """A cell that ends its agents can't take the last chance of another with it; found by `make chaos`."""
    runtime = FakeRuntime(lambda version, job: {REFUSE: "in use"})
    results(runtime, cell("meet"))
    assert runtime.started == 2 * len(NAMES)
    assert all(channel._gone for channel in runtime.open_channels[len(NAMES) :])
