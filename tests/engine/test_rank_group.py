"""A group of ranks: their state follows events, and those that do not end leave their stacks and are killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from torchskew.engine.agents import Agent
from torchskew.engine.events import Gone, Leaving, Milestone, PhaseEntered, Progress, Started, Unreadable
from torchskew.engine.rank_group import GroupRank, RankGroup, Seat, rank_facts
from torchskew.errors import AgentError
from torchskew.inside.job import alone
from torchskew.model.outcomes import Phase
from torchskew.planning.scenario import Scenario
from torchskew.runtimes.fake import DIE, HANG, STACKS, FakeChannel, Script, ended, right

SCENARIO = Scenario(name="meet", promise="p", doc="d", source="", path="", judge=lambda reports, world: {})
Grouped = Callable[..., RankGroup]


@pytest.fixture
def grouped() -> Iterator[Grouped]:
    """Starts one rank for each script."""
    agents: list[Agent] = []

    def start(*scripts: Script) -> RankGroup:
        group = RankGroup(SCENARIO.name)
        for number, script in enumerate(scripts):
            agents.append(Agent(FakeChannel("2.6.0", script, {}), f"agent {number}"))
            agents[-1].wait_ready()
            agents[-1].load(SCENARIO)
            group.add(Seat(version="2.6.0", agent=agents[-1]), f"rank {number}")
        for rank in group.ranks:
            group.start(rank, replace(alone(1.0), rank=rank.number, world_size=len(scripts)))
        return group

    yield start
    for agent in agents:
        agent.close()


def test_ranks_that_end_by_themselves_are_not_stopped(grouped: Grouped) -> None:
    group = grouped(right, right)
    assert group.wait_for_ends(10)
    assert group.stop()
    facts = [rank_facts(rank, otherwise=None) for rank in group.ranks]
    assert [(one.finished, one.killed, one.phase) for one in facts] == [(True, False, Phase.DONE)] * 2
    assert [one.torch for one in facts] == ["2.6.0"] * 2


def test_only_the_rank_that_hangs_is_killed_and_it_leaves_its_stacks(
    grouped: Grouped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchskew.engine.rank_group.STACKS_SECONDS", 0.01)
    group = grouped(right, lambda version, job: {HANG: True})
    assert not group.wait_until(0.01, lambda: not group.running())
    assert [rank.number for rank in group.running()] == [1]
    assert group.stop()
    fine, hung = (rank_facts(rank, otherwise=None) for rank in group.ranks)
    assert (fine.finished, fine.killed) == (True, False)
    assert (hung.killed, hung.signal, hung.stacks, hung.phase) == (True, None, STACKS, Phase.RENDEZVOUS)


def test_an_agent_that_dies_takes_its_rank_and_no_other(grouped: Grouped) -> None:
    group = grouped(lambda version, job: {DIE: True}, right)
    assert group.wait_for_ends(10)
    lost = group.lost()
    assert lost is not None
    assert "agent 0: the agent is gone" in lost.why
    assert [rank_facts(rank, otherwise=None).machine for rank in group.ranks] == [lost.why, None]


def test_a_rank_that_was_not_asked_for_is_not_waited_for(grouped: Grouped) -> None:
    group = grouped(right)
    late = group.add(group.ranks[0].seat, "late")
    assert group.wait_for_ends(10)
    assert rank_facts(late, otherwise="no port").machine == "no port"


def test_a_rank_that_could_not_be_asked_for_is_not_waited_for(grouped: Grouped) -> None:
    group = grouped(lambda version, job: {DIE: True})
    assert group.wait_for_ends(10)
    late = group.add(group.ranks[0].seat, "late")
    with pytest.raises(AgentError, match="the agent is gone"):
        group.start(late, alone(1.0))
    assert group.running() == []


def test_a_ranks_state_follows_its_events(grouped: Grouped) -> None:
    rank = GroupRank(number=0, seat=grouped(right).ranks[0].seat, id="x")
    for event in (
        Started(at=3.0),
        PhaseEntered(phase=Phase.RUN),
        Progress(milestone=Milestone.STEP, step=4),
        Progress(milestone=Milestone.OTHER, step=9),
        Leaving(),
    ):
        rank.take(event)
    assert (rank.began, rank.phase, rank.step, rank.leaving) == (3.0, Phase.RUN, 4, True)
    assert rank.milestones == {Milestone.STEP, Milestone.OTHER}
    assert rank.end is None
    rank.take(Gone(why="it is gone"))
    assert rank.end == Gone(why="it is gone")


def test_a_rank_with_an_event_that_can_not_be_read_is_the_machines_fault(grouped: Grouped) -> None:
    group = grouped(right)
    group.ranks[0].take(Unreadable(why="'lunch' is not a valid Phase", last=False))
    assert group.wait_for_ends(10)
    assert rank_facts(group.ranks[0], otherwise=None).machine == "'lunch' is not a valid Phase"


def test_a_rank_killed_without_a_report_was_in_the_last_phase_that_it_entered(grouped: Grouped) -> None:
    group = grouped(lambda version, job: ended(version, signal="SIGSEGV"))
    assert group.wait_for_ends(10)
    facts = rank_facts(group.ranks[0], otherwise=None)
    assert (facts.signal, facts.phase) == ("SIGSEGV", Phase.RENDEZVOUS)
    group.ranks[0].take(Leaving())
    assert rank_facts(group.ranks[0], otherwise=None).phase is Phase.TEARDOWN
