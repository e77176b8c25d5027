"""Which runtime a run uses: what was asked for, else the first that answers and can provide every version, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.errors import ConfigError, MachineError
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.runtimes import choice
from torchskew.runtimes.choice import choose, for_every
from torchskew.workflows.inputs import read_declaration


class Named:
    """A runtime that says why it can't be used."""

    def __init__(self, name: str, problem: str | None) -> None:
        self.name, self.problem = name, problem

    def answers(self) -> str | None:
        return self.problem


def answering(monkeypatch: pytest.MonkeyPatch, **problems: str | None) -> None:
    monkeypatch.setattr(choice, "runtime", lambda name: Named(name, problems.get(name)))


def version(name: str, *kinds: SourceKind) -> Version:
    return Version(name=name, sources=tuple(Source(kind=kind, value="x") for kind in kinds))


HERE = version("here", SourceKind.INTERPRETER)
OLD = version("old", SourceKind.DEBIAN)
NEW = version("new", SourceKind.PIP)


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
    answering(monkeypatch, docker=problem)
    chosen = choose(asked, for_every([NEW]), "declared")
    assert (chosen.runtime.name, chosen.why) == (name, why)


def test_docker_that_was_asked_for_and_does_not_answer_is_an_error_with_its_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, docker="nobody there.")
    with pytest.raises(
        MachineError, match=r"docker: no Docker engine answers: nobody there\. Start an engine .*`--runtime venv`"
    ):
        choose("docker", for_every([NEW]))


@pytest.mark.parametrize("problem", [None, "nobody there."])
def test_interpreters_run_in_local_processes_although_docker_answers(
    monkeypatch: pytest.MonkeyPatch, problem: str | None
) -> None:
    answering(monkeypatch, docker=problem)
    chosen = choose("auto", for_every([NEW, HERE]))
    assert (chosen.runtime.name, chosen.why) == ("venv", "docker can't use here (interpreter)")


def test_a_reason_names_a_few_versions_and_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    versions = [version(name, SourceKind.INTERPRETER) for name in "abcde"]
    why = choose("auto", for_every(versions)).why
    assert why == "docker can't use a (interpreter), b (interpreter), c (interpreter) and 2 more"


def test_versions_that_no_runtime_can_use_together_are_an_error_that_names_the_way_out() -> None:
    with pytest.raises(ConfigError) as caught:
        choose("auto", for_every([HERE, OLD, NEW]))
    assert str(caught.value) == (
        "no runtime can use every declared version: docker can't use here (interpreter); venv can't use old (debian). "
        'Set runtime = "venv" in [matrix] and leave out old, or add a source to each version that one runtime can use.'
    )


def test_an_engine_that_the_versions_need_and_that_does_not_answer_is_the_machines_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, docker="nobody there.")
    with pytest.raises(MachineError) as caught:
        choose("auto", for_every([OLD]))
    assert "no Docker engine answers: nobody there." in str(caught.value)
    assert "venv can't use old (debian)." in str(caught.value)


def test_nothing_that_answers_is_said_for_every_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, docker="nobody there.", venv="not installed.")
    with pytest.raises(MachineError, match=r"(?s)nobody there\..*not installed\. Install it: pip install uv"):
        choose("auto", for_every([NEW]))


def test_each_runtime_is_asked_for_the_versions_of_its_own_matrix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(monkeypatch)
    path = tmp_path / "torchskew.toml"
    path.write_text(
        '[versions]\nold = { debian = "trixie" }\nhere = { interpreter = "/opt/t/bin/python" }\n'
        'new = { pip = "torch==2.6.0" }\n[matrix.docker]\nversions = ["old", "new"]\n'
        '[matrix.venv]\nversions = ["here", "new"]\n'
    )
    wanted = read_declaration(path).by_runtime
    assert {name: [each.name for each in versions] for name, versions in wanted.items()} == {
        "docker": ["old", "new"],
        "venv": ["here", "new"],
    }
    assert choose("auto", wanted).why == "a Docker engine answers"
    answering(monkeypatch, docker="nobody there.")
    assert choose("auto", wanted).runtime.name == "venv"
