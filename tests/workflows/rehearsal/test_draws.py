"""One seed may give other numbers in another release: R3 and R4 say so, for samplers and for layers like dropout."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest
from torchskew.inside import rehearsal as rank
from torchskew.model.outcomes import Verdict
from torchskew.model.versions import Environment
from torchskew.workflows.rehearsal.findings import Answer, Invariant
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.observed import Control, ControlKind, Draws, Generation, Observation

from tests.conftest import ROOT
from tests.workflows.rehearsal.observations import healthy

OLD = Draws(samplers={"RandomSampler": "a", "WeightedRandomSampler": "b"}, layers={"dropout": "c", "rand": "d"})
NEW = Draws(samplers={"RandomSampler": "a", "WeightedRandomSampler": "x"}, layers={"dropout": "y", "rand": "d"})


def drawn(observation: Observation, old: Draws | None, new: Draws | None) -> Observation:
    """The controls drew so."""
    draws = {ControlKind.OLD: old, ControlKind.NEW_RESTARTED: new}
    controls = tuple(replace(each, draws=draws.get(each.name)) for each in observation.controls)
    return replace(observation, controls=controls)


def named(observation: Observation, name: str) -> Invariant:
    return next(each for each in judge(observation).invariants if each.name == name)


def test_what_one_seed_gives_otherwise_is_in_r3_in_r4_and_in_the_answer() -> None:
    observation = drawn(healthy(), OLD, NEW)
    samples, loss = named(observation, "R3"), named(observation, "R4")
    assert (samples.verdict, loss.verdict) == (Verdict.PASS, Verdict.PASS)
    assert samples.evidence.endswith("; one seed gives other numbers on 2.13.0: WeightedRandomSampler")
    assert loss.evidence.endswith("; one seed gives other numbers on 2.13.0: dropout")
    finding = judge(observation)
    assert finding.answer is Answer.SAFE
    assert (
        "; one seed gives other numbers on 2.13.0: WeightedRandomSampler, dropout; its checkpoints" in finding.because
    )


@pytest.mark.parametrize(("old", "new"), [(OLD, OLD), (OLD, None), (None, NEW), (None, None)])
def test_releases_that_draw_alike_or_did_not_say_are_not_told_apart(old: Draws | None, new: Draws | None) -> None:
    observation = drawn(healthy(), old, new)
    assert "one seed" not in named(observation, "R3").evidence + named(observation, "R4").evidence
    assert "one seed" not in judge(observation).because


def otherwise(generation: Generation) -> Generation:
    """The release orders the samples otherwise."""
    lines = tuple(replace(line, samples=tuple(reversed(range(line.rank, line.rank + 4)))) for line in generation.lines)
    return replace(generation, lines=lines)


def reordered(observation: Observation) -> Observation:
    """Whatever the new release trains, alone and in its control, it trains on other samples."""
    generations = tuple(
        otherwise(each) if set(each.versions) == {"2.13.0"} else each for each in observation.generations
    )

    def moved(control: Control) -> Control:
        ours = control.name is ControlKind.NEW_RESTARTED
        return replace(control, generation=otherwise(control.generation)) if ours else control

    return replace(observation, generations=generations, controls=tuple(map(moved, observation.controls)))


def test_samples_that_the_new_release_draws_by_itself_fail_r3_and_are_told_as_its_samplers_doing() -> None:
    observation = reordered(healthy(strategy="stop-the-world"))
    samples = named(observation, "R3")
    assert samples.verdict is Verdict.FAIL
    assert samples.evidence.endswith(
        "they are those of the control on 2.13.0: its sampler draws another order from one seed"
    )
    by_itself = replace(observation, controls=healthy(strategy="stop-the-world").controls)
    assert "its sampler" not in named(by_itself, "R3").evidence


def test_controls_that_part_by_more_than_rounding_are_said_to() -> None:
    def off(observation: Observation, by: float) -> Observation:
        def moved(generation: Generation) -> Generation:
            lines = tuple(replace(line, loss=line.loss + by) if line.step > 9 else line for line in generation.lines)
            return replace(generation, lines=lines)

        controls = tuple(
            replace(each, generation=moved(each.generation)) if each.name is ControlKind.NEW_RESTARTED else each
            for each in observation.controls
        )
        return replace(observation, controls=controls)

    part = "the controls part at step 10 by more than rounding: does the job use dropout?"
    assert named(off(healthy(), 0.2), "R4").evidence.endswith(part)
    assert part not in named(off(healthy(), 1e-6), "R4").evidence


class Seeds:
    """A torch that only seeds."""

    def manual_seed(self, seed: int) -> None:
        self.seed = seed


def test_what_a_release_lacks_is_left_out_and_keeps_nothing_else_from_being_drawn(capsys) -> None:
    def lacks() -> None:
        raise AttributeError("no such layer")

    digests = rank._digests(Seeds(), {"a": lambda: [1, 2], "b": lacks, "c": lambda: [3]})
    assert list(digests) == ["a", "c"]
    assert capsys.readouterr().err == "b: no such layer\n"


@pytest.mark.slow
@pytest.mark.torch
def test_a_real_release_answers_for_each_sampler_and_layer_and_alike_each_time(torch_environment: Environment) -> None:
    source = (ROOT / "harness/torchskew/inside/rehearsal.py").read_text()
    script = source + "\nclass Job:\n    phase = print\nJob.phase = lambda *_: None\n"
    script += "print(json.dumps([draws(Job()), draws(Job())]))\n"
    command = [torch_environment.handle, "-c", script]
    first, second = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert first == second
    assert {kind: len(set(each.values())) for kind, each in first.items()} == {"sampler": 5, "layer": 6}
