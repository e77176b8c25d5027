"""The judges of what needs no build turn red when a file of torch itself is missing or is no Python."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
from torchskew.inside.tree import python_files
from torchskew.planning.scenario import Opinion

from tests.patience import PATIENCE
from tests.scenarios.judging import judged, names

CORE = ("torch", "torch.nn", "torch.optim", "torch.distributed")
STOP = {
    "type": "ModuleNotFoundError", "text": "No module named 'torch._C'", "missing": "torch._C",
    "where": "torch/__init__.py:400: from torch._C import *",
}  # fmt: skip
UNBUILT = {"parts": dict.fromkeys(CORE, STOP), "seconds": 0.4, "ended": "", "names": 4}


def stopped(**more: object) -> dict:
    report = copy.deepcopy(UNBUILT)
    report["parts"]["torch.optim"] = {**STOP, **more}
    return report


def test_a_tree_stops_where_its_build_is_missing_and_says_where_once() -> None:
    opinion = judged("imports_unbuilt", [UNBUILT])
    assert isinstance(opinion, Opinion)
    place = "No module named 'torch._C' at torch/__init__.py:400: from torch._C import *"
    assert opinion.note.endswith(f"torch and 3 other parts: ModuleNotFoundError: {place}")


@pytest.mark.parametrize(("kind", "text"), [
    ("OSError", "torch/lib/libtorch_global_deps.so: cannot open shared object file"),
    ("ImportError", "Failed to load PyTorch C extensions: ..."),
    ("ImportError", "cannot import name '_initExtension' from 'torch._C' (unknown location)"),
    ("ValueError", "libcublas.so.*[0-9] not found in the system path"),
])  # fmt: skip
def test_what_only_a_build_makes_may_be_missing(kind: str, text: str) -> None:
    assert isinstance(judged("imports_unbuilt", [stopped(type=kind, text=text, missing=None)]), Opinion)


@pytest.mark.parametrize(("kind", "missing"), [
    ("ModuleNotFoundError", "torch._utils"),
    ("ModuleNotFoundError", "torch._Casual"),
    ("ModuleNotFoundError", "torchgen"),
    ("SyntaxError", None),
    ("NameError", None),
])  # fmt: skip
def test_what_is_missing_or_broken_in_the_tree_itself_is_wrong(kind: str, missing: str | None) -> None:
    report = stopped(type=kind, text="it is planted", missing=missing, where="torch/optim/sgd.py:3: x")
    found = judged("imports_unbuilt", [report])
    assert found == {0: f"torch.optim: {kind}: it is planted at torch/optim/sgd.py:3: x"}


def test_another_package_that_is_missing_decides_nothing() -> None:
    opinion = judged("imports_unbuilt", [stopped(missing="sympy", text="No module named 'sympy'")])
    assert isinstance(opinion, Opinion)
    assert "it needs sympy first" in opinion.undecided


@pytest.mark.parametrize("report", [
    {"parts": {}, "ended": "exit code 1 after: boom"},
    {**UNBUILT, "parts": {"torch": STOP}},
])  # fmt: skip
def test_a_trial_that_ended_early_is_wrong(report: dict) -> None:
    assert list(judged("imports_unbuilt", [report])) == [0]


def test_every_file_must_compile_and_be_there() -> None:
    assert judged("compiles", [{"files": 2000, "failed": []}]) == {}
    assert judged("compiles", [{"files": 20, "failed": []}]) == {0: "only 20 Python files were found"}
    found = judged("compiles", [{"files": 2000, "failed": ["a.py:1: invalid syntax"]}])
    assert found == {0: "a.py:1: invalid syntax"}


def test_each_part_is_tried_afresh_where_a_second_attempt_is_refused(tmp_path) -> None:
    """As torch does since 2.15; and a part that ends its process is told."""
    for part in ("", "/nn", "/optim"):
        (tmp_path / f"torch{part}").mkdir()
        (tmp_path / f"torch{part}/__init__.py").write_text("")
    once = "import sys\nif hasattr(sys, 'tried'):\n    raise ImportError('once')\nsys.tried = True\n"
    (tmp_path / "torch/__init__.py").write_text(once + "import os\nfrom torch._C import Tensor\n")
    command = [sys.executable, "-c", names("imports_unbuilt").TRIAL, str(tmp_path), "torch", "torch.nn", "torch.optim"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    parts = json.loads(said.removeprefix("found "))["parts"]
    assert {part["missing"] for part in parts.values()} == {"torch._C"}
    (tmp_path / "torch/__init__.py").write_text("import os\nos._exit(3)\n")
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert json.loads(said.removeprefix("found "))["parts"]["torch.nn"]["type"] == "Ended"


def test_files_behind_links_are_found_once(tmp_path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "there").mkdir()
    for path in ("torch/a.py", "there/b.py", "there/c.txt"):
        (tmp_path / path).write_text("")
    (tmp_path / "torch" / "there").symlink_to(tmp_path / "there")
    (tmp_path / "torch" / "back").symlink_to(tmp_path / "torch")
    found = python_files(str(tmp_path / "torch"))
    assert sorted(path[len(str(tmp_path)) :] for path in found) == ["/torch/a.py", "/torch/there/b.py"]


def test_a_file_for_a_later_python_is_no_problem_and_any_other_is(tmp_path) -> None:
    scenario = names("compiles")
    for name, text, right in (
        ("py399_new.py", "def f[", True), ("py30_old.py", "def f[", False), ("a.py", "x = (", False),
        ("b.py", "\0", False), ("c.py", "x = 1", True),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert (scenario.problem(str(tmp_path / name)) is None) is right, name
