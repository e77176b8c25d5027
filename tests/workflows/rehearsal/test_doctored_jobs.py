"""Training jobs with a fault built in, on real processes and a real torch: each is caught by its own invariant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from torchskew.model.outcomes import Verdict
from torchskew.model.rehearsal import CheckpointFormat, DeclaredRelease, MixedPolicy, Script, Strategy, StrategyKind
from torchskew.model.versions import Environment
from torchskew.runtimes import ownership
from torchskew.runtimes.venv.runtime import VenvRuntime
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.conduct import Conductor
from torchskew.workflows.rehearsal.findings import Answer, Finding, Invariant
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.questions import DEFAULT_SCRIPT

from tests.conftest import ROOT
from tests.workflows.rehearsal.observations import spec

pytestmark = [pytest.mark.slow, pytest.mark.torch]
JOB = DEFAULT_SCRIPT.read_text()
# Two names for one release: what is looked for here is in the job, not in the releases.
SPEC = spec(
    old=DeclaredRelease(name="a", torch="2.13.0"), new=DeclaredRelease(name="b", torch="2.13.0"), nodes=2,
    training_steps=12, checkpoint_every=3, formats=(CheckpointFormat.PLAIN,), strategy="stop-the-world", pace=0.0,
)  # fmt: skip
Rehearse = Callable[..., Finding]


def doctored(original: str, changed: str) -> str:
    """The job with one place changed; the place must be there."""
    assert JOB.count(original) == 1, original
    return JOB.replace(original, changed)


@pytest.fixture
def rehearse(torch_environment: Environment) -> Iterator[Rehearse]:
    """Carries out a small rehearsal of a script, and judges it."""
    names = {name: replace(torch_environment, version=name) for name in ("a", "b")}

    def run(script: str, **more) -> Finding:
        runtime = VenvRuntime()
        plan = make_plan(replace(SPEC, script=Script(name="train.py", text=script), **more))
        with ownership.opened(ownership.owner().replace(":", "-")) as owned:
            runtime.open(owned)
            cluster = Cluster(runtime, names)
            try:
                return judge(Conductor(plan, cluster, print).run())
            finally:
                cluster.close()
                runtime.close()

    return run


def named(finding: Finding, name: str) -> Invariant:
    return next(each for each in finding.invariants if each.name == name)


def test_the_job_as_it_is_breaks_nothing_and_its_old_node_is_not_refused_for_lack_of_a_difference(rehearse) -> None:
    found = rehearse(JOB)
    for name in ("R2", "R3", "R4", "R5", "R6", "R10", "R12", "R13", "R14", "R15", "R16"):
        assert named(found, name).verdict is Verdict.PASS, named(found, name)
    assert named(found, "R1").verdict is Verdict.UNKNOWN
    assert named(found, "R11").verdict is Verdict.FAIL


def test_a_job_that_skips_a_sample_after_a_restart_is_caught(rehearse) -> None:
    script = doctored(
        "        ids = loader.samples(done + 1)\n",
        "        ids = loader.samples(done + 1)\n        if setting('RESUME'):\n            ids[0] += 1\n",
    )
    assert named(rehearse(script), "R3").verdict is Verdict.FAIL


def test_a_job_that_repeats_a_step_is_caught(rehearse) -> None:
    script = doctored(
        "    log, stop, checkpoints = tools\n", "    log, stop, checkpoints = tools\n    done = max(0, done - 1)\n"
    )
    found = rehearse(script)
    assert named(found, "R2").verdict is Verdict.FAIL
    assert "again" in named(found, "R2").evidence


def test_a_job_whose_parameters_differ_on_a_rank_after_a_restart_is_caught(rehearse) -> None:
    script = doctored(
        "    trainer.wrap()\n    train(",
        "    trainer.wrap()\n"
        "    if rank == 1 and done:\n"
        "        with torch.no_grad():\n"
        "            next(trainer.model.parameters()).add_(1e-3)\n"
        "    train(",
    )
    found = rehearse(script)
    assert named(found, "R5").verdict is Verdict.FAIL
    assert "rank 1" in named(found, "R5").evidence


def test_a_job_that_ignores_sigterm_is_caught(rehearse) -> None:
    script = doctored("        self.asked = True\n", "        self.asked = False\n")
    found = rehearse(script)
    assert named(found, "R10").verdict is Verdict.FAIL
    assert "HANG" in named(found, "R10").evidence


def test_a_job_that_does_not_restore_its_optimizer_is_caught_although_its_controls_restart_too(rehearse) -> None:
    script = doctored("        self.optimizer.load_state_dict(whole)\n", "        del whole\n")
    found = rehearse(script)
    assert named(found, "R4").verdict is Verdict.FAIL
    assert "a restart alone" in named(found, "R4").evidence


def test_a_mixed_group_that_trains_where_it_had_to_refuse_is_caught(rehearse) -> None:
    found = rehearse(JOB, policy=MixedPolicy.REFUSE, strategy=Strategy(kind=StrategyKind.ROLLING), training_steps=9)
    assert named(found, "R8").verdict is Verdict.FAIL
    assert (found.answer, found.verdict) == (Answer.UNSAFE, Verdict.FAIL)


def test_an_interrupt_while_the_job_trains_leaves_nothing_behind(torch_environment: Environment) -> None:
    """What is left would be found by the check that every test has."""
    names = {name: replace(torch_environment, version=name) for name in ("a", "b")}

    def interrupt(line: str) -> None:
        if "train" in line:
            raise KeyboardInterrupt

    runtime = VenvRuntime()
    with ownership.opened(ownership.owner().replace(":", "-")) as owned:
        runtime.open(owned)
        cluster = Cluster(runtime, names)
        with pytest.raises(KeyboardInterrupt):
            Conductor(make_plan(SPEC), cluster, interrupt).run()
        cluster.abandon()
        runtime.close()


def test_the_script_of_the_documentation_passes_as_it_stands_there(rehearse) -> None:
    found = rehearse((ROOT / "docs/rehearsal.md").read_text().split("```python\n")[1].split("```")[0])
    for name in ("R2", "R3", "R4", "R5", "R6", "R10", "R12", "R13", "R15"):
        assert named(found, name).verdict is Verdict.PASS, named(found, name)
