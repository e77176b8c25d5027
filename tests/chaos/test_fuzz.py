"""The short form of the fuzz: what a seed makes is a valid plan, or an error that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import command_lines, declarations
from tests.chaos.toml_text import to_toml
from tests.chaos.trials import Said, Trial, ran

SEEDS = 25


@pytest.mark.slow
@pytest.mark.parametrize("trial", [declarations.trial, command_lines.trial])
def test_each_is_a_valid_plan_or_a_text_that_names_what_is_wrong(
    trial: Callable[[int, Path], Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trials = [trial(seed, tmp_path) for seed in range(SEEDS)]
    assert [each for each in trials if each.wrong] == []
    assert len({each.done for each in trials}) > SEEDS / 2


def test_what_is_mutated_is_a_right_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every mutant would be refused for the same field."""
    monkeypatch.chdir(tmp_path)
    tree = declarations.right()
    for name in declarations.BASELINE:
        del tree[name]
    for name, data in {**declarations.BESIDE, "torchskew.toml": to_toml(tree).encode()}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert [ran([command, "--dry-run"]).code for command in declarations.COMMANDS] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (Said(code=3, out="", err="this is a bug"), "a bug"),
        (Said(code=-1, out="", err="Traceback (most recent call last) of OSError: x"), "a bug"),
        (Said(code=1, out="", err="torchskew: refused"), "exit 1"),
        (Said(code=4, out="", err="torchskew: something is wrong"), "names none of"),
        (Said(code=0, out="", err=""), "without a plan"),
        (Said(code=-2, out="", err=""), "exit code -2"),
    ],
)
def test_a_bad_answer_is_told_from_a_good_one(said: Said, wrong: str) -> None:
    assert wrong in declarations.wrong_with(said, {"timeout"})
    assert not declarations.wrong_with(Said(code=4, out="", err="matrix.timeout must be"), {"timeout"})
