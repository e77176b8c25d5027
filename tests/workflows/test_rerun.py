"""What a run of the matrix or the gate records as the command that plans its cells again."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchskew.model.outcomes import Store
from torchskew.workflows.gate import request as gate_request
from torchskew.workflows.matrix import rerun
from torchskew.workflows.options import Options


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (Options(), "torchskew matrix --runtime venv"),
        (Options(runtime="docker", resume=True), "torchskew matrix --runtime venv"),
        (Options(only=("a/*",), jobs=4, world_sizes=(3,)), "torchskew matrix --runtime venv --world-size 3"),
        (
            Options(declaration=Path("my.toml"), seed=7, versions=("2.*",), timeout=5.0, guard=("on",), out=Path("o")),
            (
                "torchskew matrix --declaration my.toml --runtime venv --versions '2.*' --guard on --timeout 5 --seed 7"
                " --out o"
            ),
        ),
        (Options(store=("stock", "bridge")), "torchskew matrix --runtime venv --store stock bridge"),
        (Options(fleet="auto"), "torchskew matrix --runtime venv"),
        (
            Options(fleet="auto", placement=("spread",)),
            "torchskew matrix --runtime venv --placement spread --fleet auto",
        ),
        (
            Options(scenarios=("all_*",), pairs="boundary", cache=False, dry_run=True),
            "torchskew matrix --runtime venv --scenarios 'all_*' --pairs boundary",
        ),
    ],
)
def test_the_matrix_is_rerun_without_what_only_narrowed_or_hurried_it(options: Options, command: str) -> None:
    assert str(rerun(options, "venv")) == command


def test_the_gate_is_rerun_with_its_candidate_and_what_it_is_held_against() -> None:
    request = gate_request.Request(
        candidate="wheel:my torch.whl", tier="smoke", against=("2.6.0", "2.14.1"), requires=("numpy<2", "six"), repeat=5
    )
    again = gate_request.rerun(request, Options(runtime="venv", guard=("off", "on"), jobs=2, resume=True))
    assert str(again) == (
        "torchskew gate --tier smoke --candidate 'wheel:my torch.whl' --against 2.6.0,2.14.1 "
        "--requires 'numpy<2' --requires six --runtime venv --guard off on"
    )
    bridged = gate_request.Request(candidate="pip:torch==2.15.0", store=(Store.BRIDGE,))
    assert str(gate_request.rerun(bridged, Options())) == "torchskew gate --candidate pip:torch==2.15.0 --store bridge"
