"""A rehearsal beside the advice that it proves: as advised, not as advised, not decided; and one that really runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torchskew.model.outcomes import Verdict
from torchskew.releases.advice import Advice, Question, advise
from torchskew.report.catalogue import catalogue
from torchskew.workflows.proof import PROVE, compared
from torchskew.workflows.rehearsal.findings import Answer, Breach, Finding, Invariant
from torchskew.workflows.rehearsal.workflow import Options
from torchskew.workflows.steps import problems

from tests.patience import PATIENCE

GAINED = "RuntimeError: Missing key in checkpoint state_dict: optim.param_groups.0.decoupled_weight_decay."


def advice(*uses: str) -> Advice:
    """What is known of an upgrade that AdamW's state in DCP does not survive."""
    return advise(Question(old="2.6.0", new="2.13.0", uses=uses), catalogue())


def finding(*breaches: Breach, verdict: Verdict = Verdict.PASS, because: str = "every invariant holds") -> Finding:
    """What a rehearsal found."""
    failed = Invariant(name="R6", promise="", verdict=Verdict.FAIL, evidence="", breaches=breaches)
    return Finding(
        answer=Answer.UNSAFE if breaches else Answer.SAFE, because=because, redone=0, idle=0.0,
        invariants=(failed,) if breaches else (), verdict=Verdict.FAIL if breaches else verdict,
    )  # fmt: skip


def test_every_step_of_the_proof_gets_what_it_asks_for() -> None:
    from contextlib import ExitStack

    from torchskew.engine.progress import Watch

    assert problems(PROVE, [Options, Watch, ExitStack, Advice]) == []


def test_a_failure_that_the_advice_lists_is_as_advised() -> None:
    """What follows from it, and has no cause of its own, does not count again."""
    breaches = (Breach(3, f"2.13.0 reading step-00010: {GAINED}", GAINED), Breach(4, "node 2 did not resume"))
    assert compared(advice("dcp"), [finding(*breaches)]) == "as advised: what failed is SKEW-039"


def test_a_failure_that_the_advice_does_not_list_is_not_as_advised() -> None:
    """Plain checkpoints are all that this job writes, so nothing about DCP was advised."""
    says = compared(advice("ddp"), [finding(Breach(3, f"reading step-00010: {GAINED}", GAINED))])
    assert says.startswith("not as advised: R6 failed, and no break that the advice lists shows this: reading step-0")
    unknown = finding(Breach(None, "the weights differ"))
    assert compared(advice(), [unknown]).endswith("shows this: the weights differ")


def test_a_rehearsal_without_a_failure_says_which_breaks_it_did_not_meet() -> None:
    assert compared(advice("dcp"), [finding()]).startswith("as advised: every invariant holds; this job met none of ")
    assert compared(advice("dcp"), [finding()]).count("SKEW-039") == 1
    same = advise(Question(old="2.6.0", new="2.6.0"), catalogue())
    assert compared(same, [finding()]) == "as advised: every invariant holds"


def test_what_the_rehearsal_could_not_decide_is_not_decided() -> None:
    undecided = finding(verdict=Verdict.UNKNOWN, because="the job does not run on 2.6.0")
    assert compared(advice(), [undecided]) == "not decided, because the job does not run on 2.6.0"


@pytest.mark.slow
@pytest.mark.torch
def test_an_upgrade_is_advised_rehearsed_and_compared(tmp_path: Path, torch_environment: object) -> None:
    """A real job of four nodes. Torch 2.13.0, which these tests have, stands in for 2.14.1 too.

    So a node that was not upgraded joins after finalise, which no advice expects. All else holds.
    """
    del torch_environment  # only that it is there
    requires = '{ pip = "torch==2.13.0", requires = ["numpy"] }'
    declared = f'[versions]\n"2.13.0" = {requires}\n"2.14.1" = {requires}\n'
    (tmp_path / "torchskew.toml").write_text(declared, encoding="utf-8")
    command = [sys.executable, "-m", "torchskew", "advise", "--from", "2.13.0", "--to", "2.14.1", "--uses", "ddp"]
    done = subprocess.run(
        [*command, "--check", "--runtime", "venv"], cwd=tmp_path, env={**os.environ, "COLUMNS": "200"},
        capture_output=True, text=True, timeout=PATIENCE * 2, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "2.13.0 to 2.14.1, uses ddp"
    failed = [line.split()[0] for line in lines if line.split()[1:2] == ["FAIL"]]
    assert failed == ["R8", "R11"]
    says = "check      not as advised: R8 failed, and no break that the advice lists shows this: step "
    assert any(line.startswith(says) for line in lines[-2:])
