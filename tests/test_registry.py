"""One row makes a runtime, one row makes a fault: every command offers it and can use it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from torchskew import faults
from torchskew.cli import main
from torchskew.faults import FAULTS, FaultRow
from torchskew.faults.kill import Kill
from torchskew.judging.decide import stale
from torchskew.model.declared import Expectation
from torchskew.model.outcomes import Verdict
from torchskew.model.runtimes import RUNTIMES, RuntimeRow
from torchskew.model.versions import SourceKind
from torchskew.pytest import plugin
from torchskew.runtimes.fake import FakeRuntime

from tests.conftest import ROOT

DECLARED = """
[versions]
a = { pip = "torch==2.6.0" }
b = { pip = "torch==2.13.0" }
[matrix]
scenarios = ["all_reduce", "rendezvous_tcp"]
[matrix.invented]
timeout = 3
"""


class InventedRuntime(FakeRuntime):
    """A runtime that nothing but its row knows."""

    name = "invented"

    def describe(self) -> str:
        return "invented 1.0"

    def sweep(self) -> tuple[str, ...]:
        return ("what the invented runtime left",)


class Eclipse(Kill):
    """A fault that nothing but its row knows."""

    name = "eclipse"


RUNTIME = RuntimeRow(
    name="invented",
    implementation="tests.test_registry:InventedRuntime",
    sources=(SourceKind.PIP,),
    purpose="nowhere at all",
    engine="working invention",
    fix="Invent it.",
)


@pytest.fixture(autouse=True)
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One more row in each registry, and a declaration to use them with."""
    monkeypatch.setitem(RUNTIMES, RUNTIME.name, RUNTIME)
    row = FaultRow(name="eclipse", implementation="tests.test_registry:Eclipse", effect="the sun is gone")
    monkeypatch.setitem(FAULTS, row.name, row)
    (tmp_path / "torchskew.toml").write_text(DECLARED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def alone() -> Iterator[None]:
    """The invented runtime has the only row."""
    rows = dict(RUNTIMES)
    for name in set(RUNTIMES) - {"invented"}:
        del RUNTIMES[name]
    yield
    RUNTIMES.clear()
    RUNTIMES.update(rows)  # in their order, which says what auto prefers


@pytest.mark.parametrize(
    "line",
    [
        ["matrix", "--only", "rendezvous_tcp/a,b/*"],
        ["gate", "--candidate", "pip:torch==2.15.0", "--against", "a", "--only", "all_reduce*/*"],
        ["rehearse", "--from", "a", "--to", "b"],
    ],
    ids=lambda line: line[0],
)
def test_a_command_plans_for_a_runtime_that_has_a_row(line: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "--runtime", "invented", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "invented 1.0 (asked for)" in said.err
    if line[0] != "rehearse":
        assert "/invented " in said.out


@pytest.mark.parametrize("table", ["matrix", "gate", "rehearsal"])
def test_the_declaration_may_name_a_runtime_that_has_a_row(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("torchskew.toml")
    named = f'[{table}]\nruntime = "invented"\n'
    path.write_text(DECLARED.replace("[matrix]\n", named) if table == "matrix" else DECLARED + named)
    lines = {
        "matrix": ["matrix"],
        "gate": ["gate", "--candidate", "pip:torch==2.15.0", "--against", "a"],
        "rehearsal": ["rehearse", "--from", "a", "--to", "b"],
    }
    assert main([*lines[table], "--dry-run"]) == 0
    assert "invented 1.0" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["matrix", "gate", "rehearse", "compatibility"])
def test_the_help_of_a_command_lists_a_runtime_that_has_a_row(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "invented" in capsys.readouterr().out


def test_pytest_offers_a_runtime_that_has_a_row() -> None:
    parser = pytest.Parser(_ispytest=True)
    plugin.pytest_addoption(parser)
    assert parser.parse_known_args(["--torchskew-runtime", "invented"]).torchskew_runtime == "invented"


def test_doctor_asks_a_runtime_that_has_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(InventedRuntime, "answers", lambda self: "no invention")
    main(["doctor"])
    assert re.search(r"working invention +missing +no invention\n +Invent it\.", capsys.readouterr().out)


@pytest.mark.usefixtures("alone")
def test_clean_sweeps_a_runtime_that_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean"]) == 0
    assert capsys.readouterr().out == "removed what the invented runtime left\n"


@pytest.mark.usefixtures("alone")
def test_auto_takes_a_runtime_that_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--dry-run"]) == 0
    assert "invented 1.0 (a working invention answers)" in capsys.readouterr().err


def test_an_expectation_for_another_runtime_that_has_a_row_is_not_stale() -> None:
    patterns = ("all_reduce/*/invented", "all_reduce/*/imagined")
    entries = [Expectation(cells=cells, verdict=Verdict.FAIL, reason="known") for cells in patterns]
    assert [("imagined" in problem) for problem in stale(entries, [], "venv")] == [True]


def test_a_rehearsal_injects_a_fault_that_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--help"]) == 0
    assert "eclipse" in capsys.readouterr().out
    line = ["rehearse", "--from", "a", "--to", "b", "--runtime", "invented", "--faults", "eclipse", "--dry-run"]
    assert main(line) == 0
    assert ": eclipse node " in capsys.readouterr().out
    assert isinstance(faults.fault("eclipse"), Eclipse)


def test_a_runtime_or_fault_that_has_no_row_is_refused_with_those_that_have_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask = ["rehearse", "--from", "a", "--to", "b", "--dry-run"]
    assert main([*ask, "--runtime", "imagined"]) == 4
    assert "invented" in capsys.readouterr().err
    assert main([*ask, "--faults", "flood"]) == 4
    assert "eclipse" in capsys.readouterr().err


def test_the_documentation_lists_every_runtime_and_every_fault() -> None:
    faults_page = (ROOT / "docs/rehearsal.md").read_text(encoding="utf-8")
    assert [name for name in FAULTS if name != "eclipse" and f"| `{name}` |" not in faults_page] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in RUNTIMES if name != "invented" and f"--runtime {name}" not in readme] == []
