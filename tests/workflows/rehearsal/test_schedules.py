"""Random schedules: a seed decides them, what can't be injected is never drawn, and they fit the training steps."""

from __future__ import annotations

import pytest
from torchskew.errors import ConfigError
from torchskew.faults import FAULTS, parts
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.plan_file import dump, load
from torchskew.workflows.rehearsal.planned import InjectFault
from torchskew.workflows.rehearsal.schedules import MOST_INJECTIONS, plan

from tests.workflows.rehearsal.observations import healthy, spec

NETWORK = dict.fromkeys(("partition", "slow", "loss", "delay"), "no network of its own")


def drawn(seed: int, **more) -> tuple[str, ...]:
    return plan(spec(faults=("random",), seed=seed, training_steps=80, **more), NETWORK).spec.faults


def test_a_seed_decides_the_schedule_and_other_seeds_have_others() -> None:
    assert drawn(3) == drawn(3)
    assert len({drawn(seed) for seed in range(20)}) > 10


def test_twenty_seeds_hold_single_faults_and_pairs_of_what_can_be_injected_here() -> None:
    schedules = [drawn(seed) for seed in range(20)]
    assert {part for each in schedules for name in each for part in parts(name)} == {"kill", "pause"}
    assert {len(parts(name)) for each in schedules for name in each} == {1, 2}
    assert {1, MOST_INJECTIONS} <= {len(each) for each in schedules}


def test_a_schedule_is_as_long_as_the_training_steps_allow() -> None:
    seed = next(seed for seed in range(20) if len(drawn(seed)) == MOST_INJECTIONS)
    short = plan(spec(faults=("random",), seed=seed, training_steps=22), NETWORK).spec.faults
    assert short == drawn(seed)[: len(short)]
    assert 1 <= len(short) < MOST_INJECTIONS
    with pytest.raises(ConfigError, match="Use --steps"):
        plan(spec(faults=("random",), seed=seed, training_steps=15), NETWORK)


def test_the_plan_states_what_was_drawn_so_that_it_can_be_carried_out_again() -> None:
    found = plan(spec(faults=("random", "kill"), seed=5, training_steps=80), NETWORK)
    assert "random" not in found.spec.faults
    assert "kill" in found.spec.faults
    injected = [step.action.fault for step in found.steps if isinstance(step.action, InjectFault)]
    assert sorted(injected) == sorted(found.spec.faults)
    assert load(dump(found), "plan") == make_plan(found.spec, NETWORK)


def test_faults_at_once_hit_nodes_of_their_own() -> None:
    observation = healthy(faults=("pause+kill+pause",), training_steps=40)
    step = next(step for step in observation.plan.steps if isinstance(step.action, InjectFault))
    hits = step.action.hits(4)
    assert [name for name, _ in hits] == ["pause", "kill", "pause"]
    assert step.nodes == tuple(node for _, node in hits)
    assert len(set(step.nodes)) == 3


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("pause+meteor", "faults must be of kill, pause"),
        ("kill+kill+kill+kill+kill", "faults at once must not be more than the 4 nodes"),
        ("pause+", "faults must be of kill, pause"),
    ],
)
def test_faults_at_once_that_can_not_be_are_refused(fault: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_plan(spec(faults=(fault,)))


def test_faults_at_once_are_left_out_where_one_of_them_can_not_be_injected() -> None:
    assert plan(spec(faults=("kill+partition", "kill")), NETWORK).unsupported == {
        "kill+partition": "no network of its own"
    }
    assert set(FAULTS) == {*NETWORK, "kill", "pause"}
