"""What is sent to ranks: a function's own text at its own lines, and for each rank of a handover its own function."""

from __future__ import annotations

import traceback
from types import SimpleNamespace
from typing import Any

import pytest
from torchskew.model.outcomes import Kind
from torchskew.planning.scenario import Surroundings
from torchskew.pytest.travel import Function, from_functions


def save(job: Any) -> dict[str, Any]:
    return {"did": "save", "rank": job.rank}


@pytest.mark.usefixtures("decorators_are_not_sent")
def fail(job: Any) -> dict[str, Any]:
    raise RuntimeError(job.rank)


def sent(*functions: Function) -> Any:
    """The function `rank` as it is where it arrives."""
    scenario = from_functions(functions, None, Surroundings(), Kind.HANDOVER).scenario
    scope: dict[str, Any] = {}
    exec(compile(scenario.source, scenario.path, "exec", dont_inherit=True), scope)
    return scope["rank"]


@pytest.mark.parametrize("functions", [(fail,), (save, fail)])
def test_each_rank_runs_its_own_function_at_the_lines_of_its_file(functions: tuple[Function, ...]) -> None:
    rank = sent(*functions)
    if len(functions) > 1:
        assert rank(SimpleNamespace(rank=0)) == {"did": "save", "rank": 0}
    with pytest.raises(RuntimeError) as error:
        rank(SimpleNamespace(rank=len(functions) - 1))
    last = traceback.extract_tb(error.value.__traceback__)[-1]
    assert (last.filename, last.name, last.line) == (__file__, "fail", "raise RuntimeError(job.rank)")
