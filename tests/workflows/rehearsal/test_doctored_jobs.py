"""Training jobs with a fault built in, on real processes and a real torch: each is caught by its own invariant."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from torchskew.model.outcomes import Verdict
from torchskew.model.rehearsal import CheckpointFormat, DeclaredRelease, MixedPolicy, Script, Strategy, StrategyKind
from torchskew.model.versions import Environment, Source, SourceKind, Version
from torchskew.runtimes import ownership
from torchskew.runtimes.venv.runtime import VenvRuntime
from torchskew.workflows.rehearsal.cluster import Cluster
from torchskew.workflows.rehearsal.conduct import Conductor
from torchskew.workflows.rehearsal.findings import Answer, Finding, Invariant
from torchskew.workflows.rehearsal.judge import judge
from torchskew.workflows.rehearsal.plan import make_plan
from torchskew.workflows.rehearsal.questions import DEFAULT_SCRIPT

from tests.conftest import ROOT, TORCH, Silent
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


class WarmCluster(Cluster):
    """Its nodes stay from job to job, so that torch is imported once a node and not once a job."""

    over = False

    def drop(self, node: int, version: str) -> None:
        """Close the node, once no more job will come."""
        if self.over:
            super().drop(node, version)

    def close(self) -> None:
        """Close every node."""
        self.over = True
        super().close()


def cluster_of(environment: Environment, name: str) -> Iterator[Cluster]:
    """Two nodes, each as both releases, started; name: what no other cluster of this process is called."""
    runtime = VenvRuntime()
    with ownership.opened(f"{ownership.owner()}-{name}".replace(":", "-")) as owned:
        runtime.open(owned)
        cluster = WarmCluster(runtime, {name: replace(environment, version=name) for name in ("a", "b")})
        try:
            for node, version in itertools.product(range(SPEC.nodes), ("a", "b")):
                cluster.agent(node, version)
            yield cluster
        finally:
            cluster.close()
            runtime.close()


def rehearsing(cluster: Cluster) -> Rehearse:
    """Carries out a small rehearsal of a script, and judges it."""

    def run(script: str, **more) -> Finding:
        cluster.nodes.clear()
        plan = make_plan(replace(SPEC, script=Script(name="train.py", text=script), **more))
        return judge(Conductor(plan, cluster, print).run())

    return run


@pytest.fixture(scope="module")
def cluster(torch_environment: Environment) -> Iterator[Cluster]:
    """Nodes with the release as it comes, without NumPy."""
    yield from cluster_of(torch_environment, "plain")


@pytest.fixture(scope="module")
def cluster_with_numpy() -> Iterator[Cluster]:
    """Nodes with the same release and NumPy beside it, which distributed checkpoints need."""
    source = Source(kind=SourceKind.PIP, value=TORCH, requires=("numpy",))
    runtime = VenvRuntime()
    try:
        environment = runtime.provision(Version(name="real", sources=(source,), torch="2.13.0"), Silent())
    finally:
        runtime.close()
    yield from cluster_of(environment, "numpy")


@pytest.fixture
def rehearse(cluster: Cluster) -> Rehearse:
    """A job on nodes without NumPy."""
    return rehearsing(cluster)


@pytest.fixture
def rehearse_with_numpy(cluster_with_numpy: Cluster) -> Rehearse:
    """A job on nodes with NumPy."""
    return rehearsing(cluster_with_numpy)


def named(finding: Finding, name: str) -> Invariant:
    return next(each for each in finding.invariants if each.name == name)


def test_the_job_as_it_is_breaks_nothing_and_its_old_node_is_not_refused_for_lack_of_a_difference(rehearse) -> None:
    found = rehearse(JOB)
    for name in ("R2", "R3", "R4", "R5", "R6", "R10", "R12", "R13", "R14", "R15", "R16"):
        assert named(found, name).verdict is Verdict.PASS, named(found, name)
    assert named(found, "R1").verdict is Verdict.UNKNOWN
    assert named(found, "R11").verdict is Verdict.FAIL


def test_a_disk_that_is_full_for_a_while_is_no_release_s_fault(rehearse) -> None:
    once = (
        "    trainer.wrap()\n"
        "    if setting('GENERATION') == '3':\n"
        "        with open('/dev/full', 'w') as file:\n"
        "            file.write('x')\n"
        "    train("
    )
    found = rehearse(doctored("    trainer.wrap()\n    train(", once))
    # Nothing refuses here, because both releases are the same one.
    assert {each.name for each in found.invariants if each.verdict is Verdict.FAIL} <= {"R8", "R11"}
    assert named(found, "R12").verdict is Verdict.UNKNOWN
    assert "the machine failed: the disk is full" in named(found, "R12").evidence


BRIDGED = {"strategy": Strategy(kind=StrategyKind.BRIDGED), "training_steps": 15}


def test_a_job_that_meets_at_bridges_trains_as_its_controls_without_one_do(rehearse) -> None:
    found = rehearse(JOB, **BRIDGED)
    for name in ("R2", "R3", "R4", "R5", "R6", "R9", "R10", "R12", "R13", "R14", "R15"):
        assert named(found, name).verdict is Verdict.PASS, named(found, name)
    assert "3 starts met at 3 bridges, with connections from 6 of 2.5 or later" in named(found, "R13").evidence


def test_a_job_that_meets_elsewhere_than_at_its_bridges_shows_nothing_of_them(rehearse) -> None:
    file = 'setting("CHECKPOINTS") + "-meet-" + setting("GENERATION") + "-" + setting("RESUME")'
    found = named(rehearse(doctored('"env://"', f'"file://" + {file}'), **BRIDGED), "R13")
    assert found.verdict is Verdict.UNKNOWN
    assert "generation 4: 0 of 2 ranks came to its bridge; does the script use init_method" in found.evidence


def test_a_bridge_that_dies_under_its_job_is_no_verdict_on_releases(rehearse) -> None:
    """Every process beside rank 0 in its node dies, the bridge among them; then the job wants one more group."""
    script = doctored(
        "    trainer.wrap()\n    train(",
        "    trainer.wrap()\n"
        "    if setting('GENERATION') == '3':\n"
        "        if rank == 0:\n"
        "            with open('/proc/%d/task/%d/children' % (os.getppid(), os.getppid())) as children:\n"
        "                [os.kill(int(pid), 9) for pid in children.read().split() if int(pid) != os.getpid()]\n"
        "        time.sleep(0.5)\n"
        "        dist.new_group()\n"
        "    train(",
    )
    found = rehearse(script, timeout=2.0, **BRIDGED)
    for name in ("R12", "R13"):
        assert named(found, name).verdict is Verdict.UNKNOWN, named(found, name)
        ended = r"the bridge at 127\.0\.0\.1:\d+ ended before its ranks: SIGKILL"
        assert re.search(ended, named(found, name).evidence), named(found, name)
    for name in ("R2", "R4", "R5", "R6", "R9", "R10", "R14", "R15"):
        assert named(found, name).verdict is not Verdict.FAIL, named(found, name)


def test_a_job_that_skips_a_sample_after_a_restart_is_caught(rehearse) -> None:
    script = doctored(
        "        ids, x, y = self.loader.batch()\n",
        "        ids, x, y = self.loader.batch()\n        if setting('RESUME'):\n            ids[0] += 1\n",
    )
    assert named(rehearse(script), "R3").verdict is Verdict.FAIL


def test_a_job_that_repeats_a_step_is_caught(rehearse) -> None:
    script = doctored(
        '    hold, saved = Hold(setting("HOLD")), trainer.done\n',
        '    trainer.done = max(0, trainer.done - 1)\n    hold, saved = Hold(setting("HOLD")), trainer.done\n',
    )
    found = rehearse(script)
    assert named(found, "R2").verdict is Verdict.FAIL
    assert "again" in named(found, "R2").evidence


def test_a_job_whose_parameters_differ_on_a_rank_after_a_restart_is_caught(rehearse) -> None:
    script = doctored(
        "    trainer.wrap()\n    train(",
        "    trainer.wrap()\n"
        "    if rank == 1 and trainer.done:\n"
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
    script = doctored('        trainer.optimizer.load_state_dict(state["optim"])\n', "")
    found = rehearse(script)
    assert named(found, "R4").verdict is Verdict.FAIL
    assert "a restart alone" in named(found, "R4").evidence


@pytest.mark.parametrize(
    "lost",
    [
        '        self.scheduler.load_state_dict(state["scheduler"])\n',
        '        self.loader.load_state_dict(state["loader"])\n',
        '            torch.set_rng_state(rows["torch"][self.rank].clone())\n',
    ],
)
def test_a_job_that_does_not_restore_a_part_of_its_state_is_no_verdict_on_releases(rehearse, lost: str) -> None:
    found = rehearse(doctored(lost, ""))
    assert (found.answer, named(found, "R4").verdict) == (Answer.UNKNOWN, Verdict.FAIL)
    assert found.because.startswith("your job does not resume on a as it was: first diverging step")


@pytest.mark.parametrize("form", [CheckpointFormat.DCP, CheckpointFormat.PARTIAL])
def test_a_distributed_checkpoint_of_all_state_comes_back_to_the_bit(rehearse_with_numpy, form) -> None:
    found = rehearse_with_numpy(JOB, formats=(form,))
    for name in ("R2", "R3", "R4", "R5", "R6", "R12"):
        assert named(found, name).verdict is Verdict.PASS, named(found, name)
    assert "b read step-" in named(found, "R6").evidence
    assert f"as {form}, which a wrote" in named(found, "R6").evidence


def test_a_release_that_can_write_no_format_that_was_asked_for_does_not_run(rehearse) -> None:
    found = rehearse(JOB, formats=(CheckpointFormat.DCP,))
    assert found.answer is Answer.UNKNOWN
    assert found.because.startswith("your job does not run on a: RuntimeError: dcp can't be written here: no NumPy")


def test_a_script_that_python_can_not_read_gives_no_verdict_on_releases_but_its_own_error(rehearse) -> None:
    found = rehearse("import os\ndef main(:\n    pass\n")
    assert (found.answer, found.verdict) == (Answer.UNKNOWN, Verdict.UNKNOWN)
    assert found.because.startswith("your job does not run on a: SyntaxError: invalid syntax (train.py, line 2)")


def test_a_script_that_ignores_the_contract_gives_no_verdict_on_releases(rehearse) -> None:
    found = rehearse("import torch\ntorch.ones(3).sum()\n")
    assert found.answer is Answer.UNKNOWN
    assert found.because.startswith("your job does not run on a: it logged no training step (TORCHSKEW_LOG)")


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
