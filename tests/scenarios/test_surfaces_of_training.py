"""The judges of sharded state, saved programs and remote calls see another value, another rank and a missing one."""

from __future__ import annotations

import copy
import sys
import tempfile
from math import prod
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchskew.inside import kit

from tests.scenarios.judging import judged, names

FORMS = ["local", "sharded", "to_plain", "from_plain", "full", "optim", "tensor"]


def taken_up(form: str) -> dict:
    """What readers report that got every value."""
    sharded = names("sharded_state")
    whole = {name: [sharded.value(name, k) for k in range(prod(shape))] for name, shape in sharded.SHAPES.items()}
    if form == "optim":
        whole = {**{name: [sharded.MOMENT] for name in sharded.SHAPES}, "rate": 0.0}
    cases = {f"reader {k}": copy.deepcopy(whole) for k in range(sharded.VARIANTS[form]["params"]["readers"])}
    if form == "tensor":
        cases = {"reader 0": {"rows": list(range(10))}, "reader 1": {"rows": list(range(10, 20))}}
    return {"cases": cases}


@pytest.mark.parametrize("form", FORMS)
def test_sharded_state_that_was_taken_up_passes_and_one_fresh_value_is_wrong(form: str) -> None:
    got = taken_up(form)
    assert judged("sharded_state", [{}, got], variant=form) == {}
    first = got["cases"]["reader 0"]
    first[next(iter(first))] = [-1.0]
    assert list(judged("sharded_state", [{}, got], variant=form)) == [1]


def test_a_reader_that_reports_nothing_is_wrong() -> None:
    got = taken_up("sharded")
    del got["cases"]["reader 2"]
    assert judged("sharded_state", [{}, got], variant="sharded") == {1: "reader 2 is missing"}


def test_a_program_that_computes_something_else_is_wrong() -> None:
    written = {"cases": {"output": [0.5, -0.25]}}
    assert judged("programs", [written, {"cases": {"output": [0.5, -0.250001]}}], variant="export_norms") == {}
    other = {"cases": {"output": [0.5, 0.25]}}
    assert judged("programs", [written, other], variant="export_norms")[1].startswith("output is off by 0.5")
    assert list(judged("programs", [{"cases": {"output": []}}, other], variant="script_norms")) == [0]


def test_a_compiled_layer_that_computes_something_else_is_wrong() -> None:
    written = {"cases": {"attention": [0.5, -0.25], "convolution": [1.0]}}
    near = {"cases": {"attention": [0.5, -0.25001], "convolution": [1.0]}}
    assert judged("aot_packages", [written, near]) == {}
    other = {"cases": {"attention": [0.5, -0.25], "convolution": [0.5]}}
    assert judged("aot_packages", [written, other])[1].startswith("convolution is off by 0.5")
    assert list(judged("aot_packages", [{"cases": {"attention": [0.5, -0.25]}}, written])) == [0]


def test_a_release_compiles_a_layer_once_and_never_hands_out_another_release_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for temporary files is one for all agents of a run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchskew_kit", kit)
    asked: list[str] = []

    def written(release: str, cell: str) -> tuple[dict[str, list[float]], str]:
        def fresh(_job: object, task: str, path: str) -> dict[str, list[float]]:
            asked.append(f"{release} {task}")
            if task == "write":
                Path(path).write_text(release)
            return {"attention": [float(release)]}

        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=release, __file__=f"/{release}/torch"))
        scenario = names("aot_packages")
        scenario.written.__globals__.update(fresh=fresh)
        (tmp_path / cell).mkdir()
        cases = scenario.written(SimpleNamespace(path=(tmp_path / cell).joinpath), "model.pt2")
        return cases, (tmp_path / cell / "model.pt2").read_text()

    assert written("2.6", "first") == written("2.6", "second") == ({"attention": [2.6]}, "2.6")
    assert written("2.13", "third") == ({"attention": [2.13]}, "2.13")
    assert asked == ["2.6 write", "2.6 read", "2.13 write", "2.13 read"]


@pytest.mark.parametrize("kind", names("rpc_objects").KINDS)
def test_an_answer_of_another_rank_or_value_is_wrong(kind: str) -> None:
    answers = [names("rpc_objects").expected(kind, me, (me + 1) % 3) for me in range(3)]
    reports = [{"cases": {kind: answer}} for answer in answers]
    assert judged("rpc_objects", reports, variant=kind) == {}
    reports[1] = {"cases": {kind: {"python": ["RuntimeError", True]} if kind == "raises" else answers[0]}}
    assert list(judged("rpc_objects", reports, variant=kind)) == [1]


@pytest.mark.parametrize("name", ["lightning", "accelerate", "transformers"])
def test_a_framework_that_resumes_elsewhere_is_wrong(name: str) -> None:
    written = {"cases": {"later": [0.5, 0.25]}, "moved": True}
    assert judged("frameworks", [written, {"cases": {"later": [0.5, 0.25]}}], variant=name) == {}
    assert list(judged("frameworks", [written, {"cases": {"later": [0.5, 0.75]}}], variant=name)) == [1]
    assert list(judged("frameworks", [{**written, "moved": False}, written], variant=name)) == [0]
