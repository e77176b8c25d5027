"""Strategy `bridged`: what is planned, proposed and refused, and what a rehearsal at bridges must show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torchskew.errors import ConfigError
from torchskew.model.outcomes import Verdict
from torchskew.model.rehearsal import DeclaredRelease
from torchskew.workflows.rehearsal.findings import Answer, Finding, Invariant
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import BridgeUse, Observation, State
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.plan_file import dump, load
from torchskew.workflows.rehearsal.plan_text import tree
from torchskew.workflows.rehearsal.planned import BridgeProposal, Collective, Expect, StartJob, Train, at_a_bridge

from tests.workflows.rehearsal.observations import healthy, spec
from tests.workflows.rehearsal.test_judge import edited, first

PROPOSAL = "predicted: --strategy bridged is expected to let those {} groups train, at a bridge, so that the job"


def between(old: str, new: str, **more):
    """A spec for two releases."""
    known = {"old": DeclaredRelease(name=old, torch=old), "new": DeclaredRelease(name=new, torch=new)}
    return spec(**known, **more)


def named(finding: Finding, name: str) -> Invariant:
    return next(each for each in finding.invariants if each.name == name)


# -- the plan


def test_at_bridges_every_mixed_group_is_to_train_across_a_border_at_which_stores_refuse() -> None:
    plan = make_plan(between("2.1.2", "2.15.0", strategy="bridged", rollback=True))
    groups = [step.action for step in plan.steps if isinstance(step.action, StartJob | Collective)]
    assert {group.expect for group in groups} == {Expect.TRAIN}
    assert sum(step.mixed for step in plan.steps if isinstance(step.action, StartJob)) >= 3


def test_nodes_are_replaced_one_by_one_and_the_last_start_has_no_bridge() -> None:
    asked = between("2.1.2", "2.15.0", strategy="bridged")
    plan = make_plan(asked)
    assert asked.strategy.replacements(asked.nodes) == asked.nodes
    starts = [at_a_bridge(step, asked) for step in plan.steps if isinstance(step.action, StartJob)]
    assert starts == [True] * (len(starts) - 1) + [False]
    rolling = make_plan(between("2.1.2", "2.15.0"))
    assert not any(at_a_bridge(step, rolling.spec) for step in rolling.steps)


def test_the_plan_says_what_is_not_known_to_be_right_between_exactly_these_releases() -> None:
    border = tree(make_plan(between("2.1.2", "2.15.0", strategy="bridged")))
    assert "DDP with find_unused_parameters, FSDP, DTensor, device meshes, " in border
    near = tree(make_plan(between("2.13.0", "2.13.1", strategy="bridged")))
    assert "not known to be right at a bridge between these releases: NCCL\n" in near


@pytest.mark.parametrize(
    ("old", "new", "strategy", "groups"),
    [("2.1.2", "2.15.0", "rolling", 3), ("2.1.2", "2.2.2", "host-first", 3), ("2.2.2", "2.6.0", "host-last", 3)],
)
def test_policy_auto_proposes_a_bridge_where_groups_must_refuse_and_a_bridge_can_help(
    old: str, new: str, strategy: str, groups: int
) -> None:
    plan = make_plan(between(old, new, strategy=strategy))
    assert plan.predictions[-1] == BridgeProposal(groups=groups)
    assert PROPOSAL.format(groups) in tree(plan)
    assert load(dump(plan), "plan.json") == plan


@pytest.mark.parametrize(
    ("old", "new", "more"),
    [
        ("1.12.1", "2.6.0", {}),  # nobody has tried
        ("1.7.1", "2.15.0", {}),
        ("2.6.0", "2.13.0", {}),  # they mix by themselves
        ("2.2.2", "2.6.0", {"strategy": "host-first"}),
        ("2.1.2", "2.15.0", {"strategy": "stop-the-world"}),
        ("2.1.2", "2.15.0", {"strategy": "bridged"}),
        ("2.1.2", "2.15.0", {"policy": "refuse"}),  # what a person wants, not what the table of eras says
    ],
)
def test_nothing_is_proposed_where_a_bridge_is_of_no_use(old: str, new: str, more: dict[str, str]) -> None:
    plan = make_plan(between(old, new, **more))
    assert not any(isinstance(each, BridgeProposal) for each in plan.predictions)


@pytest.mark.parametrize(
    ("old", "new", "policy", "text"),
    [
        ("1.12.1", "2.15.0", "auto", "strategy bridged needs 1.13 or newer on both sides, got 1.12.1: "),
        ("2.15.0", "1.12.1", "interoperate", "strategy bridged needs 1.13 or newer on both sides, got 1.12.1: "),
        ("2.1.2", "2.15.0", "refuse", "policy must not be refuse with strategy bridged: "),
    ],
)
def test_what_a_bridge_can_not_do_is_refused_before_anything_runs(old: str, new: str, policy: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(between(old, new, strategy="bridged", policy=policy))
    assert text in str(caught.value)


def test_of_a_release_that_nobody_knows_yet_either_end_is_right() -> None:
    plan = make_plan(spec(old=DeclaredRelease(name="site"), strategy="bridged"))
    assert {step.action.expect for step in plan.steps if isinstance(step.action, StartJob) and step.mixed} == {
        Expect.EITHER
    }


# -- what was observed


def bridged(use: BridgeUse | None, number: int = 2) -> Observation:
    """A healthy rehearsal, but for the bridge of one start."""
    observation = healthy(strategy="bridged")
    changed = tuple(replace(each, bridge=use) if each.number == number else each for each in observation.generations)
    return replace(observation, generations=changed)


def test_a_safe_answer_says_that_it_went_over_bridges_and_what_that_does_not_cover() -> None:
    observation = healthy(strategy="bridged")
    finding = judge(observation)
    assert finding.answer is Answer.SAFE
    start = "every invariant holds, with a bridge as the job's store until finalise; not known to be right at a bridge"
    assert finding.because.startswith(start)
    assert "NCCL" in finding.because
    starts = len(observation.generations) - 1
    met = f"{starts} starts met at {starts} bridges, with connections from {4 * starts} of 2.5 or later"
    assert met in named(finding, "R13").evidence
    assert "at a bridge, rank 0 on 2.13.0, 2.6.0" in named(finding, "R9").evidence
    assert "bridge" not in judge(healthy()).because


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (None, "generation 2: 0 of 4 ranks came to its bridge; does the script use"),
        (BridgeUse(clients={"2.1": 1, "2.5 or later": 2}), "generation 2: 3 of 4 ranks came to its bridge"),
        (
            BridgeUse(clients={"2.1": 4}, lost="the bridge at h:1 ended before its ranks: SIGKILL"),
            "h:1 ended before its ranks: SIGKILL",
        ),
    ],
)
def test_a_start_that_did_not_meet_at_its_bridge_shows_nothing_of_bridges(use: BridgeUse | None, text: str) -> None:
    finding = judge(bridged(use))
    assert (finding.answer, named(finding, "R13").verdict) == (Answer.UNKNOWN, Verdict.UNKNOWN)
    assert text in named(finding, "R13").evidence


def test_a_step_that_the_machine_ended_is_no_death_of_the_job() -> None:
    observation = healthy(strategy="bridged")
    number = first(observation, Train)
    lost = "the bridge at h:1 ended before its ranks: SIGKILL"
    broken = edited(observation, number, state=State.FAILED, why=f"the machine failed: {lost}", machine=lost)
    found = named(judge(broken), "R12")
    assert (found.verdict, found.evidence) == (Verdict.UNKNOWN, f"step {number}: the machine failed: {lost}")
    died = named(judge(edited(observation, number, state=State.FAILED, why="the job died")), "R12")
    assert died.verdict is Verdict.FAIL


def test_an_answer_that_needs_a_stop_says_what_avoids_it() -> None:
    observation = healthy(policy="refuse")
    plan = replace(observation.plan, predictions=(BridgeProposal(groups=3),))
    finding = judge(replace(observation, plan=plan))
    assert finding.answer is Answer.STOP
    assert "; --strategy bridged is expected to let those 3 groups train, at a bridge" in finding.because
