"""Each use of the engine is a tuple of steps that fit together."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from torchskew.engine.progress import Watch
from torchskew.workflows.check import CHECK, CheckRequest
from torchskew.workflows.gate.request import Request
from torchskew.workflows.gate.workflow import GATE
from torchskew.workflows.matrix import MATRIX
from torchskew.workflows.options import Options
from torchskew.workflows.steps import Step, problems
from torchskew.workflows.suite import SUITE, SuiteRequest
from torchskew.workflows.survey import SURVEY, DiskBound

GIVEN = (Options, Watch, ExitStack)


@pytest.mark.parametrize(
    ("steps", "given"),
    [
        (MATRIX, GIVEN),
        (GATE, (*GIVEN, Request)),
        (SURVEY, (*GIVEN, DiskBound)),
        (SUITE, (*GIVEN, SuiteRequest)),
        (CHECK, (*GIVEN, CheckRequest)),
    ],
    ids=["matrix", "gate", "survey", "suite", "check"],
)
def test_every_step_gets_what_it_asks_for(steps: tuple[Step, ...], given: tuple[type, ...]) -> None:
    assert problems(steps, given) == []
