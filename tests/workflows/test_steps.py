"""A workflow hands records from step to step by type, and says what is missing instead of guessing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torchskew.workflows.steps import Exit, execute, problems


@dataclass(frozen=True)
class Asked:
    name: str


@dataclass(frozen=True)
class Planned:
    cells: int


@dataclass(frozen=True)
class Ran:
    cells: int


def plan(asked: Asked) -> Planned | Exit:
    return Exit(code=5) if asked.name == "nothing" else Planned(cells=len(asked.name))


def run(planned: Planned, asked: Asked) -> tuple[Ran, None]:
    return Ran(cells=planned.cells + len(asked.name)), None


def report(ran: Ran) -> Exit:
    return Exit(code=ran.cells)


def again(asked: Asked) -> Planned:
    return Planned(cells=len(asked.name))


def test_each_step_gets_what_earlier_ones_returned() -> None:
    assert execute((plan, run, report), {Asked: Asked("abc")}) == 6


def test_a_step_may_end_the_workflow() -> None:
    assert execute((plan, run, report), {Asked: Asked("nothing")}) == 5


def test_a_step_that_asks_for_what_nobody_returned_is_named() -> None:
    with pytest.raises(TypeError, match="run asks for Planned, which no earlier step returned"):
        execute((run, report), {Asked: Asked("abc")})


def test_no_record_replaces_another() -> None:
    with pytest.raises(TypeError, match="again returns another Planned"):
        execute((plan, again, run, report), {Asked: Asked("abc")})


def test_a_workflow_without_an_end_is_an_error() -> None:
    with pytest.raises(TypeError, match="the last step of a workflow returns Exit"):
        execute((plan,), {Asked: Asked("abc")})


def test_what_a_workflow_lacks_is_found_without_running_it() -> None:
    assert problems((plan, run, report), [Asked]) == []
    assert problems((run, plan), [Asked]) == [
        "run asks for Planned, which no earlier step returns",
        "plan is the last step and does not return Exit",
    ]
    assert problems((plan, again, run, report), [Asked]) == ["again returns another Planned"]
