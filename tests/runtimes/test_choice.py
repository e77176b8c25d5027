"""Which runtime a run uses: what was asked for, or Docker where an engine answers, and the reason in words."""

from __future__ import annotations

import pytest
from torchskew.errors import MachineError
from torchskew.runtimes import choice
from torchskew.runtimes.choice import choose


class Named:
    """A runtime that says why it can't be used."""

    def __init__(self, name: str, problem: str | None) -> None:
        self.name, self.problem = name, problem

    def answers(self) -> str | None:
        return self.problem


def with_docker(monkeypatch: pytest.MonkeyPatch, problem: str | None) -> None:
    monkeypatch.setattr(choice, "runtime", lambda name: Named(name, problem if name == "docker" else None))


@pytest.mark.parametrize(
    ("asked", "problem", "name", "why"),
    [
        ("auto", None, "docker", "a Docker engine answers"),
        ("auto", "nobody there.", "venv", "no Docker engine: nobody there."),
        ("docker", None, "docker", "declared"),
        ("venv", None, "venv", "declared"),
        ("venv", "nobody there.", "venv", "declared"),
    ],
)
def test_the_runtime_and_its_reason(monkeypatch: pytest.MonkeyPatch, asked: str, problem, name: str, why: str) -> None:
    with_docker(monkeypatch, problem)
    chosen, said = choose(asked, "declared")
    assert (chosen.name, said) == (name, why)


def test_docker_that_was_asked_for_and_does_not_answer_is_an_error_with_its_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_docker(monkeypatch, "nobody there.")
    with pytest.raises(
        MachineError, match=r"docker: no engine answers: nobody there\. Start it, or use --runtime venv"
    ):
        choose("docker")
