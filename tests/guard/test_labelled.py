"""A real build whose label lies between releases: what the guard sees of it counts, and the rest it calls a guess."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from torchskew.guard.generate import FILE, HERE
from torchskew.model.versions import Environment

from tests.doctored import Change, added, doctored
from tests.guard.test_in_torch import SCRIPT, port
from tests.patience import PATIENCE

pytestmark = [pytest.mark.torch, pytest.mark.slow]
RENDEZVOUS = "torch/distributed/rendezvous.py"
ASK = """
import torch
from torchskew.guard.build import eras_of
eras, guess = eras_of(torch.__version__)
print(eras["store"], eras["agent"], guess or "no guess", sep="; ")
"""
Labelled = Callable[..., str]


@pytest.fixture
def labelled(torch_environment: Environment, tmp_path: Path) -> Labelled:
    """A copy of 2.13.0 that says it is another release; its interpreter."""

    def make(label: str, changes: Mapping[str, Change] | None = None) -> str:
        return doctored(torch_environment.handle, tmp_path / "copy", changes or {}, label)

    return make


@pytest.mark.parametrize(("label", "changes", "seen"), [
    ("2.6.0a0+gitabc", {}, "2.5; 2.6; no guess"),
    ("2.6.0a0+gitabc", {RENDEZVOUS: added("# /worker/attempt_\n")}, "2.5; 1.7; no guess"),
    ("2.5.0a0+gitabc", {}, "2.5; 1.7; no guess"),  # its client greets as 2.5 does
    ("2.2.0a0+gitabc", {}, "2.2; 1.7; store gloo"),  # it greets neither as 2.2 nor as 2.1 does
    ("2.14.0a0+gitabc", {}, "2.5; 2.6; no guess"),  # nothing begins with 2.14
])  # fmt: skip
def test_what_a_real_build_shows_counts_more_than_its_label(
    labelled: Labelled, label: str, changes: dict[str, Change], seen: str
) -> None:
    env = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    done = subprocess.run(
        [labelled(label, changes), "-c", ASK], env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.stdout.strip() == seen, done.stderr


def test_a_real_build_that_its_label_alone_speaks_against_forms_and_its_label_is_called_a_guess(
    labelled: Labelled, torch_environment: Environment, tmp_path: Path
) -> None:
    """A store of 2.2 could not serve rank 1."""
    (tmp_path / "train.py").write_text(SCRIPT)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port()), "WORLD_SIZE": "2", "TMPDIR": str(tmp_path)}
    ranks = [
        subprocess.Popen(
            [python, str(FILE), str(tmp_path / "train.py"), "vendored"],
            env={**os.environ, **torch_environment.env, **where, "RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank, python in enumerate([labelled("2.2.0a0+gitabc"), torch_environment.handle])
    ]  # fmt: skip
    for rank, (out, err) in enumerate(each.communicate(timeout=PATIENCE) for each in ranks):
        assert "sum 3.0" in out, err
        (line,) = [line for line in err.splitlines() if line.startswith("torchskew guard")]
        assert line.startswith(f"torchskew guard, rank {rank}: store era differs since 2.5: rank 0 2.2 ")
        assert "a guess by the label of torch 2.2.0a0+gitabc, a build between releases" in line
