"""A candidate that is a tree of Python files: the gate tries what needs no build, in a real environment beside it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from torchskew.engine.progress import Plain
from torchskew.model.outcomes import Verdict
from torchskew.model.results import CellResult
from torchskew.model.runs import RunKind
from torchskew.model.versions import Environment
from torchskew.record.record import Record
from torchskew.workflows.gate.request import Request
from torchskew.workflows.gate.workflow import run_gate
from torchskew.workflows.options import Options

pytestmark = [pytest.mark.torch, pytest.mark.slow]
FILES = 600


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As a checkout has it: a package whose compiled part and version.py are still to be made."""
    for name in ("nn", "optim", "distributed"):
        (tmp_path / "checkout" / "torch" / name).mkdir(parents=True)
        (tmp_path / "checkout" / "torch" / name / "__init__.py").write_text("from torch import Tensor\n")
    package = tmp_path / "checkout" / "torch"
    (package / "distributed" / "rpc.py").write_text("")
    (package / "__init__.py").write_text("import typing_extensions\nimport sympy\nfrom torch._C import Tensor\n")
    (tmp_path / "checkout" / "version.txt").write_text("2.16.0a0\n")
    (package / "distributed" / "_back").symlink_to(package)
    (package / "optim").rename(tmp_path / "optim")  # as where a development install links to a checkout
    (package / "optim").symlink_to(tmp_path / "optim")
    for number in range(FILES):
        (package / f"part{number}.py").write_text(f"x = {number}\n")
    return tmp_path / "checkout"


def gate(
    python: str, tree: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, CellResult], str]:
    """The exit code, the candidate's results by scenario, and what the user read."""
    folder.mkdir()
    declaration, out = folder / "torchskew.toml", folder / "out"
    declaration.write_text(f'[versions]\n"2.13.0" = {{ interpreter = "{python}", torch = "2.13.0" }}\n')
    options = Options(
        kind=RunKind.GATE, declaration=declaration, out=out, command="torchskew gate", only=("*/candidate/*",)
    )
    code = run_gate(Request(candidate=f"source:{tree}"), options, Plain(io.StringIO()))
    with Record.open(out / "record.sqlite") as record:
        return code, {result.cell.scenario: result for result in record.results()}, capsys.readouterr().out


def test_the_gate_of_a_tree_runs_what_needs_no_build_and_nothing_else(
    torch_environment: Environment, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = gate(torch_environment.handle, tree, tmp_path / "good", capsys)
    assert (code, set(found)) == (0, {"compiles", "imports_unbuilt"})
    assert {result.ranks[0].torch for result in found.values()} == {"2.16.0a0"}
    why = found["imports_unbuilt"].reason
    assert "torch and 4 other parts: ModuleNotFoundError: No module named 'torch._C' at torch/__init__.py:3" in why
    (tree / "torch" / "__init__.py").write_text("from torch._gone import x\nfrom torch._C import Tensor\n")
    (tree / "torch" / "part7.py").write_text("x = (\n")
    code, found, said = gate(torch_environment.handle, tree, tmp_path / "bad", capsys)
    assert (code, {result.verdict for result in found.values()}) == (1, {Verdict.FAIL})
    assert "No module named 'torch._gone' at torch/__init__.py:1: from torch._gone import x" in said
    assert "part7.py:1: '(' was never closed" in said
